package main

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/parity-check/parity"
)

// hostile is a name that would be a directive, a script, an end of a label or another line of each of
// the languages, if it were not taken for text.
const hostile = "x\"]; click n1 \"javascript:alert(1)\" %%{init: {}}%% <img src=x onerror=y> &quot; #quot; `b` \\N \\"

func drawnWorkflows(t *testing.T) []pawl.Definition {
	t.Helper()
	numbers, err := parity.New()
	if err != nil {
		t.Fatal(err)
	}
	step := func(c *pawl.Context, name string) error {
		return pawl.Do(c, name, func(context.Context) error { return nil })
	}
	child := pawl.Define("child", func(c *pawl.Context, _ any) (any, error) { return 1, nil })
	return append(testWorkflows(), numbers, child,
		pawl.Define("tour", func(c *pawl.Context, _ any) (any, error) {
			if err := step(c, "first"); err != nil {
				return nil, err
			}
			branch := func(name string) *pawl.Future[any] {
				return pawl.Go(c, name, func(c *pawl.Context) (any, error) { return nil, step(c, "in") })
			}
			if _, err := pawl.All(c, branch("a"), branch("b")); err != nil {
				return nil, err
			}
			if err := c.Sleep(time.Millisecond); err != nil {
				return nil, err
			}
			if _, err := child.Call(c, nil, pawl.ID("tour-child")); err != nil {
				return nil, err
			}
			if _, err := pawl.WaitFor[any](c, "go/now"); err != nil {
				return nil, err
			}
			h, err := pawl.NewHook[any](c)
			if err != nil {
				return nil, err
			}
			if _, err := h.Wait(c); err != nil {
				return nil, err
			}
			if err := h.Close(c); err != nil {
				return nil, err
			}
			return pawl.Step(c, "last", func(ctx context.Context) (any, error) {
				if pawl.InfoOf(ctx).Attempt < 2 {
					return nil, errors.New("again")
				}
				return 1, nil
			}, pawl.Backoff(time.Millisecond, time.Millisecond))
		}),
		pawl.Define("hostile", func(c *pawl.Context, _ any) (any, error) {
			if err := step(c, hostile); err != nil {
				return nil, err
			}
			return pawl.WaitFor[any](c, hostile)
		}))
}

var (
	mermaidLine = regexp.MustCompile(`^(flowchart TD|    n\d+(\(\[|\[\[|\[|\(|>|\{\{)"[^"<>\x60%\\&;]*((<br/>|#\w+;)[^"<>\x60%\\&;]*)*"(\]\)|\]\]|\]|\)|\}\})|    n\d+ (-->|-\.->) n\d+|    classDef [a-z]+ fill:#[0-9a-f]+,color:#222|    class [n0-9,]+ [a-z]+)$`)
	dotLine     = regexp.MustCompile(`^(digraph run \{|    node \[.*\]|    n\d+ \[label="([^"\\]|\\\\|\\"|\\n)*"(, fillcolor="#[0-9a-f]+")?\]|    n\d+ -> n\d+( \[style=dashed\])?|\})$`)
)

func TestGraphs(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result { return pawlAt(t, h.url, args...) }
		at("graph", "parity-check").want(t, 0, "stateDiagram-v2", `state "check" as s2`, "s2 --> s3", "s2 --> s4")
		at("graph", "parity-check", "--jq", ".name").want(t, 0, "parity-check")
		at("graph", "parity-check", "-o", "dot").want(t, 2, "for runs")
		at("graph", "tour").want(t, 1, "no state machine", "pawl start tour")
		at("graph", "nothing").want(t, 3, `no workflow and no run is called "nothing"`, "pawl workflows list")
		at("graph", "tour", "-o", "svg").want(t, 2, "svg for flows")
		at("runs", "list", "-o", "dot").want(t, 2)

		at("start", "tour", "--id", "t", "-q").want(t, 0)
		eventuallyAt(t, h, "t", `"go/now"`)
		at("graph", "tour").want(t, 1, "pawl graph t")
		open := at("graph", "t").want(t, 0, "flowchart TD", "it waits for the event #quot;go/now#quot;")
		at("signal", "t").want(t, 0)
		eventuallyAt(t, h, "t", "hook")
		at("graph", "t").want(t, 0, "$hook<br/>open")
		at("hooks", "send", "t").want(t, 0)
		until(t, h.client, "t", pawl.Completed)
		whole := at("graph", "t", "-o", "mermaid").want(t, 0, "tour t<br/>", `"first<br/>completed`, "a/in<br/>completed", "child child<br/>tour-child<br/>completed", "event go/now<br/>received",
			"$hook<br/>closed", "last<br/>completed, attempt 2", "-.->", "class ")
		dot := at("graph", "t", "-o", "dot").want(t, 0, "digraph run {", `first\ncompleted`, "style=dashed")
		for _, r := range []result{open, whole} {
			matches(t, mermaidLine, r.stdout)
		}
		matches(t, dotLine, dot.stdout)
		var g graph
		if err := json.Unmarshal([]byte(at("graph", "t", "-o", "json").want(t, 0).stdout), &g); err != nil {
			t.Fatal(err)
		}
		// first leads to both branches, both lead to what came next, and nothing has two beginnings.
		byName := map[string]string{}
		for _, n := range g.Nodes {
			byName[n.Name] = n.ID
		}
		for _, e := range []graphEdge{{byName["first"], byName["a/in"], false}, {byName["first"], byName["b/in"], false}, {byName["a/in"], g.Nodes[4].ID, true}, {byName["b/in"], g.Nodes[4].ID, true}} {
			found := false
			for _, got := range g.Edges {
				found = found || got == e
			}
			if !found {
				t.Errorf("no edge %v in %v", e, g.Edges)
			}
		}
		if g.State != pawl.Completed || g.Nodes[len(g.Nodes)-1].Kind != "end" || g.LeftOut != 0 {
			t.Errorf("%+v", g)
		}
		at("graph", "t", "--limit", "3").want(t, 0, "more are not drawn")
		at("graph", "t", "--limit", "0").want(t, 2, "--limit")

		at("start", "hostile", "--id", "x", "-q").want(t, 0)
		until(t, h.client, "x", pawl.Waiting)
		matches(t, mermaidLine, at("graph", "x").want(t, 0, "javascript:alert").stdout)
		matches(t, dotLine, at("graph", "x", "-o", "dot").want(t, 0, "javascript:alert").stdout)
	}, drawnWorkflows(t)...)
}

func matches(t *testing.T, pattern *regexp.Regexp, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); !pattern.MatchString(line) {
			t.Errorf("not a line of the language: %s", line)
		}
	}
}

func eventuallyAt(t *testing.T, h *house, id, why string) {
	t.Helper()
	var said lockedBuffer
	eventually(t, func() bool {
		answer, err := h.client.Why(t.Context(), id)
		return err == nil && answer.State == pawl.Waiting && strings.Contains(answer.Why, why)
	}, &said)
}
