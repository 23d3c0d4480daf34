package flow_test

import (
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// A delivery is named by what dedupe says: equal bodies may be one, and where nothing is said a key of the sender's names it.
func TestJ47_whatMakesTwoRequestsOneDelivery(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		c := s.calls(t, api.Options{})
		s.deploys(t, triggered("f", "in", `{"type": "webhook", "path": "/plain", "scheme": "none"}, {"type": "webhook", "path": "/bodies", "scheme": "none", "dedupe": "body"}`))
		for _, test := range []struct {
			path, body, key string
			starts          bool
		}{
			{"/plain", `{"n": 1}`, "", true}, {"/plain", `{"n": 1}`, "", true}, {"/plain", `{"n": 1}`, "k-1", true}, {"/plain", `{"n": 1}`, "k-1", false}, {"/plain", `{"n": 2}`, "k-1", false}, {"/plain", `{"n": 1}`, "k-2", true},
			{"/bodies", `{"n": 1}`, "", true}, {"/bodies", `{"n": 1}`, "", false}, {"/bodies", `{"n": 1}`, "k-3", false}, {"/bodies", `{"n": 2}`, "k-3", true}, {"/bodies", `{"n":1}`, "", true},
		} {
			before := len(s.runs(t, "", "f"))
			header := []string{}
			if test.key != "" {
				header = []string{"Idempotency-Key", test.key}
			}
			got := c.send("POST", test.path, test.body, header...)
			started := len(s.runs(t, "", "f")) - before
			if got.status != 202 || (started == 1) != test.starts || started > 1 || (got.header.Get("Idempotency-Replayed") == "true") == test.starts {
				t.Errorf("%s %s with the key %q: %d runs are started, %d %s", test.path, test.body, test.key, started, got.status, got.body)
			}
		}
	})
}
