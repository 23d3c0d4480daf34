package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/api"
)

// What a model was asked is for keys that may read what models are asked, in each place where a journal is read; others see what it cost.
func TestNotesAreForWhoMayReadWhatModelsAreAsked(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		const words = "Hello, my number is 4711"
		h := openOn(t, store(), api.Options{Auth: unlimited()}, asks()...)
		_, admin := h.key("", api.Admin)
		run, err := h.as(admin).Start(t.Context(), api.StartRequest{Workflow: "asks", ID: "asked", Input: json.RawMessage(`"` + words + `"`)}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pawl.Attach[json.RawMessage](h.engine, run.ID).Result(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			scopes []api.Scope
			whole  bool
		}{{[]api.Scope{api.RunsRead}, false}, {[]api.Scope{api.RunsRead, api.ModelsWrite}, false}, {[]api.Scope{api.RunsRead, api.ModelsRead}, true}, {[]api.Scope{api.Admin}, true}} {
			_, secret := h.key("", test.scopes...)
			c := h.as(secret)
			page, err := c.JournalPage(t.Context(), run.ID, -1)
			if err != nil {
				t.Fatal(err)
			}
			entries := page.Items
			for e, err := range c.Follow(t.Context(), run.ID, -1) {
				if err != nil {
					t.Fatal(err)
				}
				if e.Entry != nil {
					entries = append(entries, *e.Entry)
				}
			}
			notes := 0
			for _, e := range entries {
				if e.Kind != pawl.KindNote {
					continue
				}
				notes++
				var made agent.Made
				if err := json.Unmarshal(e.Data, &made); err != nil || made.Model != "scripted/m" || made.Usage.Input == 0 {
					t.Errorf("%v: the note says %s", test.scopes, e.Data)
				}
				if got := strings.Contains(string(e.Data), "4711"); got != test.whole || (e.Size > 0) == test.whole || (made.Response != nil) != test.whole {
					t.Errorf("%v: the words are there: %v, size %d, in %s", test.scopes, got, e.Size, e.Data)
				}
			}
			if notes != 2 {
				t.Errorf("%v: %d notes in the journal and the view, want one in each", test.scopes, notes)
			}
		}
	})
}
