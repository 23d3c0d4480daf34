package anthropic_test

import (
	"testing"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/anthropic"
	"github.com/pawlrun/pawl/llm/llmtest"
)

func TestSuite(t *testing.T) {
	llmtest.Suite(t, llmtest.Anthropic, func(t *testing.T, baseURL string) llm.Model {
		return anthropic.New(anthropic.Options{APIKey: "sk-ant-loopback-0123456789", BaseURL: baseURL})
	})
}
