package api_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// What a delivery costs the store before the transaction that has it: one look for the hook, and a count
// of what the run has not taken, which holds for a tenth of a second.
func TestADeliveryLooksForItsHookOnce(t *testing.T) {
	eachTracedStore(t, func(t *testing.T, store pawl.Store, l *trail) {
		var token, private string
		t.Run("what there is", func(t *testing.T) {
			webhook := pawl.Define("webhook", func(c *pawl.Context, _ any) (any, error) {
				w, err := pawl.NewWebhook(c)
				if err != nil {
					return nil, err
				}
				return w.Wait(c)
			})
			h := openOn(t, store, api.Options{}, append(workflows(func() error { return nil }), webhook)...)
			of := func(workflow string) (token string) {
				id := h.start(workflow, "null")
				h.eventually("the hook", func() bool {
					list, err := h.client.Hooks(t.Context(), id)
					if err == nil && len(list.Items) == 1 {
						token = list.Items[0].Token
					}
					return token != ""
				})
				return token
			}
			token, private = of("webhook"), of("hooks")
		})
		engine := pawl.New(store, clientOptions())
		defer engine.Close()
		handler := api.New(engine, api.Options{})
		for path, token := range map[string]string{pawl.WebhookPath: token, "/api/hooks/": private} {
			for _, what := range []string{"first", "second"} {
				l.mu.Lock()
				l.list = nil
				l.mu.Unlock()
				l.during("send")
				rec := httptest.NewRecorder()
				handler.ServeHTTP(rec, httptest.NewRequest("POST", "http://localhost"+path+token, strings.NewReader("1")))
				l.during("")
				if rec.Code != 202 {
					t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
				}
				looks := 0
				for _, s := range l.list {
					if strings.HasPrefix(strings.ToLower(s.query), "begin") {
						break
					}
					if strings.Contains(s.query, "FROM hooks") {
						looks++
					}
				}
				if looks != 1 {
					t.Errorf("%s, %s: looked for the hook %d times before the transaction: %v", path, what, looks, l.list)
				}
				t.Logf("%s, %s: %d statements", path, what, len(l.list))
			}
		}
	})
}
