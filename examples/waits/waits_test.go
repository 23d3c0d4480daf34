package waits_test

import (
	"encoding/json"
	"testing"

	"github.com/pawlrun/pawl/examples/waits"
)

// What a run does is tested where it is tried: by the commands of cmd/pawl against a server.

func TestPostersHaveAText(t *testing.T) {
	for text, ok := range map[string]bool{`{"text":"Tea at five"}`: true, `{"text":" "}`: false, `{}`: false} {
		var p waits.Poster
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		if err := p.Validate(); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
