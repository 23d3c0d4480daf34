package pawltest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
)

// CrashEverywhere runs w on input undisturbed, and then once more for each commit of the
// worker, killing it there, in two ways: before the commit is applied, and after it was
// applied but before the worker hears of it. (Where the commit is the worker's taking of a
// run, only the second.) A new worker takes over. Each time it checks, for the run and for
// every run that it starts:
//
//   - it ends in the same state, with the same result or the same error's text, the same
//     attributes and, where only workflow code writes them, the same streams;
//   - its journal has the same keys, none of them recorded twice, and no drift;
//   - no body began after its result was recorded;
//   - [Effects] saw the same idempotency keys;
//   - at the end nothing is left that nobody would wake.
//
// Ids of runs and tokens of hooks are taken for equal where they mean the same. Everything
// runs in virtual time, in a bubble and a subtest for each crash, named like
// crash/07-unanswered, some of them in parallel: call it outside of a bubble, and choose one
// with -run. What the runs share is global: their steps must be safe for concurrent use, and
// a mock or fake that counts must count by run ([pawl.InfoOf]) or be made in [WithSetup].
func CrashEverywhere[In, Out any](t *testing.T, w *pawl.Workflow[In, Out], input In, opts ...CrashOption) {
	t.Helper()
	crashEverywhere(t, nil, w, input, opts)
}

// CrashOption sets a property of [CrashEverywhere].
type CrashOption func(*plan)

// WithChildren names the other workflows that the engine must know: those that run as
// children.
func WithChildren(defs ...pawl.Definition) CrashOption {
	return func(p *plan) { p.defs = append(p.defs, defs...) }
}

// WithDriver plays the outside world: f is called, in a goroutine of its own, when the run
// has been started, and once per crash. What it does reaches the store in any case, as that
// of a caller who tries again would. It must return when what it waits for has come; the
// harness's methods end its goroutine when they fail.
func WithDriver(f func(h *Harness, runID string)) CrashOption {
	return func(p *plan) { p.driver = f }
}

// WithSetup calls f before each run, for instance to mock steps.
func WithSetup(f func(h *Harness)) CrashOption { return func(p *plan) { p.setup = f } }

// WithEffects compares what was done to the outside world, see [Effects].
func WithEffects(e ...*Effects) CrashOption {
	return func(p *plan) { p.effects = append(p.effects, e...) }
}

// WithOutage sets how long no worker is there after a crash. The default is a second:
// a workflow with shorter timeouts may well end differently.
func WithOutage(d time.Duration) CrashOption {
	return func(p *plan) { p.outage = max(d, 0) }
}

// WithLimit sets how much virtual time the undisturbed run may take. The default is 366
// days; the others may take twice what it took, and 30 days.
func WithLimit(d time.Duration) CrashOption { return func(p *plan) { p.limit = d } }

// WithEngine sets the engine's options, as [NewWith] does.
func WithEngine(o pawl.Options) CrashOption { return func(p *plan) { p.opt = o } }

// WithStart adds options to the start of the run. The id is the harness's to choose.
func WithStart(opts ...pawl.StartOption) CrashOption {
	return func(p *plan) { p.start = append(p.start, opts...) }
}

// WithEqual replaces the comparison of results, which are JSON, for those in which for
// instance the time differs. It is asked for every run, by workflow.
func WithEqual(equal func(workflow string, undisturbed, crashed json.RawMessage) bool) CrashOption {
	return func(p *plan) { p.equal = equal }
}

// WithIgnored takes keys of journals out of the comparison for which f returns true: those
// that may be there or not in equally good runs, as in the branches that lose a race.
func WithIgnored(f func(workflow, key string) bool) CrashOption {
	return func(p *plan) { p.ignore = f }
}

// EveryNth tries only every n-th commit and the last one, for long workflows.
func EveryNth(n int) CrashOption { return func(p *plan) { p.every = max(n, 1) } }

// plan is what is run again and again.
type plan struct {
	defs    []pawl.Definition
	name    string
	begin   func(ctx context.Context, e *pawl.Engine, id string) error
	driver  func(h *Harness, runID string)
	setup   func(h *Harness)
	effects []*Effects
	outage  time.Duration
	limit   time.Duration
	opt     pawl.Options
	start   []pawl.StartOption
	equal   func(workflow string, undisturbed, crashed json.RawMessage) bool
	ignore  func(workflow, key string) bool
	every   int
}

// sweeps makes the ids of runs different in all of the process: a workflow's steps may share
// what they keep by id with those of other tests.
var sweeps atomic.Int64

// crashEverywhere reports to report what is wrong with the workflow; nil: to the subtests.
func crashEverywhere[In, Out any](t *testing.T, report testing.TB, w *pawl.Workflow[In, Out], input In, opts []CrashOption) {
	t.Helper()
	p := &plan{name: w.Name(), defs: []pawl.Definition{w}, outage: time.Second, limit: 366 * 24 * time.Hour, every: 1}
	p.equal = func(_ string, a, b json.RawMessage) bool { return string(a) == string(b) }
	p.ignore = func(string, string) bool { return false }
	for _, o := range opts {
		o(p)
	}
	p.begin = func(ctx context.Context, e *pawl.Engine, id string) error {
		_, err := w.Start(ctx, e, input, append(slices.Clone(p.start), pawl.ID(id))...)
		return err
	}
	id := fmt.Sprintf("crash%d-", sweeps.Add(1))
	var truth *outcome
	synctest.Test(t, func(t *testing.T) { truth = p.once(t, id+"undisturbed", 0, lost, p.limit) })
	to := func(t *testing.T) testing.TB {
		if report != nil {
			return report
		}
		return t
	}
	if len(truth.problems) > 0 {
		to(t).Errorf("pawltest: %s does not even come to its end undisturbed:\n%s\n%s%s", p.name, list(truth.problems), truth.journals, truth.warnings())
		return
	}
	limit := 2*truth.took + 30*24*time.Hour
	failures := newFailures(p.name, len(truth.points))
	t.Run("crash", func(t *testing.T) {
		for _, n := range p.chosen(len(truth.points)) {
			for _, m := range []moment{lost, unanswered} {
				if m == lost && truth.claims[n] {
					continue
				}
				name := fmt.Sprintf("%0*d-%v", len(fmt.Sprint(len(truth.points))), n, m)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						got := p.once(t, id+name, n, m, limit)
						if wrong, fickle := p.compare(truth, got); len(wrong) > 0 {
							failures.report(to(t), n, m, got, wrong, fickle)
						}
					})
				})
			}
		}
	})
}

// chosen are the commits to die at.
func (p *plan) chosen(points int) []int {
	var out []int
	for n := 1; n <= points; n++ {
		if (n-1)%p.every == 0 || n == points {
			out = append(out, n)
		}
	}
	return out
}

// failures writes what went wrong: the first few in full, and the others in a line.
type failures struct {
	workflow string
	points   int
	mu       sync.Mutex
	n        int
}

const inFull = 3

func newFailures(workflow string, points int) *failures {
	return &failures{workflow: workflow, points: points}
}

func (f *failures) report(t testing.TB, n int, m moment, got *outcome, wrong []string, fickle bool) {
	t.Helper()
	f.mu.Lock()
	f.n++
	full := f.n <= inFull
	f.mu.Unlock()
	at := "(it was not reached)"
	if got.died != "" {
		at = got.died
	}
	head := fmt.Sprintf("pawltest: %s does not survive a crash at commit %d of %d, %s.\nThe commit: %s\n%s\n", f.workflow, n, f.points, m.text(), at, list(wrong))
	if !full {
		t.Errorf("%s", head)
		return
	}
	if fickle {
		head += advice
	}
	t.Errorf("%sThe journals at that moment:\n%s\nThe journals at the end:\n%s%s", head, indent(got.atDeath), indent(got.journals), got.warnings())
}

const advice = `Between durable calls a workflow function must depend on nothing but its input and what those
calls returned. Look for time.Now (use Context.Now), random numbers (Context.Rand), global
variables, the order of a map, the environment, goroutines and selects (Go, Race). What a branch
does that loses a race may differ from run to run: see WithIgnored.
`

func list(lines []string) string {
	return "  - " + strings.Join(lines, "\n  - ")
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ")
}
