package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// siblings are what may be under way beside a branch that fails.
var siblings = map[string]func(n *siblingStory, c *pawl.Context) error{
	"sleeps": func(_ *siblingStory, c *pawl.Context) error { return c.Sleep(time.Hour) },
	"waits":  func(_ *siblingStory, c *pawl.Context) error { _, err := pawl.WaitFor[int](c, "go"); return err },
	"hooks": func(s *siblingStory, c *pawl.Context) error {
		h, err := pawl.NewHook[int](c, pawl.Token(s.token))
		if err != nil {
			return err
		}
		_, err = h.Wait(c)
		return errors.Join(err, h.Close(c))
	},
	"works": func(s *siblingStory, c *pawl.Context) error {
		return pawl.Do(c, "work", func(ctx context.Context) error {
			if s.mended.Load() {
				return nil
			}
			return s.working.pass(ctx)
		})
	},
	"maps": func(_ *siblingStory, c *pawl.Context) error {
		_, err := pawl.Map(c, "in", []int{1, 2, 3}, func(c *pawl.Context, i int) (int, error) { return i, c.Sleep(time.Hour) }, pawl.Limit(2))
		return err
	},
	"races": func(_ *siblingStory, c *pawl.Context) error {
		a := pawl.Go(c, "a", func(c *pawl.Context) (int, error) { return pawl.WaitFor[int](c, "go") })
		b := pawl.Go(c, "b", func(c *pawl.Context) (int, error) { return 0, c.Sleep(time.Hour) })
		_, err := pawl.Race(c, a, b)
		return err
	},
}

type siblingStory struct {
	token   string
	working *gate
	mended  atomic.Bool
}

// TestRetryTakesCancelledBranchesAlong: branches that were cancelled because one of them failed go on when the run does,
// wherever they were, and nothing that is recorded is done again.
func TestRetryTakesCancelledBranchesAlong(t *testing.T) {
	gather := map[string]func(c *pawl.Context, names []string, each func(c *pawl.Context, name string) (string, error)) ([]string, error){
		"All": func(c *pawl.Context, names []string, each func(c *pawl.Context, name string) (string, error)) ([]string, error) {
			var fs []*pawl.Future[string]
			for _, name := range names {
				fs = append(fs, pawl.Go(c, name, func(c *pawl.Context) (string, error) { return each(c, name) }))
			}
			return pawl.All(c, fs...)
		},
		"Map": func(c *pawl.Context, names []string, each func(c *pawl.Context, name string) (string, error)) ([]string, error) {
			return pawl.Map(c, "each", names, each)
		},
		"Limit": func(c *pawl.Context, names []string, each func(c *pawl.Context, name string) (string, error)) ([]string, error) {
			return pawl.Map(c, "each", names, each, pawl.Limit(2))
		},
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		for how, all := range gather {
			for what, body := range siblings {
				t.Run(how+" "+what, func(t *testing.T) {
					t.Parallel()
					story := &siblingStory{token: t.Name(), working: newGate()}
					var ran counts
					w := pawl.Define(how+"-"+what, func(c *pawl.Context, _ none) ([]string, error) {
						out, err := all(c, []string{"sibling", "culprit"}, func(c *pawl.Context, name string) (string, error) {
							if err := pawl.Do(c, "dear", func(context.Context) error { ran.add(name); return nil }); err != nil {
								return "", err
							}
							if name == "sibling" {
								return name, body(story, c)
							}
							if _, err := pawl.WaitFor[none](c, "charge"); err != nil {
								return "", err
							}
							return name, pawl.Do(c, "charge", func(context.Context) error {
								if ran.add("charge"); story.mended.Load() {
									return nil
								}
								return pawl.Fatal(errors.New("declined"))
							})
						})
						if err != nil {
							return nil, fmt.Errorf("no payment: %w", err)
						}
						return out, nil
					})
					n := boot(t, open(), replays(), w)
					r := start(n, w, none{})
					under := func() {
						t.Helper()
						switch what {
						case "works":
							if !story.mended.Load() {
								story.working.wait(t)
							}
						case "hooks":
							n.hook(story.token)
							n.reaches(r.ID(), pawl.Waiting)
						default:
							n.reaches(r.ID(), pawl.Waiting)
						}
					}
					under()
					n.signal(r.ID(), "charge", none{})
					for range 2 { // also the second time
						var step *pawl.StepError
						if err := failure(n, r); !errors.As(err, &step) || step.Attempts != 1 {
							t.Fatalf("the run failed otherwise: %v", err)
						}
						if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
							t.Fatal(err)
						}
						n.until("the retry has ended", func() bool { return n.info(r.ID()).State == pawl.Failed })
					}
					story.mended.Store(true)
					if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
						t.Fatal(err)
					}
					if what != "works" {
						n.reaches(r.ID(), pawl.Waiting)
					}
					switch what {
					case "sleeps", "maps":
						n.until("the sleeps have ended", func() bool {
							if _, err := n.Wake(n.ctx, pawl.Ref{ID: r.ID()}, "", nil); err != nil && !errors.Is(err, pawl.ErrEnded) {
								t.Fatal(err)
							}
							return n.info(r.ID()).State == pawl.Completed
						})
					case "waits", "races":
						n.signal(r.ID(), "go", 1)
					case "hooks":
						n.hook(story.token)
						n.resume(story.token, 1)
					}
					equal(t, "result", result(n, r), []string{"sibling", "culprit"})
					for name, want := range map[string]int{"sibling": 1, "culprit": 1, "charge": 4} {
						equal(t, name, ran.get(name), want)
					}
					slept := 0
					for _, e := range n.journal(r.ID(), pawl.KindSleep) {
						if !e.Failed {
							slept++
						}
					}
					equal(t, "times that a sleep was begun", slept, map[string]int{"sleeps": 1, "races": 1, "maps": 3}[what])
				})
			}
		}
	})
}

// TestRetryAsksAllAgainThatFailedAtOnce: of branches that failed beside each other, in steps, in children and in branches of their
// own, one retry asks what made each of them fail. What one of them has dealt with stays.
func TestRetryAsksAllAgainThatFailedAtOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var ran counts
		var mended atomic.Bool
		fails := func(name string) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				ran.add(name)
				if mended.Load() {
					return nil
				}
				return pawl.Fatal(errors.New("declined"))
			}
		}
		kid := pawl.Define("kid", func(c *pawl.Context, _ none) (string, error) { return "kid", pawl.Do(c, "kid", fails("kid")) })
		w := pawl.Define("w", func(c *pawl.Context, _ none) ([]string, error) {
			step := pawl.Go(c, "step", func(c *pawl.Context) (string, error) {
				if err := pawl.Do(c, "handled", func(context.Context) error { ran.add("handled"); return pawl.Fatal(errors.New("no")) }); err == nil {
					return "", errors.New("it did not fail")
				}
				return "step", pawl.Do(c, "one", fails("one"))
			})
			inner := pawl.Go(c, "inner", func(c *pawl.Context) (string, error) {
				_, err := pawl.Map(c, "in", []int{0, 1}, func(c *pawl.Context, i int) (int, error) {
					if i == 0 {
						return 0, c.Sleep(time.Hour)
					}
					return 1, pawl.Do(c, "two", fails("two"))
				})
				if err != nil {
					return "", fmt.Errorf("inner: %w", err)
				}
				return "inner", nil
			})
			child := pawl.Go(c, "child", func(c *pawl.Context) (string, error) { return kid.Call(c, none{}) })
			if _, err := pawl.WaitFor[none](c, "all have failed"); err != nil {
				return nil, err
			}
			return pawl.All(c, step, inner, child)
		})
		n := boot(t, open(), nil, w, kid)
		r := start(n, w, none{})
		n.sees(r.ID(), pawl.KindStep, "step/one")
		n.sees(r.ID(), pawl.KindRace, "inner/$all")
		n.sees(r.ID(), pawl.KindChildEnd, "child/$child:kid.end")
		n.signal(r.ID(), "all have failed", none{})
		failure(n, r)
		mended.Store(true)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		n.until("the sleep has ended", func() bool {
			if _, err := n.Wake(n.ctx, pawl.Ref{ID: r.ID()}, "", nil); err != nil && !errors.Is(err, pawl.ErrEnded) {
				t.Fatal(err)
			}
			return n.info(r.ID()).State.Terminal()
		})
		equal(t, "result", result(n, r), []string{"step", "inner", "kid"})
		for name, want := range map[string]int{"handled": 1, "one": 2, "two": 2, "kid": 2} {
			equal(t, name, ran.get(name), want)
		}
	})
}

// TestRetryLeavesWhatTheCodeHasDealtWith: a failure of branches that the code went on from stays, and so does what it cancelled.
func TestRetryLeavesWhatTheCodeHasDealtWith(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var ran counts
		var mended atomic.Bool
		w := pawl.Define("w", func(c *pawl.Context, _ none) (string, error) {
			slept := ""
			a := pawl.Go(c, "a", func(c *pawl.Context) (int, error) {
				err := c.Sleep(time.Hour)
				slept = fmt.Sprint(err)
				return 0, err
			})
			b := pawl.Go(c, "b", func(c *pawl.Context) (int, error) {
				return 0, pawl.Do(c, "b", func(context.Context) error { ran.add("b"); return pawl.Fatal(errors.New("no")) })
			})
			_, err := pawl.All(c, a, b)
			if err == nil {
				return "", errors.New("b has not failed")
			}
			return slept, pawl.Do(c, "after", func(context.Context) error {
				if ran.add("after"); !mended.Load() {
					return pawl.Fatal(errors.New("not yet"))
				}
				return nil
			})
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		failure(n, r)
		mended.Store(true)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		equal(t, "result", result(n, r), "branch b failed first: cancelled")
		equal(t, "times", []int{ran.get("b"), ran.get("after")}, []int{1, 2})
	})
}

// TestAMapOfWhichSomeFailReplays: of several that failed the one that the journal names is the first in every replay, also where
// another fails before it is begun.
func TestAMapOfWhichSomeFailReplays(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var second atomic.Bool
		w := pawl.Define("w", func(c *pawl.Context, _ none) (string, error) {
			_, err := pawl.Map(c, "each", []int{0, 1, 2}, func(c *pawl.Context, i int) (int, error) {
				return i, pawl.Do(c, "do", func(ctx context.Context) error {
					switch i {
					case 1: // fails for a reason of its own behind the third, for which it is cancelled
						<-ctx.Done()
						return pawl.Fatal(errors.New("1"))
					case 2:
						return pawl.Fatal(errors.New("2"))
					}
					return nil
				})
			}, pawl.Limit(2))
			if err == nil {
				return "", errors.New("none failed")
			}
			if _, werr := pawl.WaitFor[none](c, "go"); werr != nil {
				return "", werr
			}
			second.Store(true)
			var step *pawl.StepError
			if !errors.As(err, &step) {
				return "", err
			}
			return step.Step, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		n.signal(r.ID(), "go", none{})
		equal(t, "result", result(n, r), "each[2]/do")
	})
}

// TestCodeThatFailsNoMore: a branch failed first, its siblings were cancelled, and by the time of the replay the code has been
// changed so that it does not fail. Nobody can say what its siblings would have done: the run waits for code that fits.
func TestCodeThatFailsNoMore(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		for what, body := range siblings {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				var mended atomic.Bool
				story := &siblingStory{token: t.Name(), working: newGate()}
				w := pawl.Define(what, func(c *pawl.Context, _ none) (string, error) {
					a := pawl.Go(c, "a", func(c *pawl.Context) (int, error) {
						if _, err := pawl.WaitFor[none](c, "fail"); err != nil || mended.Load() {
							return 1, err
						}
						return 0, errors.New("a bug")
					})
					b := pawl.Go(c, "b", func(c *pawl.Context) (int, error) { return 2, body(story, c) })
					_, err := pawl.All(c, a, b)
					if _, err := pawl.WaitFor[none](c, "end"); err != nil {
						return "", err
					}
					return fmt.Sprint(err), nil
				})
				n := boot(t, open(), replays(), w)
				r := start(n, w, none{})
				n.signal(r.ID(), "fail", none{})
				n.until("a has failed", func() bool { return slices.Contains(n.keys(r.ID(), pawl.KindRace), "$all") })
				n.reaches(r.ID(), pawl.Waiting)
				mended.Store(true)
				n.signal(r.ID(), "end", none{})
				info := n.reaches(r.ID(), pawl.Blocked)
				if want := `"$all" recorded that branch a failed first, and now it does not fail`; !strings.Contains(info.Reason, want) {
					t.Errorf("the reason is %q, want it to tell %q", info.Reason, want)
				}
				mended.Store(false)
				if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
					t.Fatal(err)
				}
				equal(t, "result", result(n, r), "a bug")
			})
		}
	})
}

// TestLosersOfARaceDoNotWorkAgain: a retry asks the step of the winner again; the loser stays cancelled meanwhile.
func TestLosersOfARaceDoNotWorkAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var ran counts
		var mended atomic.Bool
		working := newGate()
		w := pawl.Define("w", func(c *pawl.Context, _ none) (string, error) {
			a := pawl.Go(c, "a", func(c *pawl.Context) (string, error) {
				if _, err := pawl.WaitFor[none](c, "go"); err != nil {
					return "", err
				}
				return "a", pawl.Do(c, "a", func(context.Context) error {
					if ran.add("a"); !mended.Load() {
						return pawl.Fatal(errors.New("no"))
					}
					return nil
				})
			})
			b := pawl.Go(c, "b", func(c *pawl.Context) (string, error) {
				return "b", pawl.Do(c, "b", func(ctx context.Context) error { ran.add("b"); return working.pass(ctx) })
			})
			return pawl.Race(c, a, b)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		working.wait(t)
		n.signal(r.ID(), "go", none{})
		failure(n, r)
		mended.Store(true)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		equal(t, "result", result(n, r), "a")
		equal(t, "times", []int{ran.get("a"), ran.get("b")}, []int{2, 1})
	})
}

// TestJoinWaitsForBranches, also in a scope that was cancelled, and for those of an All that was; it leaves nothing in the journal.
func TestJoinWaitsForBranches(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("w", func(c *pawl.Context, _ none) (string, error) {
			inner, stop := pawl.WithCancel(c)
			shared := ""
			slow := pawl.Go(c, "slow", func(c *pawl.Context) (none, error) {
				_, err := pawl.WaitFor[none](c, "go")
				shared = "set"
				return none{}, err
			})
			stop(nil)
			if _, err := pawl.All(inner, slow); !errors.Is(err, pawl.ErrCancelled) {
				return "", fmt.Errorf("All in a cancelled scope: %v", err)
			}
			if _, err := slow.Wait(inner); !errors.Is(err, pawl.ErrCancelled) {
				return "", fmt.Errorf("Wait in a cancelled scope: %v", err)
			}
			pawl.Join(inner, slow)
			if _, err := pawl.WaitFor[none](c, "end"); err != nil {
				return "", err
			}
			return shared, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		n.signal(r.ID(), "go", none{})
		n.signal(r.ID(), "end", none{})
		equal(t, "result", result(n, r), "set")
		equal(t, "of branches", fmt.Sprint(n.keys(r.ID(), pawl.KindRace)), "[$all $wait]")
	})
}
