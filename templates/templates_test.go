package templates_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/flowtest"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/templates"
)

// A template is deployed as it is, and nothing is to be said of it, nor of its input.
func TestJ52_templatesAreValidAgainstTheRealServices(t *testing.T) {
	for _, of := range templates.List() {
		t.Run(of.Name, func(t *testing.T) {
			f, err := flow.Parse([]byte(of.Flow()), flow.World{Services: realServices(t, of), Model: "test/m"})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range f.Warnings {
				t.Error(w.String())
			}
			if f.ID != of.Name || f.Name == "" || f.Description == "" || f.Inputs == nil {
				t.Errorf("it is %q, %q, %q", f.ID, f.Name, f.Description)
			}
			if started := strings.Contains(of.Flow(), "\ntrigger: {type: "); started == (of.Name == "rag-answer") { // whose questions people ask
				t.Errorf("something starts it: %t", started)
			}
			// Where the server has no model of its own, the deployment says so, and of nothing else: no run is left without one.
			var found flow.Problems
			if _, err := flow.Parse([]byte(of.Flow()), flow.World{Services: realServices(t, of)}); !errors.As(err, &found) {
				t.Errorf("without a model it is deployed: %v", err)
			}
			for _, p := range found.Faults() {
				if p.Message != "no model is named" {
					t.Error(p.String())
				}
			}
			for name := range of.Services() {
				if !strings.Contains(of.Flow(), "service: "+name+",") {
					t.Errorf("no step calls the service %s", name)
				}
			}
		})
	}
}

// A page shows each step and names each service.
func TestPagesFitTheirFlows(t *testing.T) {
	for _, of := range templates.List() {
		t.Run(of.Name, func(t *testing.T) {
			top, nodes := nodesOf(t, of)
			for _, n := range top {
				if !strings.Contains(block(of.Page(), "mermaid"), n.ID) {
					t.Errorf("the picture lacks %s", n.ID)
				}
			}
			for id, n := range nodes {
				if s := n.Config.Service; s != "" && !strings.Contains(of.Page(), "| `"+s+"` |") {
					t.Errorf("the page does not name the service %s of %s", s, id)
				}
			}
		})
	}
}

// A page says what a run costs at most, and who is told: whoever decides stands there with the wait's name. Waits for a decision name who
// decides, tell them, remind them and go on without them.
func TestPagesSayWhoIsToldAndWhatItCosts(t *testing.T) {
	for _, of := range templates.List() {
		t.Run(of.Name, func(t *testing.T) {
			f, err := flow.Parse([]byte(of.Flow()), flow.World{Services: realServices(t, of), Model: "test/m"})
			if err != nil {
				t.Fatal(err)
			}
			var limits struct{ Limits struct{ MaxCostUsd float64 } }
			if err := json.Unmarshal(f.JSON(), &limits); err != nil {
				t.Fatal(err)
			}
			told, costs := section(of.Page(), "Who is told"), section(of.Page(), "What it costs")
			if want := fmt.Sprintf("at most $%.2f (`limits.maxCostUsd`)", limits.Limits.MaxCostUsd); !strings.Contains(costs, want) {
				t.Errorf("the page says of costs %q, want %q in it", costs, want)
			}
			if worst := f.WorstCase(flow.World{Services: realServices(t, of), Model: "test/m"}); *worst.ModelCalls.Most > 10_000 { // lists are bounded
				t.Errorf("%s", worst.Summary)
			}
			if _, most, is := strings.Cut(costs, "at worst, with every retry and repair, "); is {
				calls := *f.WorstCase(flow.World{Services: realServices(t, of), Model: "test/m"}).ModelCalls.Most
				if want := fmt.Sprintf("%d times", calls); !strings.HasPrefix(most, want) {
					t.Errorf("the page says that a model is asked at most %q, want %q", most, want)
				}
			}
			if section(of.Page(), "What to change first") == "" || told == "" {
				t.Error("the page does not say what to change first, or who is told")
			}
			_, nodes := nodesOf(t, of)
			for id, n := range nodes {
				if n.Config.For != "approval" {
					continue
				}
				if len(n.Config.Approvers) == 0 || len(n.Config.Notify) == 0 || n.Config.RemindMs == 0 || n.Config.TimeoutMs <= n.Config.RemindMs {
					t.Errorf("%s: nobody is named, told or reminded before its time is over: %+v", id, n.Config)
				}
				if first, _, _ := strings.Cut(section(of.Page(), "What to change first"), "\n- "); !strings.Contains(first, "`"+id+"`") {
					t.Errorf("what to change first are not the approvers of %s: %q", id, first)
				}
				if !strings.Contains(told, "`"+id+"`") {
					t.Errorf("the page does not say who is told of %s", id)
				}
			}
		})
	}
}

// section is the text of a page below a heading; "" if there is none.
func section(page, heading string) string {
	_, text, _ := strings.Cut(page, "\n## "+heading+"\n\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// block is the text of a page's first block of a language; "" if there is none.
func block(page, language string) string {
	_, rest, is := strings.Cut(page, "```"+language+"\n")
	text, _, closed := strings.Cut(rest, "```")
	if !is || !closed {
		return ""
	}
	return text
}

// Each way of each template ends as its cases say, with the calls that they say.
func TestJ52_templatesDoWhatTheirCasesSay(t *testing.T) {
	for _, of := range templates.List() {
		top, _ := nodesOf(t, of)
		visited := map[string]bool{}
		for _, c := range casesOf(t, of) {
			t.Run(of.Name+"/"+c.Name, func(t *testing.T) {
				opt, calls := options(t, of, c)
				w := define(t, of, opt)
				pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
					run := pawltest.Start(h, w, variables(t, c.Input), pawl.ID("r"))
					people(t, h, "r", c)
					out, err := pawltest.ResultError(h, run)
					check(t, c, out, err)
					went := pathOf(h, top, err)
					for _, id := range went {
						visited[id] = true
					}
					if c.Expect.Path != nil && !slices.Equal(went, c.Expect.Path) {
						t.Errorf("it went %q, want %q (error: %v)", went, c.Expect.Path, err)
					}
				}, w)
				for node, want := range c.Expect.Calls {
					if !slices.ContainsFunc(calls.calls[node], func(got map[string]any) bool { return contains(t, got, want) }) {
						t.Errorf("%s was called with %v, want %v in it", node, calls.calls[node], want)
					}
				}
			})
		}
		for _, n := range top {
			if !visited[n.ID] {
				t.Errorf("%s: no case comes to step %s", of.Name, n.ID)
			}
		}
	}
}

func check(t *testing.T, c testCase, out json.RawMessage, err error) {
	t.Helper()
	if failed := c.Expect.Status == "failed"; failed != (err != nil) {
		t.Errorf("the error is %v", err)
	}
	if err != nil && !strings.Contains(err.Error(), c.Expect.Error) {
		t.Errorf("the error is %v, want %q in it", err, c.Expect.Error)
	}
	if c.Expect.Output != nil && err == nil && !sameJSON(t, out, c.Expect.Output) {
		t.Errorf("the output is %s, want %v", out, c.Expect.Output)
	}
}

// pathOf are the steps of the main graph in the order in which the run came to them, with its end.
func pathOf(h *pawltest.Harness, top []node, err error) (went []string) {
	for _, e := range h.Journal("r") {
		id := e.Key
		if i := strings.IndexAny(id, "/.#["); i > 0 { // what is within a step, or below it
			id = id[:i]
		}
		if slices.ContainsFunc(top, func(n node) bool { return n.ID == id }) && (len(went) == 0 || went[len(went)-1] != id) {
			went = append(went, id)
		}
	}
	switch {
	case err == nil:
		went = append(went, flow.End)
	case strings.Contains(err.Error(), "leads to fail"):
		went = append(went, flow.Fail)
	}
	return went
}

// "pawl test" agrees, and finds no way on which no case goes.
func TestCasesGoEveryWay(t *testing.T) {
	for _, of := range templates.List() {
		t.Run(of.Name, func(t *testing.T) {
			cases, err := flowtest.ReadCases([]byte(of.Cases()))
			if err != nil {
				t.Fatal(err)
			}
			r, err := flowtest.Run(t.Context(), []byte(of.Flow()), cases, flowtest.Options{Services: realServices(t, of), Limit: 5 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range r.Cases {
				for _, failure := range c.Failures {
					t.Errorf("%s: %s", c.Name, failure)
				}
			}
			if len(r.Coverage.Missed) > 0 || len(r.Notes) > 0 {
				t.Errorf("no case goes %v; %v", r.Coverage.Missed, r.Notes)
			}
		})
	}
}

// Killed at each commit of its first case, and at some of each other one, or with PAWL_CRASH=long at each, a template goes on where it was
// and ends as it would have ended, with the same calls.
func TestTemplatesSurviveCrashes(t *testing.T) {
	for _, of := range templates.List() {
		t.Run(of.Name, func(t *testing.T) {
			for i, c := range casesOf(t, of) {
				t.Run(c.Name, func(t *testing.T) {
					opt, calls := options(t, of, c)
					more := []pawltest.CrashOption{pawltest.WithEffects(&calls.effects), pawltest.WithEqual(sameButTimes)}
					if i > 0 && os.Getenv("PAWL_CRASH") != "long" {
						more = append(more, pawltest.EveryNth(8))
					}
					if len(c.Waits) > 0 {
						more = append(more, pawltest.WithDriver(func(h *pawltest.Harness, runID string) { people(t, h, runID, c) }))
					}
					pawltest.CrashEverywhere(t, define(t, of, opt), variables(t, c.Input), more...)
				})
			}
		})
	}
}

func TestTemplatesAreFoundByName(t *testing.T) {
	all := templates.List()
	if len(all) != 8 {
		t.Errorf("there are %d templates", len(all))
	}
	for _, of := range all {
		got, is := templates.Get(of.Name)
		if !is || got.Flow() == "" || got.Cases() == "" || got.Title == "" || got.About == "" || !json.Valid([]byte(got.Input())) {
			t.Errorf("%s: %v, %q, %q", of.Name, is, got.Title, got.About)
		}
	}
	if _, is := templates.Get("nothing"); is {
		t.Error("there is a template that nobody wrote")
	}
	all[0].Files[0].Data = "changed"
	if of, _ := templates.Get(all[0].Name); of.Files[0].Data == "changed" {
		t.Error("a list is not the caller's own")
	}
}
