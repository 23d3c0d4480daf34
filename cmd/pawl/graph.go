package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

// most is how many nodes of a run are drawn: a picture with more shows nothing.
const most = 500

// graph is what a run has done, as nodes in the order in which they were recorded.
type graph struct {
	Run      string      `json:"run"`
	Workflow string      `json:"workflow"`
	State    pawl.State  `json:"state"`
	Nodes    []graphNode `json:"nodes"`
	Edges    []graphEdge `json:"edges"`
	LeftOut  int         `json:"leftOut"` // nodes that there was no room for: the newest
}

// graphNode is one thing that a run has done, or waits for.
type graphNode struct {
	ID    string    `json:"id"`
	Kind  string    `json:"kind"` // start, step, sleep, event, hook, payload, child, order, end or wait
	Name  string    `json:"name"`
	State string    `json:"state"`
	At    time.Time `json:"at,omitzero"` // when it was recorded
	Took  float64   `json:"tookMs,omitempty"`
	Tries int       `json:"attempts,omitempty"`
	Run   string    `json:"run,omitempty"` // of a child: its id
}

// graphEdge leads to what came next: in one branch, or as the first of a branch. Joined is an edge to
// what came in the branch above after a branch's last: that it waited for it is not recorded.
type graphEdge struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Joined bool   `json:"joined,omitempty"`
}

func (a *app) graphCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "graph FILE|WORKFLOW|RUN", Short: "Draw a flow, a state machine, or what a run has done",
		Long: `Draw a flow, of the server or of a file, with its steps and where they lead; of a run of a flow, with the way
that it went. Draw a state machine, with its states and the gotos between them, or what a run of code has done: its
steps, sleeps, events, hooks and children in the order in which they were recorded, each with its state, when it was and
how long it took, and what it waits for. Branches part where they began; dotted lines come from branches whose end was
recorded before. The text is Mermaid's, which GitHub, GitLab and mermaid.live show; -o svg is a picture, of a flow; -o dot is
Graphviz's, of a run of code. A file is one whose name ends with .json, .yaml or .yml, and needs no server.`,
		Example:           a.examples("graph flows/triage.yaml -o svg > triage.svg", "graph parity-check", "graph run_01JD > run.mmd", "graph run_01JD -o dot"),
		Annotations:       map[string]string{moreFormats: "mermaid,dot,svg"},
		Args:              a.oneArg("FILE, a WORKFLOW or a RUN", a.drawable),
		ValidArgsFunction: a.completeFirst(a.drawable),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if limit < 1 || limit > 100_000 {
				return a.usage("--limit is %d; it is a number from 1 to 100000", limit)
			}
			if isDocument(args[0]) {
				return a.drawFile(args[0])
			}
			w, err := a.client.Workflow(ctx, args[0])
			switch {
			case err == nil && w.Kind == api.KindFlow:
				return a.drawFlow(ctx, w.Name, "")
			case err == nil:
				return a.drawWorkflow(ctx, w)
			}
			if !errors.Is(err, pawl.ErrUnknown) {
				return a.explain(err, args[0])
			}
			id, err := a.runID(ctx, args[0])
			if errors.Is(err, pawl.ErrNotFound) {
				return &exitError{exitNotFound, fmt.Errorf("no workflow and no run is called %q", args[0]),
					[]string{"see what there is: " + a.hint("workflows list"), "or: " + a.hint("runs list")}}
			}
			if err == nil {
				err = a.drawRun(ctx, id, limit)
			}
			return a.explain(err, args[0])
		},
	}
	cmd.Flags().IntVar(&limit, "limit", most, "how many nodes of a run are drawn, its first")
	return cmd
}

// drawable are workflows and runs.
func (a *app) drawable(ctx context.Context, typed string) []string {
	return append(a.workflowNames(ctx, typed), a.runIDs(ctx, typed)...)
}

// drawWorkflow prints what is known of a workflow before it runs.
func (a *app) drawWorkflow(ctx context.Context, w api.Workflow) error {
	body := a.last.body
	switch {
	case a.output == "dot" || a.output == "svg":
		return a.usage("-o %s is not for workflows of code; dot is for runs, svg for flows, and of a state machine there is its Mermaid text", a.output)
	case !a.drawing():
		return a.data(view{body: body, of: w, name: "name"})
	case w.Mermaid != "":
		a.out.line("%s", strings.TrimRight(w.Mermaid, "\n"))
		return nil
	}
	e := &exitError{code: exitFailure, err: fmt.Errorf("%s is no state machine: what it does is known when it has run", w.Name)}
	if page, err := a.client.Runs(ctx, api.RunQuery{Workflow: w.Name, Limit: 1}); err == nil && len(page.Items) == 1 {
		e.next = []string{"draw its newest run: " + a.hint("graph %s", page.Items[0].ID)}
	} else {
		e.next = []string{"start a run, then draw that: " + a.hint("start %s", w.Name)}
	}
	return e
}

// drawing reports whether a picture is to be printed, and not data.
func (a *app) drawing() bool {
	return a.people() || a.output == "mermaid" || a.output == "dot" || a.output == "svg"
}

func (a *app) drawRun(ctx context.Context, id string, limit int) error {
	run, err := a.client.Run(ctx, id, 0)
	if err != nil {
		return err
	}
	if w, err := a.client.Workflow(ctx, run.Workflow); err == nil && w.Kind == api.KindFlow {
		return a.drawFlow(ctx, run.Workflow, id)
	} else if err != nil && !errors.Is(err, pawl.ErrUnknown) {
		return err
	}
	if a.output == "svg" {
		return a.usage("-o svg is for flows and their runs; of a run of code there are mermaid and dot")
	}
	why := ""
	if !run.State.Terminal() {
		answer, err := a.client.Why(ctx, id)
		if err != nil {
			return err
		}
		why = answer.Why
	}
	g, err := graphOf(run, why, a.client.Journal(ctx, id), limit)
	if err != nil {
		return err
	}
	if g.LeftOut > 0 {
		a.note("%d more are not drawn: --limit %d", g.LeftOut, g.LeftOut+len(g.Nodes))
	}
	if !a.drawing() {
		body, err := json.Marshal(g)
		if err != nil {
			return err
		}
		return a.data(view{body: body, of: g, name: "run"})
	}
	draw := g.mermaid
	if a.output == "dot" {
		draw = g.dot
	}
	a.out.line("%s", strings.TrimRight(draw(), "\n"))
	return nil
}

// tracer makes a graph of a journal.
type tracer struct {
	graph
	limit int
	byKey map[string]int               // index of what a later entry adds to
	last  map[string]string            // by branch: its newest node, or where it began
	ends  map[string]map[string]string // by branch: the newest nodes of the branches below, since its own
}

// graphOf draws a run. why is what it waits for, "" if it has ended.
func graphOf(run api.Run, why string, journal iter.Seq2[pawl.Entry, error], limit int) (*graph, error) {
	t := &tracer{graph: graph{Run: run.ID, Workflow: run.Workflow, State: run.State, Nodes: []graphNode{}, Edges: []graphEdge{}},
		limit: limit, byKey: map[string]int{}, last: map[string]string{}, ends: map[string]map[string]string{}}
	for e, err := range journal {
		if err != nil {
			return nil, err
		}
		t.entry(&e)
	}
	if why != "" {
		t.add("", graphNode{Kind: "wait", Name: why, State: run.State.String()})
	}
	return &t.graph, nil
}

// entry draws an entry of the journal, where it means something to people.
func (t *tracer) entry(e *pawl.Entry) {
	n := graphNode{Kind: e.Kind.String(), Name: e.Key, State: "done", At: e.At, Took: float64(e.Took) / float64(time.Millisecond)}
	switch e.Kind {
	case pawl.KindInput:
		n.Kind, n.Name, n.State = "start", t.Workflow+" "+t.Run, ""
	case pawl.KindStep, pawl.KindAttempt:
		n.Kind, n.Tries = "step", max(e.Attempt, 1)
		switch {
		case e.Kind == pawl.KindAttempt:
			n.State = api.StepRetrying
		case e.Failed:
			n.State = api.StepFailed
		default:
			n.State = api.StepCompleted
		}
		if old := t.node("step " + e.Key); old != nil {
			old.State, old.At, old.Took, old.Tries = n.State, n.At, n.Took, n.Tries
			return
		}
		t.note("step "+e.Key, e.Key, n)
		return
	case pawl.KindSleep:
		n.Name = noteOf(e)
	case pawl.KindEvent, pawl.KindPayload:
		n.Name = nameIn(e.Key)
		if n.State = "received"; e.Failed {
			n.State = e.Failure().Message
		}
	case pawl.KindHook:
		if n.State = "open"; e.Failed {
			n.State = e.Failure().Message
		}
		t.note("hook "+e.Key, e.Key, n)
		return
	case pawl.KindHookClosed:
		if hook, _, ok := cutLast(e.Key, "."); ok {
			if old := t.node("hook " + hook); old != nil {
				old.State = "closed"
			}
		}
		return
	case pawl.KindChild:
		var child struct{ ID string }
		_ = json.Unmarshal(e.Data, &child) // one that was refused has none
		n.Run, n.State = child.ID, "started"
		n.Name = nameIn(e.Key)
		t.note("child "+e.Key, e.Key, n)
		return
	case pawl.KindChildEnd:
		old := t.node("child " + strings.TrimSuffix(e.Key, ".end"))
		var end struct{ State string }
		if old != nil && json.Unmarshal(e.Data, &end) == nil && end.State != "" {
			old.State, old.Took = end.State, float64(e.At.Sub(old.At))/float64(time.Millisecond)
		}
		return
	case pawl.KindOrder:
		n.Name = strings.TrimLeft(e.Key, "$")
	case pawl.KindResult:
		n.Kind, n.Name, n.State = "end", "", t.State.String()
		if e.Failed {
			n.Name = e.Failure().Message
		}
	default:
		return
	}
	t.add(branchOf(e.Key), n)
}

// cutLast cuts a text at the last sep in it.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// branchOf is the path of the branch that an entry's key, or another branch, is of; "": the workflow's
// own. Slashes in names are escaped in keys.
func branchOf(key string) string {
	branch, _, ok := cutLast(key, "/")
	if !ok {
		return ""
	}
	return branch
}

// nameIn is the name of an event, a hook or a workflow in a key such as a/$event:review#2.
func nameIn(key string) string {
	_, name, _ := cutLast("/"+key, "/")
	if _, rest, ok := strings.Cut(name, ":"); ok {
		name = rest
	}
	if plain, err := url.PathUnescape(name); err == nil {
		return plain
	}
	return name
}

// node is the one that was noted under a key, nil if there is none or no room was left for it.
func (t *tracer) node(key string) *graphNode {
	i, ok := t.byKey[key]
	if !ok || i >= len(t.Nodes) {
		return nil
	}
	return &t.Nodes[i]
}

// note adds a node that later entries add to.
func (t *tracer) note(mark, key string, n graphNode) {
	if _, again := t.byKey[mark]; again { // one that is not drawn
		return
	}
	t.byKey[mark] = len(t.Nodes)
	if !t.add(branchOf(key), n) {
		t.byKey[mark] = t.limit
	}
}

// add adds a node behind what its branch, and those below it, came to.
func (t *tracer) add(branch string, n graphNode) bool {
	if len(t.Nodes) >= t.limit {
		t.LeftOut++
		return false
	}
	n.ID = fmt.Sprintf("n%d", len(t.Nodes)+1)
	t.Nodes = append(t.Nodes, n)
	ends := t.ends[branch]
	own := t.own(branch)
	if len(ends) == 0 && own != "" {
		t.Edges = append(t.Edges, graphEdge{From: own, To: n.ID})
	}
	for _, below := range slices.Sorted(maps.Keys(ends)) {
		t.Edges = append(t.Edges, graphEdge{From: ends[below], To: n.ID, Joined: true})
	}
	t.last[branch] = n.ID
	delete(t.ends, branch)
	if branch == "" {
		return true
	}
	above := branchOf(branch)
	if t.ends[above] == nil {
		t.ends[above] = map[string]string{}
	}
	t.ends[above][branch] = n.ID
	return true
}

// own is the newest node of a branch; of one that has none yet, of that in which it began.
func (t *tracer) own(branch string) string {
	for {
		if id := t.last[branch]; id != "" || branch == "" {
			return id
		}
		branch = branchOf(branch)
	}
}
