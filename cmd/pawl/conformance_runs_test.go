package main

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

// Upstream's tests of attributes, and of lists, as the command line sees them.

func TestB1_134_142_attributesByCommandLine(t *testing.T) {
	type attrs = map[string]any
	sets := func(c *pawl.Context, all ...attrs) error {
		for _, m := range all {
			if err := c.SetAttributes(m); err != nil {
				return err
			}
		}
		return nil
	}
	defs := []pawl.Definition{
		pawl.Define("phase", func(c *pawl.Context, _ any) (any, error) { return nil, sets(c, attrs{"phase": "done"}) }),
		pawl.Define("rewrites", func(c *pawl.Context, v int) (int, error) {
			return 3 * v, sets(c, attrs{"phase": "begun", "input": v}, attrs{"phase": "done"}, attrs{"input": nil})
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
			return nil, errors.Join(sets(c, attrs{"phase": "before"}), errors.New("after"))
		}),
	}
	eachStore(t, func(t *testing.T, h *house) {
		for _, c := range []struct {
			name, workflow, input string
			start                 []string
			code                  int
			result, attrs         string
			writers               []string // of each entry: the step that wrote it, or the workflow
		}{
			{"134 at the start and from the workflow", "phase", "null", []string{"--attr", "sourceAtStart=api"}, 0, "null", `{"phase":"done","sourceAtStart":"api"}`, []string{"workflow"}},
			{"136 set, overwrite, unset", "rewrites", "7", nil, 0, "21", `{"phase":"done"}`, []string{"workflow", "workflow", "workflow"}},
			{"137 inside a step", "inside", "9", nil, 0, "36", `{"input":"9","phase":"step-done","source":"step-body"}`, []string{"step"}},
			{"139 in parallel", "parallel", "null", nil, 0, "null", `{"a":"1","b":"2","c":"3"}`, []string{"workflow", "workflow", "workflow"}},
			{"140 of a run that fails", "throws", "null", nil, exitRunFailed, "null", `{"phase":"before"}`, []string{"workflow"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := pawlAt(t, h.url, append([]string{"start", c.workflow, "--id", c.workflow, "--input", c.input}, c.start...)...).want(t, 0)
				same(t, "id", strings.TrimSpace(r.stdout), c.workflow)
				r = pawlAt(t, h.url, "runs", "result", c.workflow, "--wait", "--jq", ".result | tojson").want(t, c.code)
				same(t, "result", strings.TrimSpace(r.stdout), c.result)
				r = pawlAt(t, h.url, "runs", "show", c.workflow, "--jq", ".attributes | tojson").want(t, 0)
				same(t, "attributes", strings.TrimSpace(r.stdout), c.attrs)
				var writers []string
				for _, e := range entries(t, h.url, c.workflow, pawl.KindAttributes) {
					writer := "workflow"
					if e.Attempt > 0 {
						writer = e.Key
					}
					writers = append(writers, writer)
				}
				same(t, "who wrote", writers, c.writers)
				var pairs map[string]string
				if err := json.Unmarshal([]byte(c.attrs), &pairs); err != nil {
					t.Fatal(err)
				}
				by := []string{"runs", "list", "-o", "name", "--workflow", c.workflow}
				for name, value := range pairs {
					by = append(by, "--attr", name+"="+value)
				}
				same(t, "found by them", pawlAt(t, h.url, by...).want(t, 0).stdout, c.workflow+"\n")
				same(t, "found by others", pawlAt(t, h.url, append(by, "--attr", "phase=another")...).want(t, 0).stdout, "")
			})
		}
		// 135 and 142: what can't be is refused, and makes no run.
		for _, bad := range []string{"$seeded=x", strings.Repeat("n", 257) + "=v", "a=" + strings.Repeat("v", 257)} {
			pawlAt(t, h.url, "start", "phase", "--id", "bad", "--attr", bad).want(t, exitUsage)
			pawlAt(t, h.url, "runs", "show", "bad").want(t, exitNotFound)
		}
		pawlAt(t, h.url, "start", "phase", "--id", "bad", "--attr", "no value").want(t, exitUsage, "name=value")
	}, defs...)
}

// Runs, hooks and steps in lists: filtered, by pages, and of what there is not.
func TestB2_listsByCommandLine(t *testing.T) {
	makes := pawl.Define("makes", func(c *pawl.Context, tokens []string) (any, error) {
		for i, token := range tokens {
			if _, err := pawl.NewHook[any](c, pawl.Token(token), pawl.Meta(i), pawl.HookKind(strings.TrimRight(token, "0123456789"))); err != nil {
				return nil, err
			}
		}
		return pawl.WaitFor[any](c, "end")
	})
	tries := pawl.Define("tries", func(c *pawl.Context, _ any) (any, error) {
		if _, err := pawl.Step(c, "second", func(ctx context.Context) (any, error) {
			if pawl.InfoOf(ctx).Attempt == 1 {
				return nil, errors.New("not yet")
			}
			return nil, nil
		}, pawl.Backoff(time.Millisecond, time.Millisecond)); err != nil {
			return nil, err
		}
		return pawl.Step(c, "never", func(context.Context) (any, error) { return nil, pawl.Fatal(errors.New("broken")) })
	})
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "makes", "--id", "a", "--input", `["red1","red2","blue1"]`, "--attr", "team=red").want(t, 0)
		until(t, h.client, "a", pawl.Waiting)
		pawlAt(t, h.url, "start", "makes", "--id", "b", "--input", `["blue2","red3"]`).want(t, 0)
		until(t, h.client, "b", pawl.Waiting)
		pawlAt(t, h.url, "start", "tries", "--id", "c").want(t, 0)
		pawlAt(t, h.url, "runs", "result", "c", "--wait").want(t, exitRunFailed, "broken")
		pawlAt(t, h.url, "start", "makes", "--id", "d", "--input", "[]").want(t, 0)
		pawlAt(t, h.url, "runs", "cancel", "d", "--reason", "enough").want(t, 0)
		until(t, h.client, "d", pawl.Cancelled)

		// pages reads a list by pages of a size.
		pages := func(size int, field string, args ...string) (got []string) {
			t.Helper()
			for cursor := ""; ; {
				var page struct {
					Items      []map[string]json.RawMessage
					NextCursor string
				}
				r := pawlAt(t, h.url, append(args, "-o", "json", "--limit", fmt.Sprint(size), "--cursor", cursor)...).want(t, 0)
				if err := json.Unmarshal([]byte(r.stdout), &page); err != nil || len(page.Items) > size {
					t.Fatalf("%v by %d: %s %v", args, size, r.stdout, err)
				}
				for _, item := range page.Items {
					got = append(got, strings.Trim(string(item[field]), `"`))
				}
				if cursor = page.NextCursor; cursor == "" {
					return got
				}
			}
		}
		for size := 1; size <= 6; size++ {
			same(t, fmt.Sprint("runs by ", size), pages(size, "id", "runs", "list"), []string{"d", "c", "b", "a"})
			same(t, fmt.Sprint("hooks by ", size), pages(size, "token", "hooks", "list"), []string{"red1", "red2", "blue1", "blue2", "red3"})
		}
		for args, want := range map[string][]string{
			"--workflow tries":                  {"c"},
			"--state waiting":                   {"b", "a"},
			"--state failed,cancelled":          {"d", "c"},
			"--attr team=red":                   {"a"},
			"--workflow makes --state pending":  nil,
			"--workflow nothing":                nil,
			"--workflow makes --state waiting":  {"b", "a"},
			"--state waiting --attr team=red":   {"a"},
			"--state cancelled --attr team=red": nil,
		} {
			r := pawlAt(t, h.url, append([]string{"runs", "list", "-o", "name"}, strings.Fields(args)...)...).want(t, 0)
			same(t, "runs "+args, strings.Fields(r.stdout), want)
		}
		for args, want := range map[string][]string{
			"a":             {"red1", "red2", "blue1"},
			"--kind blue":   {"blue1", "blue2"},
			"b --kind red":  {"red3"},
			"--kind green":  nil,
			"d":             nil,
			"b --limit 100": {"blue2", "red3"},
		} {
			r := pawlAt(t, h.url, append([]string{"hooks", "list", "--jq", ".items[].token"}, strings.Fields(args)...)...).want(t, 0)
			same(t, "hooks "+args, strings.Fields(r.stdout), want)
		}
		r := pawlAt(t, h.url, "steps", "c", "--jq", `.items[] | [.key, .state, (.attempts | tostring)] | join(" ")`).want(t, 0)
		same(t, "steps", r.stdout, "second completed 2\nnever failed 1\n")
		var kinds []string
		for _, e := range entries(t, h.url, "c", pawl.KindInput, pawl.KindAttempt, pawl.KindStep) {
			kinds = append(kinds, e.Kind.String())
		}
		same(t, "the journal in order", kinds, []string{"input", "attempt", "step", "step"})
		for _, args := range []string{"runs show nobody", "steps nobody", "journal nobody", "stream nobody", "hooks list nobody", "runs cancel nobody", "runs result nobody"} {
			pawlAt(t, h.url, strings.Fields(args)...).want(t, exitNotFound, "nobody")
		}
		var list api.RunPage
		r = pawlAt(t, h.url, "runs", "list", "-o", "json").want(t, 0)
		if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || !slices.IsSortedFunc(list.Items, func(a, b pawl.RunInfo) int { return b.Created.Compare(a.Created) }) {
			t.Errorf("newest first: %s %v", r.stdout, err)
		}
	}, makes, tries)
}

// A run that sleeps is cancelled: it ends at once, and says so to who waits for it.
func TestB1_102_cancelByCommandLine(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "sleeps", "--id", "long").want(t, 0)
		until(t, h.client, "long", pawl.Waiting)
		_, ended := follow(t, h.url, "runs", "result", "long", "--wait")
		pawlAt(t, h.url, "runs", "cancel", "long", "--reason", "not needed").want(t, 0, "long")
		(<-ended).want(t, exitRunFailed, "cancelled", "not needed")
		r := pawlAt(t, h.url, "runs", "show", "long", "--jq", `[.state, .error.code, .error.message] | join("; ")`).want(t, 0)
		same(t, "the run", strings.TrimSpace(r.stdout), "cancelled; cancelled; not needed")
		pawlAt(t, h.url, "runs", "cancel", "long").want(t, exitConflict, "ended")
	}, testWorkflows()...)
}
