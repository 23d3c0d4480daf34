package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// Upstream's tests of cancel, health, lifecycle, attributes and retention, asked of a real server.

func TestB1_102_cancelRunOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("sleeps", "null")
		h.until(id, pawl.Waiting) // the sleep is in the store
		if _, err := h.client.Cancel(t.Context(), id, "not needed"); err != nil {
			t.Fatal(err)
		}
		run := h.failure(id)
		same(t, "state, code and reason", fmt.Sprint(run.State, " ", run.Error.Code, " ", run.Error.Message), "cancelled cancelled not needed")
	})
}

// B1_105: health, and who works, without asking a worker.
func TestB1_105_workersAreSeenOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		h.eventually("the worker to be seen", func() bool {
			stats, err := h.client.Stats(t.Context())
			return err == nil && stats.Workers == 1
		})
		health, err := h.client.Ready(t.Context())
		if err != nil || health.Status != "ok" {
			t.Errorf("%+v %v", health, err)
		}
	})
}

// declined is an error with a code.
type declined string

func (d declined) Error() string     { return string(d) }
func (d declined) ErrorCode() string { return "declined" }

// B1_107 and B1_108: an observer outside follows a run through the server, and tells another run
// of how it ended by a hook of that one.
func TestB1_107_108_lifecycleOverHTTP(t *testing.T) {
	watcher := pawl.Define("watcher", func(c *pawl.Context, token string) (json.RawMessage, error) {
		h, err := pawl.NewHook[json.RawMessage](c, pawl.Token(token))
		if err != nil {
			return nil, err
		}
		return h.Wait(c)
	})
	target := pawl.Define("target", func(c *pawl.Context, fail string) (string, error) {
		if _, err := pawl.WaitFor[any](c, "go"); err != nil || fail == "" {
			return "what it returned", err
		}
		return "", pawl.Fatal(declined("lifecycle-hook-target-failed: " + fail))
	})
	eachHouse(t, func(t *testing.T, h *house) {
		for fail, want := range map[string]string{
			"":      `{"observed":"completed","run":"RUN","workflow":"target","returned":"what it returned"}`,
			"t-108": `{"observed":"failed","run":"RUN","workflow":"target","code":"declined","message":"lifecycle-hook-target-failed: t-108","fatal":true}`,
		} {
			token := "watcher " + fail
			observer := h.startAs("watcher", token)
			h.hooked(token)
			id := h.startAs("target", fail)
			told := make(chan error, 1)
			go func() {
				for e, err := range h.client.Follow(t.Context(), id, -1) {
					if err != nil {
						told <- err
						return
					}
					if e.Type != api.EventEnd {
						continue
					}
					report := struct {
						Observed string          `json:"observed"`
						Run      string          `json:"run"`
						Workflow string          `json:"workflow"`
						Returned json.RawMessage `json:"returned,omitempty"`
						Code     string          `json:"code,omitempty"`
						Message  string          `json:"message,omitempty"`
						Fatal    bool            `json:"fatal,omitempty"`
					}{Observed: e.Run.State.String(), Run: e.Run.ID, Workflow: e.Run.Workflow, Returned: e.Run.Result}
					if f := e.Run.Error; f != nil {
						report.Code, report.Message, report.Fatal = f.Code, f.Message, f.IsFatal
					}
					data, err := json.Marshal(report)
					if err == nil {
						_, err = h.client.SendHook(t.Context(), token, data)
					}
					told <- err
				}
			}()
			h.signal(id, "go")
			if err := <-told; err != nil {
				t.Fatal(err)
			}
			same(t, "what was observed", h.result(observer), strings.Replace(want, "RUN", id, 1))
		}
	}, watcher, target)
}

// attributed sets attributes in the ways there are: from the workflow, over and over; from inside
// a step; in branches at once; and before it fails.
func attributed() []pawl.Definition {
	type attrs = map[string]any
	each := func(c *pawl.Context, all ...attrs) error {
		for _, m := range all {
			if err := c.SetAttributes(m); err != nil {
				return err
			}
		}
		return nil
	}
	return []pawl.Definition{
		pawl.Define("phase", func(c *pawl.Context, _ any) (any, error) { return nil, each(c, attrs{"phase": "done"}) }),
		pawl.Define("rewrites", func(c *pawl.Context, v int) (int, error) {
			return 3 * v, each(c, attrs{"phase": "begun", "input": v}, attrs{"phase": "done"}, attrs{"input": nil})
		}),
		pawl.Define("inside", func(c *pawl.Context, v int) (int, error) {
			return pawl.Step(c, "step", func(ctx context.Context) (int, error) {
				return 4 * v, pawl.SetAttributes(ctx, attrs{"phase": "step-done", "source": "step-body", "input": v})
			})
		}),
		pawl.Define("parallel", func(c *pawl.Context, _ any) (any, error) {
			_, err := pawl.Map(c, "set", []string{"a", "b", "c"}, func(c *pawl.Context, name string) (any, error) {
				return nil, c.SetAttributes(attrs{name: int(name[0]-'a') + 1})
			})
			return nil, err
		}),
		pawl.Define("throws", func(c *pawl.Context, _ any) (any, error) {
			if err := each(c, attrs{"phase": "before"}); err != nil {
				return nil, err
			}
			return nil, errors.New("after")
		}),
		pawl.Define("reserved", func(c *pawl.Context, _ any) (string, error) {
			return fmt.Sprint(errors.Is(c.SetAttributes(attrs{"$seeded": "x"}), pawl.ErrInput)), nil
		}),
	}
}

func TestB1_134_140_attributesOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		for _, c := range []struct {
			name, workflow, input string
			start                 map[string]any
			state                 pawl.State
			result                string
			attrs                 map[string]string
			writers               []string // of each entry: the step that wrote it, or the workflow
		}{
			{"134 at the start and from the workflow", "phase", "null", map[string]any{"sourceAtStart": "api"}, pawl.Completed, "null", map[string]string{"sourceAtStart": "api", "phase": "done"}, []string{"workflow"}},
			{"135 reserved names", "reserved", "null", nil, pawl.Completed, `"true"`, nil, nil},
			{"136 set, overwrite, unset", "rewrites", "7", nil, pawl.Completed, "21", map[string]string{"phase": "done"}, []string{"workflow", "workflow", "workflow"}},
			{"137 inside a step", "inside", "9", nil, pawl.Completed, "36", map[string]string{"phase": "step-done", "source": "step-body", "input": "9"}, []string{"step"}},
			{"139 in parallel", "parallel", "null", nil, pawl.Completed, "null", map[string]string{"a": "1", "b": "2", "c": "3"}, []string{"workflow", "workflow", "workflow"}},
			{"140 of a run that fails", "throws", "null", nil, pawl.Failed, "", map[string]string{"phase": "before"}, []string{"workflow"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				run, err := h.client.Start(t.Context(), api.StartRequest{Workflow: c.workflow, Input: json.RawMessage(c.input), Attributes: c.start}, 20*time.Second)
				if err != nil || run.State != c.state {
					t.Fatalf("%s: %v %v", run.State, run.Error, err)
				}
				same(t, "result", string(run.Result), c.result)
				if run, err = h.client.Run(t.Context(), run.ID, 0); err != nil {
					t.Fatal(err)
				}
				same(t, "attributes", run.Attrs, c.attrs)
				var writers []string
				for _, e := range h.entries(run.ID, pawl.KindAttributes) {
					writer := "workflow"
					if e.Attempt > 0 {
						writer = e.Key
					}
					writers = append(writers, writer)
				}
				same(t, "who wrote", writers, c.writers)
				if c.attrs == nil {
					return
				}
				found, err := h.client.Runs(t.Context(), api.RunQuery{Workflow: c.workflow, Attrs: c.attrs})
				if err != nil || len(found.Items) != 1 || found.Items[0].ID != run.ID {
					t.Errorf("found by them: %+v %v", found, err)
				}
				none, err := h.client.Runs(t.Context(), api.RunQuery{Workflow: c.workflow, Attrs: map[string]string{"phase": "another"}})
				if err != nil || len(none.Items) != 0 {
					t.Errorf("found by others: %+v %v", none, err)
				}
			})
		}
	}, attributed()...)
}

// B1_135 and B1_142: a start with attributes that can't be is refused, and nothing is stored.
func TestB1_142_invalidAttributesAtStartOverHTTP(t *testing.T) {
	many := map[string]any{}
	for i := range 65 {
		many[fmt.Sprint("a", i)] = "v"
	}
	eachHouse(t, func(t *testing.T, h *house) {
		for what, c := range map[string]struct {
			attrs map[string]any
			want  error
		}{
			"a reserved name":        {map[string]any{"$seededByFramework": "x"}, pawl.ErrInput},
			"an empty name":          {map[string]any{"": "v"}, pawl.ErrInput},
			"a long name":            {map[string]any{strings.Repeat("n", 257): "v"}, pawl.ErrTooLarge},
			"a long value":           {map[string]any{"a": strings.Repeat("v", 257)}, pawl.ErrTooLarge},
			"256 letters, 512 bytes": {map[string]any{"a": strings.Repeat("ä", 256)}, pawl.ErrTooLarge},
			"too many":               {many, pawl.ErrTooLarge},
		} {
			_, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "phase", Attributes: c.attrs}, 0)
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", what, err, c.want)
			}
		}
		runs, err := h.client.Runs(t.Context(), api.RunQuery{})
		if err != nil || len(runs.Items) != 0 {
			t.Errorf("runs: %+v %v", runs, err)
		}
		// What is just at the limits is taken, and found.
		most := map[string]any{strings.Repeat("n", 256): strings.Repeat("ä", 128)}
		for i := range 62 { // and the one that the workflow sets
			most[fmt.Sprint("a", i)] = "v"
		}
		run, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "phase", Attributes: most}, 20*time.Second)
		if err != nil || run.State != pawl.Completed {
			t.Fatalf("at the limits: %s %v %v", run.State, run.Error, err)
		}
		run, err = h.client.Run(t.Context(), run.ID, 0)
		if err != nil || len(run.Attrs) != 64 || run.Attrs[strings.Repeat("n", 256)] != strings.Repeat("ä", 128) {
			t.Errorf("at the limits: %d attributes, %v", len(run.Attrs), err)
		}
		found, err := h.client.Runs(t.Context(), api.RunQuery{Attrs: map[string]string{strings.Repeat("n", 256): strings.Repeat("ä", 128)}})
		if err != nil || len(found.Items) != 1 {
			t.Errorf("found by the longest: %d, %v", len(found.Items), err)
		}
	}, attributed()...)
}

func TestB1_143_retentionOverHTTP(t *testing.T) {
	retained := pawl.Define("retained", func(c *pawl.Context, n int) (int, error) {
		return n, errors.Join(c.SetAttributes(map[string]any{"a": 1}), c.Stream("s").Write(n))
	}, pawl.Retention(time.Hour, pawl.Completed))
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		s := store()
		h := openOn(t, s, api.Options{}, retained)
		q := api.StartRequest{Workflow: "retained", ID: "one", Input: json.RawMessage("1")}
		run, err := h.client.Start(t.Context(), q, 20*time.Second)
		if err != nil || string(run.Result) != "1" {
			t.Fatalf("%+v %v", run, err)
		}
		purge := func(at time.Time) int {
			n, err := s.Purge(t.Context(), at, 100)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		same(t, "purged before its time", purge(run.Ended.Add(time.Hour-time.Microsecond)), 0)
		same(t, "result before its time", h.result("one"), "1")
		same(t, "purged", purge(run.Ended.Add(time.Hour)), 1)
		for _, path := range []string{"", "/journal", "/steps", "/streams", "/chunks/s", "/events", "/streams/s"} {
			h.refused(404, "not_found", "GET", "/api/runs/one"+path, "")
		}
		found, err := h.client.Runs(t.Context(), api.RunQuery{Attrs: map[string]string{"a": "1"}})
		if err != nil || len(found.Items) != 0 {
			t.Errorf("still found: %+v %v", found, err)
		}
		q.Input = json.RawMessage("2")
		if run, err = h.client.Start(t.Context(), q, 20*time.Second); err != nil || run.Existed || string(run.Result) != "2" {
			t.Errorf("its id is not free: %+v %v", run, err)
		}
	})
}
