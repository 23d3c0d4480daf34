package templates_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/storetest"
	"github.com/pawlrun/pawl/storetest/pgtest"
	"github.com/pawlrun/pawl/templates"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// On PostgreSQL too a template whose worker dies in a commit, with or without the commit, goes on with another worker where it was,
// and ends as it would have ended, with the same calls. TestTemplatesSurviveCrashes has virtual time, in which no socket works, so
// this has real time, and leaves out the cases that wait for days: those in which nobody decides. Two commits of one case of
// each template, with a person in it where there is one; with PAWL_CRASH=long each commit of each such case, in both ways.
func TestTemplatesSurviveCrashesOnPostgreSQL(t *testing.T) {
	long := os.Getenv("PAWL_CRASH") == "long"
	for _, of := range templates.List() {
		t.Run(of.Name, func(t *testing.T) {
			cases := slices.DeleteFunc(casesOf(t, of), func(c testCase) bool {
				return slices.ContainsFunc(slices.Collect(maps.Values(c.Waits)), func(w map[string]any) bool { return w["timeout"] == true })
			})
			if i := slices.IndexFunc(cases, func(c testCase) bool { return len(c.Waits) > 0 }); !long {
				cases = cases[max(i, 0):][:1]
			}
			store, err := postgres.Open(t.Context(), pgtest.URL(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			})
			for i, c := range cases {
				t.Run(c.Name, func(t *testing.T) {
					s := &stage{store: store, of: of, c: c}
					want, commits := s.play(t, fmt.Sprintf("c%d-undisturbed", i), 0, false)
					if commits < 3 {
						t.Fatalf("it has %d commits", commits)
					}
					crashes := 0
					for at := 1; at <= commits; at++ {
						for _, lose := range []bool{false, true} {
							if first, second := at == 1+commits/3 && !lose, at == 2*commits/3 && lose; !long && !first && !second {
								continue
							}
							got, died := s.play(t, fmt.Sprintf("c%d-at%d-%t", i, at, lose), at, lose)
							if died == at { // commits of branches may be made together, and be fewer then
								crashes++
							}
							if d := want.differs(got); d != "" {
								t.Errorf("killed at commit %d of %d (applied: %t): %s", at, commits, lose, d)
							}
						}
					}
					if crashes < 2 {
						t.Errorf("%d crashes of a run of %d commits", crashes, commits)
					}
				})
			}
		})
	}
}

// stage is where a case is played again and again.
type stage struct {
	store pawl.Store
	of    templates.Template
	c     testCase
}

// shown is what came of a run.
type shown struct {
	state  pawl.State
	result json.RawMessage
	reason string
	keys   []string // of its journal, sorted
	twice  []string // steps that were recorded twice
	calls  []string // of services, by their keys, sorted and each once
}

func (want shown) differs(got shown) string {
	switch {
	case len(got.twice) > 0:
		return fmt.Sprintf("recorded twice: %q", got.twice)
	case got.state != want.state || got.reason != want.reason:
		return fmt.Sprintf("it is %s (%s), want %s (%s)", got.state, got.reason, want.state, want.reason)
	case !sameButTimes("", want.result, got.result):
		return fmt.Sprintf("the result is %s, want %s", got.result, want.result)
	case !slices.Equal(got.keys, want.keys):
		return fmt.Sprintf("the journal has %q, want %q", got.keys, want.keys)
	case !slices.Equal(got.calls, want.calls):
		return fmt.Sprintf("called was %q, want %q", got.calls, want.calls)
	}
	return ""
}

// errDead is what a dead worker hears of its store.
var errDead = fmt.Errorf("%w: the test has killed this worker", pawl.ErrUnknownOutcome)

// play runs the case once; its worker dies in the commit at, 0: in none. It returns too how many commits the first worker has made, with
// that in which it died.
func (s *stage) play(t *testing.T, id string, at int, lose bool) (shown, int) {
	t.Helper()
	opt, calls := options(t, s.of, s.c)
	w := define(t, s.of, opt)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := s.engine(t, s.store, w, nil)
	var commits atomic.Int64
	died := make(chan struct{})
	die := sync.OnceFunc(func() { close(died) })
	joined := &roll{Store: s.store}
	end := s.works(t, storetest.Faulty(joined, func(method string, n int) (f storetest.Fault) {
		select {
		case <-died:
			switch method {
			case "Join", "Leave":
				return storetest.Fault{Err: pawl.ErrClosed}
			case "Beat":
				return storetest.Fault{Err: pawl.ErrFenced}
			}
			return storetest.Fault{Err: errDead}
		default:
		}
		if method != "Commit" {
			return f
		}
		commits.Store(int64(n))
		if n != at {
			return f
		}
		die()
		if lose { // the commit is applied, and nobody hears of it
			return storetest.Fault{Lose: true}
		}
		return storetest.Fault{Err: errDead}
	}), w, died)
	if _, err := w.Start(ctx, client, variables(t, s.c.Input), pawl.ID(id)); err != nil {
		t.Fatal(err)
	}
	acted := make(chan error, 1)
	go func() { acted <- s.people(ctx, client, id) }()
	ended := make(chan error, 1)
	go func() {
		_, err := pawl.Attach[json.RawMessage](client, id).Result(ctx)
		if failed := (*pawl.RunError)(nil); errors.As(err, &failed) {
			err = nil
		}
		ended <- err
	}()
	var err error
	select {
	case err = <-ended:
		end()
	case <-died:
		end()
		now := time.Now() // its lease ends, and another worker takes over
		if berr := s.store.Beat(ctx, joined.id.Load(), now, now.Add(-time.Second)); berr != nil && !errors.Is(berr, pawl.ErrFenced) {
			t.Fatal(berr)
		}
		end = s.works(t, s.store, w, nil)
		err = <-ended
		end()
	}
	if err := errors.Join(err, <-acted); err != nil {
		t.Fatalf("killed at commit %d: %v", at, err)
	}
	return s.shows(t, client, id, calls), int(commits.Load())
}

// engine is one on the store; cut tells when its bodies run no more, nil: never.
func (s *stage) engine(t *testing.T, store pawl.Store, w pawl.Definition, cut <-chan struct{}) *pawl.Engine {
	t.Helper()
	e := pawl.New(store, &pawl.Options{Poll: 50 * time.Millisecond, Drain: time.Second, Logger: slog.New(slog.DiscardHandler), PublicURL: "http://localhost", Secret: []byte(strings.Repeat("s", 32)),
		Intercept: func(ctx context.Context, body func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
			select {
			case <-cut:
				return nil, errDead
			default:
				return body(ctx)
			}
		}})
	if err := e.Register(w); err != nil {
		t.Fatal(err)
	}
	return e
}

// works lets a worker run until end is called.
func (s *stage) works(t *testing.T, store pawl.Store, w pawl.Definition, cut <-chan struct{}) (end func()) {
	t.Helper()
	e := s.engine(t, store, w, cut)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		err := <-done
		select {
		case <-cut: // it was killed, whatever it says
		default:
			if err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(end)
	return end
}

// roll knows as whom a worker has joined.
type roll struct {
	pawl.Store
	id atomic.Int64
}

func (r *roll) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (int64, error) {
	id, err := r.Store.Join(ctx, w, until)
	r.id.Store(id)
	return id, err
}

func (r *roll) Watch(ctx context.Context, hint func()) error {
	return r.Store.(pawl.Watcher).Watch(ctx, hint)
}

// people do what the case says of waits, when the run has come to wait for nothing else.
func (s *stage) people(ctx context.Context, e *pawl.Engine, id string) error {
	for _, wait := range slices.Sorted(maps.Keys(s.c.Waits)) {
		w := s.c.Waits[wait]
		for decided := false; !decided; time.Sleep(10 * time.Millisecond) {
			run, err := e.Get(ctx, pawl.Ref{ID: id})
			if err != nil || run.State.Terminal() {
				return err
			}
			open, err := approval.List(ctx, e, approval.Filter{Run: id})
			i := slices.IndexFunc(open.Items, func(a approval.Approval) bool { return path.Base(a.ID) == wait })
			if err != nil {
				return err
			}
			if run.State != pawl.Waiting || i < 0 {
				continue
			}
			answer := approval.Answer{Approved: w["approved"] == true, By: fmt.Sprint(w["by"]), Shown: open.Items[i].Shown}
			answer.Comment, _ = w["comment"].(string)
			if form, is := w["form"]; is {
				answer.Form, _ = json.Marshal(form)
			}
			_, err = approval.Decide(ctx, e, pawl.Ref{ID: open.Items[i].ID}, answer)
			if err != nil && !errors.Is(err, pawl.ErrConflict) && !errors.Is(err, pawl.ErrState) {
				return fmt.Errorf("%s: %w", wait, err)
			}
			decided = true
		}
	}
	return nil
}

// shows reads what came of a run.
func (s *stage) shows(t *testing.T, e *pawl.Engine, id string, calls *recorder) shown {
	t.Helper()
	run, err := e.Get(t.Context(), pawl.Ref{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	out := shown{state: run.State, reason: strings.ReplaceAll(run.Reason, id, "RUN"), calls: calls.keys()}
	out.result, _ = pawl.Attach[json.RawMessage](e, id).Result(t.Context()) // of a failed run: nothing
	steps := map[string]bool{}
	for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: id}) {
		if err != nil {
			t.Fatal(err)
		}
		if entry.Kind == pawl.KindStep && !entry.Failed {
			if steps[entry.Key] {
				out.twice = append(out.twice, entry.Key)
			}
			steps[entry.Key] = true
		}
		out.keys = append(out.keys, entry.Kind.String()+" "+entry.Key)
	}
	slices.Sort(out.keys)
	out.keys = slices.Compact(out.keys)
	return out
}
