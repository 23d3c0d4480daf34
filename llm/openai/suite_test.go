package openai_test

import (
	"testing"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/llm/openai"
)

func TestSuite(t *testing.T) {
	llmtest.Suite(t, llmtest.OpenAI, func(t *testing.T, baseURL string) llm.Model {
		return openai.New(openai.Options{APIKey: "sk-loopback-0123456789", BaseURL: baseURL + "/v1"})
	})
}
