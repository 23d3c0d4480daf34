package flow_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/storetest"
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

// A request is answered when its run is stored: who gets no 2xx sends it again, and has started one run.
func TestJ47_noAnswerBeforeTheRunIsStored(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store, opt := open(), options(t, &desk{})
		s := serve(t, store, opt)
		s.deploys(t, triggered("f", "in", hooked))
		var faulty atomic.Pointer[storetest.Fault]
		front := pawl.New(storetest.Faulty(store, func(method string, _ int) storetest.Fault {
			if f := faulty.Load(); f != nil && method == "Commit" {
				return *f
			}
			return storetest.Fault{}
		}), nil)
		registry := flow.NewRegistry(front, opt)
		if err := registry.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := (&server{Engine: front}).calls(t, api.Options{Flows: registry})
		for what, f := range map[string]storetest.Fault{"refused": {Err: errors.New("the disk is full")}, "unknown": {Lose: true}} {
			body := `{"id": "` + what + `"}`
			before := len(s.runs(t, "", "f"))
			faulty.Store(&f)
			got := c.send("POST", "/webhooks/orders", body)
			faulty.Store(nil)
			if stored := len(s.runs(t, "", "f")) - before; got.status/100 == 2 && stored != 1 || got.status/100 != 2 && got.status/100 != 5 || f.Err != nil && got.status/100 != 5 {
				t.Errorf("%s: %d %s, with %d runs in the store", what, got.status, got.body, stored)
			}
			again := c.send("POST", "/webhooks/orders", body)
			equal(t, what+", again", again.status, 202)
			equal(t, what+", runs", len(s.runs(t, "", "f"))-before, 1)
			s.result(t, "", again.execution)
		}
	})
}
