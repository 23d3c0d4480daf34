package api_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
)

// fails has a call to an endpoint fail.
func fails(h *house, endpoint string) {
	h.t.Helper()
	pass, err := agent.NewBreaker(nil).Allow(h.t.Context(), h.engine, endpoint)
	if err == nil {
		err = pass.Done(&llm.Error{Kind: llm.Unavailable, Provider: "service", Message: "no luck"})
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// A tenant sees and resets the circuits of its own services, whatever another is called; the default tenant all.
func TestCircuitsAreATenantsOwn(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		all := []string{"openai", flow.Circuits("") + "http/x", flow.Circuits("a") + "b/http", flow.Circuits("a") + "tickets", flow.Circuits("a/b") + "http", flow.Circuits("a%2Fb") + "http"}
		for _, endpoint := range all {
			fails(h, endpoint)
		}
		slices.Sort(all)
		for tenant, want := range map[string][]string{"": all, "a": {"service:a/b/http", "service:a/tickets"}, "a/b": {flow.Circuits("a/b") + "http"}, "A": nil, "service:a": nil} {
			_, secret := h.key(tenant, api.RunsRead, api.RunsOperate)
			var got []string
			for cursor := ""; ; {
				page, err := h.as(secret).Breakers(t.Context(), cursor, 1)
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range page.Items {
					got = append(got, b.Endpoint)
				}
				if cursor = page.NextCursor; cursor == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("tenant %q sees %q, want %q", tenant, got, want)
			}
			if tenant == "" {
				continue
			}
			for _, endpoint := range all {
				err := h.as(secret).ResetBreaker(t.Context(), endpoint)
				if mine := slices.Contains(want, endpoint); mine && err != nil || !mine && !errors.Is(err, pawl.ErrNotFound) {
					t.Errorf("tenant %q resets %s: %v", tenant, endpoint, err)
				}
				if err == nil {
					fails(h, endpoint)
				}
			}
		}
		// What begins as another does is not reset with it, nor instead of it.
		_, secret := h.key("a", api.RunsOperate)
		if err := h.as(secret).ResetBreaker(t.Context(), "service:a/"); !errors.Is(err, pawl.ErrNotFound) {
			t.Error(err)
		}
		if states, err := agent.Breakers(t.Context(), h.engine); err != nil || len(states) != len(all) {
			t.Errorf("%v, %v", states, err)
		}
	})
}
