package demo_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/examples/demo"
)

func TestWhoIsAsked(t *testing.T) {
	openai := map[string]string{"OPENAI_API_KEY": "sk-1"}
	local := map[string]string{"OPENAI_BASE_URL": "http://user:secret@localhost:11434/v1?key=secret"}
	claude := map[string]string{"ANTHROPIC_API_KEY": "sk-2"}
	typo := filepath.Join(t.TempDir(), "prices.json")
	if err := os.WriteFile(typo, []byte(`{"prices": [{"provider": "openai", "model": "m", "imput": 1}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env                     map[string]string
		model, embedder, prices string
		asks, embeds, says      string
	}{
		"nobody":                {nil, "", "", "", "none: a script answers", "none: a script answers", ""},
		"openai":                {openai, "", "", "", "openai/gpt-4o-mini at https://api.openai.com/v1", "openai/text-embedding-3-small at https://api.openai.com/v1", ""},
		"anthropic":             {claude, "", "", "", "anthropic/claude-haiku-4-5 at https://api.anthropic.com", "none: a script answers", ""},
		"a server of one's own": {local, "llama3.2", "nomic", "", "openai/llama3.2 at http://user:xxxxx@localhost:11434/v1, without a key", "openai/nomic at http://user:xxxxx@localhost:11434/v1, without a key", ""},
		"a name with a slash":   {openai, "meta-llama/llama-4", "", "", "openai/meta-llama/llama-4 at https://api.openai.com/v1", "openai/text-embedding-3-small at https://api.openai.com/v1", ""},
		"the script by name":    {openai, "scripted/script", "scripted", "", "none: a script answers", "none: a script answers", ""},
		"no key":                {claude, "gpt-4o", "", "", "", "", "model gpt-4o: OPENAI_API_KEY is not set, nor is OPENAI_BASE_URL; set one, or use scripted/script, which asks nobody"},
		"no other key":          {openai, "anthropic/claude-haiku-4-5", "", "", "", "", "ANTHROPIC_API_KEY is not set"},
		"no key for vectors":    {claude, "", "text-embedding-3-small", "", "", "", "embedding model text-embedding-3-small: OPENAI_API_KEY is not set"},
		"no vectors":            {claude, "", "anthropic/claude-haiku-4-5", "", "", "", "anthropic makes no vectors"},
		"a typo in prices":      {openai, "", "", typo, "", "", `unknown field "imput"`},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := demo.Source{
				Env:   func(name string) string { return c.env[name] },
				Model: c.model, Embedder: c.embedder, Prices: c.prices, Script: demo.Model(),
			}.Models()
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("got %v, want %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := found.Model.String(); got != c.asks {
				t.Errorf("asked is %q, want %q", got, c.asks)
			}
			if got := found.Embedder.String(); got != c.embeds {
				t.Errorf("for vectors asked is %q, want %q", got, c.embeds)
			}
		})
	}
}

func TestAModelWithoutItsProviderIsFound(t *testing.T) {
	openai, claude := "OPENAI_API_KEY", "ANTHROPIC_API_KEY"
	for _, c := range []struct {
		env         []string
		model, asks string
	}{
		{[]string{openai}, "gpt-4o-mini", "openai"},
		{[]string{openai, claude}, "claude-haiku-4-5", "anthropic"},
		{[]string{openai}, "claude-haiku-4-5", "anthropic"}, // which is not there, and says so
		{[]string{claude}, "gpt-4o-mini", "openai"},
		{[]string{claude}, "one-of-mine", "anthropic"},
		{[]string{"OPENAI_BASE_URL"}, "llama3.2", "openai"},
		{nil, "one-of-mine", "scripted"},
	} {
		env := map[string]string{}
		for _, name := range c.env {
			env[name] = "http://localhost:1/v1"
		}
		found, err := demo.Source{Env: func(name string) string { return env[name] }, Script: demo.Model()}.Models()
		if err != nil {
			t.Fatal(err)
		}
		if got := found.Provider(c.model); got != c.asks {
			t.Errorf("%v: %s is of %q, want %s", c.env, c.model, got, c.asks)
		}
	}
}
