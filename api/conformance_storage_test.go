package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// Upstream's unit suite of storage, asked of a real server by the Go client: what can be seen of
// runs, steps, events and hooks there must be the same on both stores.

// run starts a run under an id and waits until it is in a state.
func (h *house) run(workflow, id, input string, until pawl.State) api.Run {
	h.t.Helper()
	if _, err := h.client.Start(h.t.Context(), api.StartRequest{Workflow: workflow, ID: id, Input: json.RawMessage(input)}, 0); err != nil {
		h.t.Fatal(err)
	}
	return h.until(id, until)
}

// names gives the ids of runs.
func names(runs []pawl.RunInfo) (ids []string) {
	for _, r := range runs {
		ids = append(ids, r.ID)
	}
	return ids
}

func TestB2_storageRuns(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		t.Run("create and get", func(t *testing.T) {
			made, err := h.client.Start(ctx, api.StartRequest{Workflow: "waits", ID: "made", Attributes: map[string]any{"team": "red"}}, 0)
			if err != nil || made.Existed || made.Workflow != "waits" || made.Created.IsZero() || !made.Ended.IsZero() || made.State.Terminal() {
				t.Fatalf("%+v %v", made, err)
			}
			got := h.until("made", pawl.Waiting)
			same(t, "as it was made", fmt.Sprint(got.ID, got.Workflow, got.Created, got.Attrs), fmt.Sprint("made", "waits", made.Created, made.Attrs))
			again, err := h.client.Start(ctx, api.StartRequest{Workflow: "waits", ID: "made"}, 0)
			if err != nil || !again.Existed || !again.Created.Equal(made.Created) {
				t.Errorf("made again: %+v %v", again, err)
			}
		})
		t.Run("create with the least", func(t *testing.T) {
			made, err := h.client.Start(ctx, api.StartRequest{Workflow: "waits"}, 0)
			if err != nil || made.ID == "" || made.Attrs != nil || made.Parent != "" || made.Tenant != "" {
				t.Fatalf("%+v %v", made, err)
			}
			h.signal(made.ID, "go/now")
			h.until(made.ID, pawl.Completed)
		})
		t.Run("not found", func(t *testing.T) {
			_, err := h.client.Run(ctx, "nobody", 0)
			var p *api.Problem
			if !errors.Is(err, pawl.ErrNotFound) || !errors.As(err, &p) || !strings.Contains(p.Detail, "nobody") {
				t.Errorf("%v", err)
			}
		})
		t.Run("states", func(t *testing.T) {
			done := h.run("echo", "done", `{"text":"x"}`, pawl.Completed)
			same(t, "result", string(done.Result), `{"text":"x"}`)
			bad := h.run("fails", "bad", "null", pawl.Failed)
			if bad.Result != nil || bad.Error == nil || !strings.Contains(bad.Error.Message, "card declined") || bad.Error.Step != "charge" {
				t.Errorf("%+v", bad.Error)
			}
			h.run("waits", "gone", "null", pawl.Waiting)
			if _, err := h.client.Cancel(ctx, "gone", "why not"); err != nil {
				t.Fatal(err)
			}
			gone := h.until("gone", pawl.Cancelled)
			for _, r := range []api.Run{done, bad, gone} {
				if r.Ended.Before(r.Created) || r.Updated.Before(r.Created) || r.Worker != 0 {
					t.Errorf("%s: created %v, updated %v, ended %v, worker %d", r.ID, r.Created, r.Updated, r.Ended, r.Worker)
				}
			}
			for _, id := range []string{"done", "bad", "gone"} { // the end is the end
				if _, err := h.client.Cancel(ctx, id, ""); !errors.Is(err, pawl.ErrEnded) && !errors.Is(err, pawl.ErrState) {
					t.Errorf("cancel %s: %v", id, err)
				}
				if _, err := h.client.Pause(ctx, id, ""); !errors.Is(err, pawl.ErrEnded) && !errors.Is(err, pawl.ErrState) {
					t.Errorf("pause %s: %v", id, err)
				}
			}
		})
		t.Run("pause and resume", func(t *testing.T) {
			h.run("waits", "paused", "null", pawl.Waiting)
			if run, err := h.client.Pause(ctx, "paused", "lunch"); err != nil || run.State != pawl.Paused || run.Reason != "lunch" {
				t.Fatalf("%+v %v", run, err)
			}
			if _, err := h.client.Resume(ctx, "paused"); err != nil {
				t.Fatal(err)
			}
			h.until("paused", pawl.Waiting)
			if _, err := h.client.Resume(ctx, "paused"); !errors.Is(err, pawl.ErrState) {
				t.Errorf("resumed twice: %v", err)
			}
		})
		t.Run("list, filter and page", func(t *testing.T) {
			all, err := h.client.Runs(ctx, api.RunQuery{})
			if err != nil || len(all.Items) != 6 || all.NextCursor != "" {
				t.Fatalf("%+v %v", all, err)
			}
			want := names(all.Items)
			same(t, "newest first", want[:4], []string{"paused", "gone", "bad", "done"})
			for limit := 1; limit <= 7; limit++ {
				var got []string
				q := api.RunQuery{Limit: limit}
				for {
					page, err := h.client.Runs(ctx, q)
					if err != nil || len(page.Items) == 0 || len(page.Items) > limit {
						t.Fatalf("limit %d behind %v: %+v %v", limit, got, page, err)
					}
					got = append(got, names(page.Items)...)
					if q.Cursor = page.NextCursor; q.Cursor == "" {
						break
					}
				}
				same(t, fmt.Sprint("by pages of ", limit), got, want)
			}
			for _, c := range []struct {
				q    api.RunQuery
				want []string
			}{
				{api.RunQuery{Workflow: "fails"}, []string{"bad"}},
				{api.RunQuery{Workflow: "nothing"}, nil},
				{api.RunQuery{States: []pawl.State{pawl.Failed, pawl.Cancelled}}, []string{"gone", "bad"}},
				{api.RunQuery{States: []pawl.State{pawl.Waiting}}, []string{"paused", "made"}},
				{api.RunQuery{Attrs: map[string]string{"team": "red"}}, []string{"made"}},
				{api.RunQuery{Workflow: "waits", Prefix: "go"}, []string{"gone"}},
			} {
				page, err := h.client.Runs(ctx, c.q)
				if err != nil {
					t.Fatal(err)
				}
				same(t, fmt.Sprintf("%+v", c.q), names(page.Items), c.want)
			}
			// Runs that are made while somebody pages are no part of what he reads, nor shift it.
			first, err := h.client.Runs(ctx, api.RunQuery{Limit: 2})
			if err != nil {
				t.Fatal(err)
			}
			h.run("echo", "late", `{"text":""}`, pawl.Completed)
			rest, err := h.client.Runs(ctx, api.RunQuery{Cursor: first.NextCursor})
			if err != nil {
				t.Fatal(err)
			}
			same(t, "with a late one", append(names(first.Items), names(rest.Items)...), want)
		})
	})
}

// Steps by pages, also when more come after a cursor was given out (upstream's #298), with the
// states that they go through.
func TestB2_storageSteps(t *testing.T) {
	more := pawl.Define("more", func(c *pawl.Context, _ any) (any, error) {
		for i := range 3 {
			for j := range 2 {
				if _, err := pawl.Step(c, fmt.Sprintf("s%d%d", i, j), returns(i)); err != nil {
					return nil, err
				}
			}
			if _, err := pawl.WaitFor[any](c, "go"); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	eachHouse(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		id := h.start("more", "null")
		h.until(id, pawl.Waiting)
		read := func(cursor string, limit int) (keys []string, next string) {
			t.Helper()
			page, err := h.client.Steps(ctx, id, cursor, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range page.Items {
				if s.State != api.StepCompleted || len(s.Attempts) != 1 || s.Attempts[0].Attempt != 1 || s.Name != s.Key {
					t.Errorf("%+v", s)
				}
				keys = append(keys, s.Key)
			}
			return keys, page.NextCursor
		}
		one, next := read("", 1)
		same(t, "the first", one, []string{"s00"})
		all, last := read("", 10)
		same(t, "all so far", all, []string{"s00", "s01"})
		same(t, "and no cursor", last, "")
		for i := 1; i < 3; i++ { // more come
			h.signal(id, "go")
			h.eventually("the next steps", func() bool { keys, _ := read("", 10); return len(keys) == 2*i+2 })
		}
		for next != "" {
			var keys []string
			keys, next = read(next, 2)
			one = append(one, keys...)
		}
		same(t, "by pages, with those that came after the cursor", one, []string{"s00", "s01", "s10", "s11", "s20", "s21"})
		h.signal(id, "go")
		h.until(id, pawl.Completed)
		if _, err := h.client.Steps(ctx, "nobody", "", 1); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("steps of nobody: %v", err)
		}
		h.refused(400, "bad_request", "GET", "/api/runs/"+id+"/steps?cursor=eA", "")

		id = h.start("tries", "null")
		h.until(id, pawl.Failed)
		page, err := h.client.Steps(ctx, id, "", 0)
		if err != nil || len(page.Items) != 2 {
			t.Fatalf("%+v %v", page, err)
		}
		ok, bad := page.Items[0], page.Items[1]
		if ok.State != api.StepCompleted || len(ok.Attempts) != 2 || ok.Attempts[0].Error == nil || ok.Attempts[1].Error != nil || ok.Attempts[1].Attempt != 2 {
			t.Errorf("a step that was tried twice: %+v", ok)
		}
		if bad.State != api.StepFailed || !strings.Contains(bad.Attempts[0].Error.Message, "broken") {
			t.Errorf("a step that failed: %+v", bad)
		}
	}, append(asks(), more)...)
}

// Events are the journal: in order, by pages, to be gone on from where it ended; none of another run.
func TestB2_storageEvents(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		id := h.start("steps", `{"n":7}`)
		other := h.start("waits", "null")
		h.until(id, pawl.Completed)
		h.until(other, pawl.Waiting)
		all := h.entries(id)
		kinds := map[pawl.Kind]int{}
		for i, e := range all {
			kinds[e.Kind]++
			if i > 0 && e.Seq <= all[i-1].Seq || e.At.IsZero() {
				t.Errorf("entry %d: %+v behind %+v", i, e, all[max(0, i-1)])
			}
		}
		same(t, "steps", kinds[pawl.KindStep], 7)
		for _, size := range []int{1, 2, 3, 500} {
			var got []int64
			for after, more := int64(-1), true; more; {
				var page api.EntryPage
				h.ok(200, "GET", fmt.Sprintf("/api/runs/%s/journal?after=%d&limit=%d", id, after, size), "", &page)
				for _, e := range page.Items {
					got = append(got, e.Seq)
				}
				if more = page.NextAfter != nil; more {
					after = *page.NextAfter
				}
			}
			want := make([]int64, len(all))
			for i, e := range all {
				want[i] = e.Seq
			}
			if !slices.Equal(got, want) {
				t.Errorf("by pages of %d: %v, want %v", size, got, want)
			}
		}
		// What came after the last page is what a reader goes on with.
		before := h.entries(other)
		h.signal(other, "go/now")
		h.until(other, pawl.Completed)
		rest, err := h.client.JournalPage(ctx, other, before[len(before)-1].Seq)
		if err != nil || len(rest.Items) == 0 || rest.Items[0].Seq <= before[len(before)-1].Seq {
			t.Errorf("what came later: %+v %v", rest, err)
		}
		same(t, "before and after", len(before)+len(rest.Items), len(h.entries(other)))
		if _, err := h.client.JournalPage(ctx, "nobody", -1); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("the journal of nobody: %v", err)
		}
	})
}

func TestB2_storageHooks(t *testing.T) {
	// makes makes hooks with tokens of its own and waits; then it gives the first back.
	makes := pawl.Define("makes", func(c *pawl.Context, tokens []string) (any, error) {
		var hooks []*pawl.Hook[any]
		for i, token := range tokens {
			h, err := pawl.NewHook[any](c, pawl.Token(token), pawl.Meta(i), pawl.HookKind(strings.TrimRight(token, "0123456789")))
			if err != nil {
				return nil, err
			}
			hooks = append(hooks, h)
		}
		if _, err := pawl.WaitFor[any](c, "dispose"); err != nil {
			return nil, err
		}
		if err := hooks[0].Close(c); err != nil {
			return nil, err
		}
		_, err := pawl.WaitFor[any](c, "end")
		return nil, err
	})
	eachHouse(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		a := h.run("makes", "a", `["red1","red2","blue1"]`, pawl.Waiting)
		h.run("makes", "b", `["blue2","red3"]`, pawl.Waiting)
		tokens := func(hooks []api.Hook) (out []string) {
			for _, k := range hooks {
				out = append(out, k.Token)
			}
			return out
		}
		list := func(q api.HookQuery) []string {
			t.Helper()
			page, err := h.client.HookPage(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			return tokens(page.Items)
		}
		one := h.hooked("red2")
		if one.Run != "a" || string(one.Meta) != "1" || one.Kind != "red" || one.Public || one.At.Before(a.Created) || one.Key == "" {
			t.Errorf("by its token: %+v", one)
		}
		of, err := h.client.Hooks(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		same(t, "of a run, in the order of their making", tokens(of.Items), []string{"red1", "red2", "blue1"})
		same(t, "all, in the order of their making", list(api.HookQuery{}), []string{"red1", "red2", "blue1", "blue2", "red3"})
		same(t, "of a kind", list(api.HookQuery{Kind: "blue"}), []string{"blue1", "blue2"})
		same(t, "of a run", list(api.HookQuery{Run: "b"}), []string{"blue2", "red3"})
		same(t, "of both", list(api.HookQuery{Run: "b", Kind: "red"}), []string{"red3"})
		same(t, "of none", list(api.HookQuery{Kind: "green"}), []string{})
		for limit := 1; limit <= 6; limit++ {
			var got []string
			q := api.HookQuery{Limit: limit}
			for {
				page, err := h.client.HookPage(ctx, q)
				if err != nil || len(page.Items) > limit {
					t.Fatal(page, err)
				}
				got = append(got, tokens(page.Items)...)
				if q.Cursor = page.NextCursor; q.Cursor == "" {
					break
				}
			}
			same(t, fmt.Sprint("by pages of ", limit), got, []string{"red1", "red2", "blue1", "blue2", "red3"})
		}
		// A token is one hook's, in whichever run.
		clash := h.failure(h.start("makes", `["red2"]`))
		if clash.Error.Code != "hook_conflict" || !strings.Contains(clash.Error.Message, `"red2"`) || !strings.Contains(clash.Error.Message, "run a") {
			t.Errorf("a token that is taken: %+v", clash.Error)
		}
		// Given back, it is nobody's, and free.
		h.signal("a", "dispose")
		h.eventually("the hook to be given back", func() bool {
			_, err := h.client.Hook(ctx, "red1")
			return errors.Is(err, pawl.ErrNotFound)
		})
		h.refused(404, "not_found", "POST", "/api/hooks/red1", `1`)
		h.run("makes", "c", `["red1"]`, pawl.Waiting)
		same(t, "its new owner", h.hooked("red1").Run, "c")
		same(t, "all", list(api.HookQuery{}), []string{"red2", "blue1", "blue2", "red3", "red1"})
		// At the end of a run its hooks are gone.
		h.signal("a", "end")
		h.until("a", pawl.Completed)
		same(t, "without those of a run that has ended", list(api.HookQuery{}), []string{"blue2", "red3", "red1"})
		if _, err := h.client.Hook(ctx, "blue1"); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("a hook of a run that has ended: %v", err)
		}
		if _, err := h.client.Hooks(ctx, "nobody"); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("hooks of nobody: %v", err)
		}
		h.refused(404, "not_found", "GET", "/api/hooks?run=nobody", "")
		h.refused(400, "bad_request", "GET", "/api/hooks?cursor=eA", "")
		page, err := h.client.HookPage(ctx, api.HookQuery{Limit: 1, Run: "b"})
		if err != nil || page.NextCursor == "" || time.Since(page.Items[0].At) > time.Minute {
			t.Errorf("%+v %v", page, err)
		}
	}, makes)
}

func returns(v int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return v, nil }
}
