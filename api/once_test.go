package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
)

// race lets n do the same at one moment, and counts those that won and those that were told 412.
func race(t *testing.T, n int, do func(i int) error) (won, lost int) {
	t.Helper()
	var wins, losses atomic.Int64
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			err := do(i)
			var p *api.Problem
			switch {
			case err == nil:
				wins.Add(1)
			case errors.As(err, &p) && p.Status == 412 && p.Code == "changed":
				losses.Add(1)
			default:
				t.Errorf("racer %d: %v", i, err)
			}
		})
	}
	close(begin)
	all.Wait()
	return int(wins.Load()), int(losses.Load())
}

func TestOfTwoWhoHaveReadTheSameOneWins(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ctx, c := t.Context(), h.client
		for round := range 5 {
			name := fmt.Sprint("b", round)
			was, err := c.SetBudget(ctx, name, api.BudgetRequest{Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			must := api.WithIfMatch(ctx, was.ETag)
			won, lost := race(t, 4, func(i int) error {
				if i%2 == 0 {
					_, err := c.TopUp(must, name, 1)
					return err
				}
				_, err := c.SetBudget(must, name, api.BudgetRequest{Limit: int64(200 + i)})
				return err
			})
			if won != 1 || lost != 3 {
				t.Errorf("budget: %d won, %d lost", won, lost)
			}
			now, err := c.Budget(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			must = api.WithIfMatch(ctx, now.ETag)
			var deleted atomic.Bool
			won, lost = race(t, 2, func(i int) error {
				if i == 0 {
					err := c.DeleteBudget(must, name)
					deleted.Store(err == nil)
					return err
				}
				_, err := c.SetBudget(must, name, api.BudgetRequest{Limit: 1000})
				if errors.Is(err, pawl.ErrNotFound) { // it was gone when this came
					return &api.Problem{Status: 412, Code: "changed"}
				}
				return err
			})
			if _, err := c.Budget(ctx, name); won != 1 || lost != 1 || deleted.Load() != errors.Is(err, pawl.ErrNotFound) {
				t.Errorf("budget: %d won, %d lost, deleted %v; there is %v", won, lost, deleted.Load(), err)
			}

			sch, err := c.PutSchedule(ctx, name, api.ScheduleRequest{Workflow: "echo", Cron: "@yearly"})
			if err != nil {
				t.Fatal(err)
			}
			must = api.WithIfMatch(ctx, sch.ETag)
			won, lost = race(t, 4, func(i int) error {
				_, err := c.PauseSchedule(must, name, fmt.Sprint("by ", i))
				return err
			})
			if won != 1 || lost != 3 {
				t.Errorf("pause: %d won, %d lost", won, lost)
			}
			if sch, err = c.Schedule(ctx, name); err != nil {
				t.Fatal(err)
			}
			must = api.WithIfMatch(ctx, sch.ETag)
			won, lost = race(t, 2, func(i int) error {
				if i == 0 {
					_, err := c.ResumeSchedule(must, name)
					if errors.Is(err, pawl.ErrNotFound) {
						return &api.Problem{Status: 412, Code: "changed"}
					}
					return err
				}
				return c.DeleteSchedule(must, name)
			})
			if won != 1 || lost != 1 {
				t.Errorf("resume and delete: %d won, %d lost", won, lost)
			}

			sub, err := c.PutSubscription(ctx, name, api.SubscriptionRequest{Event: "e", Workflow: "echo"})
			if err != nil {
				t.Fatal(err)
			}
			must = api.WithIfMatch(ctx, sub.ETag)
			won, lost = race(t, 4, func(i int) error {
				_, err := c.PutSubscription(must, name, api.SubscriptionRequest{Event: fmt.Sprint("e", i), Workflow: "echo"})
				return err
			})
			if won != 1 || lost != 3 {
				t.Errorf("subscription: %d won, %d lost", won, lost)
			}
		}
	})
}

func TestTopUpsAreMadeOnceForEachKey(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ctx, c := t.Context(), h.client
		if _, err := c.SetBudget(ctx, "b", api.BudgetRequest{Limit: 100}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.SetBudget(ctx, "c", api.BudgetRequest{Limit: 100}); err != nil {
			t.Fatal(err)
		}
		key := func(r *http.Request) { r.Header.Set("Idempotency-Key", "k") }
		// What is refused does not burn the key.
		h.refused(404, "not_found", "POST", "/api/budgets/none?topup=5", "", key)
		h.refused(400, "input", "POST", "/api/budgets/b?topup=-500", "", key)
		h.refused(412, "changed", "POST", "/api/budgets/b?topup=5", "", key, func(r *http.Request) { r.Header.Set("If-Match", `"x"`) })
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if b, err := c.TopUp(api.WithIdempotencyKey(ctx, "k"), "b", 5); err != nil || b.Extra != 5 {
					t.Errorf("%+v %v", b, err)
				}
			})
		}
		all.Wait()
		r := h.send("POST", "/api/budgets/b?topup=5", "", key)
		if r.status != 200 || r.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("a repeat: %d %v", r.status, r.header)
		}
		h.refused(422, "idempotency_key", "POST", "/api/budgets/b?topup=6", "", key)
		h.refused(422, "idempotency_key", "POST", "/api/budgets/c?topup=5", "", key)
		for name, extra := range map[string]int64{"b": 5, "c": 0} {
			if b, err := c.Budget(ctx, name); err != nil || b.Extra != extra {
				t.Errorf("%s: %+v %v", name, b, err)
			}
		}
	})
}

func TestAKeyIsMadeOnceAndItsSecretToldOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		_, admin := h.key("", api.Admin)
		once := func(r *http.Request) { r.Header.Set("Idempotency-Key", "k") }
		const spec = `{"name":"ci","scopes":["runs:read"]}`
		h.refused(400, "input", "POST", "/api/keys", `{"name":"","scopes":["runs:read"]}`, bearer(admin), once) // burns nothing
		var made api.NewKey
		replies := make([]reply, 6)
		var all sync.WaitGroup
		for i := range replies {
			all.Go(func() { replies[i] = h.send("POST", "/api/keys", spec, bearer(admin), once) })
		}
		all.Wait()
		n := 0
		for _, r := range replies {
			if r.status == 201 {
				n++
				r.into(t, &made)
			}
		}
		if n != 1 || made.Secret == "" {
			t.Fatalf("%d keys were made", n)
		}
		for _, r := range append(replies, h.send("POST", "/api/keys", spec, bearer(admin), once)) {
			if r.status == 201 {
				continue
			}
			var p api.Problem
			r.into(t, &p)
			if r.status != 409 || p.Code != "key_made" || !strings.Contains(p.Detail, made.ID) || strings.Contains(string(r.body), made.Secret) {
				t.Errorf("a repeat: %d %s", r.status, r.body)
			}
		}
		h.refused(422, "idempotency_key", "POST", "/api/keys", `{"name":"cd","scopes":["runs:read"]}`, bearer(admin), once)
		if list, err := h.as(admin).Keys(t.Context()); err != nil || len(list.Items) != 2 {
			t.Errorf("%+v %v", list, err)
		}
		secret := made.Secret[strings.LastIndex(made.Secret, "_")+1:]
		for _, space := range []string{"api.keys", "api.idempotency"} {
			records, err := h.engine.Records(t.Context(), space, "", "", 100)
			if err != nil || len(records) == 0 {
				t.Fatalf("%s: %v %v", space, records, err)
			}
			for _, r := range records {
				if strings.Contains(string(r.Data)+r.Key, secret) {
					t.Errorf("%s has the secret: %s", space, r.Data)
				}
			}
		}
	})
}

func TestARefusedRequestDoesNotBurnItsKey(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		key := func(k string) func(*http.Request) {
			return func(r *http.Request) { r.Header.Set("Idempotency-Key", k) }
		}
		h.refused(404, "unknown_workflow", "POST", "/api/runs", `{"workflow":"wait"}`, key("a"))
		if r := h.send("POST", "/api/runs", `{"workflow":"waits"}`, key("a")); r.status != 202 || r.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("after a refusal: %d %s", r.status, r.body)
		}
		h.refused(422, "idempotency_key", "POST", "/api/runs", `{"workflow":"wait"}`, key("a")) // it was carried out
		if r := h.send("POST", "/api/runs", `{"workflow":"waits"}`, key("a")); r.status != 202 || r.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("a repeat: %d %s", r.status, r.body)
		}
		h.refused(404, "not_found", "POST", "/api/schedules/s/trigger", "", key("b"))
		if _, err := h.client.PutSchedule(t.Context(), "s", api.ScheduleRequest{Workflow: "echo", Cron: "@yearly", Input: json.RawMessage(`{}`)}); err != nil {
			t.Fatal(err)
		}
		if r := h.send("POST", "/api/schedules/s/trigger", `{"overlap":"allow"}`, key("b")); r.status != 200 || r.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("after a refusal: %d %s", r.status, r.body)
		}
		if r := h.send("POST", "/api/prompts/p", `{"text":"x"}`, key("c")); r.status != 200 {
			t.Errorf("a prompt: %d %s", r.status, r.body)
		}
		h.refused(422, "idempotency_key", "POST", "/api/prompts/p", `{"text":"y"}`, key("c"))
	})
}

func TestWhoDecidedIsKeptBesideTheNameThatWasClaimed(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		_, admin := h.key("", api.Admin)
		id, secret := h.key("", api.ApprovalsDecide)
		ctx, c := t.Context(), h.as(admin)
		if _, err := c.Start(ctx, api.StartRequest{Workflow: "approves", ID: "r", Input: json.RawMessage(`{}`)}, 0); err != nil {
			t.Fatal(err)
		}
		var a api.ApprovalAnswer
		for end := time.Now().Add(20 * time.Second); a.State != approval.Pending; time.Sleep(5 * time.Millisecond) {
			var err error
			if a, err = c.Approval(ctx, "r/pay", false); time.Now().After(end) {
				t.Fatal(a, err)
			}
		}
		decide := func(by string) error {
			_, err := h.as(secret).Decide(ctx, a.ID, api.DecisionRequest{Approved: new(true), By: by, Shown: a.Shown})
			return err
		}
		if err := decide("bob"); err == nil {
			t.Error("bob may not")
		}
		if err := decide("ann"); err != nil {
			t.Fatal(err)
		}
		run, err := c.Run(ctx, "r", 20*time.Second)
		if err != nil || !strings.Contains(string(run.Result), `"actor":"key:`+id+`"`) {
			t.Errorf("the run got %s %v", run.Result, err)
		}
		a, err = c.Approval(ctx, "r/pay", true)
		if err != nil || a.Decision == nil || a.Decision.By != "ann" || a.Decision.Actor != "key:"+id {
			t.Fatalf("%+v %v", a, err)
		}
		n := 0
		for _, e := range a.History {
			if e.What == approval.EventApproved || e.What == approval.EventRefused {
				n++
				if e.Actor != "key:"+id {
					t.Errorf("%+v", e)
				}
			}
		}
		if n != 2 {
			t.Errorf("the history: %+v", a.History)
		}
	})
}
