// Package pawltest tests workflows: with an engine in memory, in virtual time, with the
// bodies of steps replaced where a test needs it, and with a crash at every commit.
//
// # A week in a blink
//
// [Run] calls a test in a bubble of package testing/synctest, in which time stands still
// until everybody waits, and then jumps. A workflow that sleeps for a week is done at once:
//
//	func TestReminder(t *testing.T) {
//		pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
//			h.MockStep("mail", func(ctx context.Context) (any, error) { return "sent", nil })
//			run := pawltest.Start(h, Reminder, "ann")
//			h.AwaitEvent(run.ID(), "answered") // three days of Sleep later
//			h.Signal(run.ID(), "answered", true)
//			if got := pawltest.Result(h, run); got != "thanked" {
//				t.Errorf("got %q", got)
//			}
//		}, Reminder)
//	}
//
// [New] makes the same Harness for a test that makes its bubble itself, or that wants real
// time, for instance because its steps talk to a real server.
//
// # Requests to webhooks
//
// [Harness.Client] returns an http.Client whose requests reach a handler, such as that of package
// api, over HTTP in memory: to a run's webhook ([Harness.AwaitWebhook]), to a stream, to routes of
// one's own. It works in virtual time and in drivers, and survives [Harness.Crash].
//
// # A crash at every commit
//
// A workflow survives a crash if its function is determined by its input and by what its
// durable calls returned, and if its steps hand their idempotency key to the outside world.
// [CrashEverywhere] tries that out:
//
//	func TestOrderSurvivesCrashes(t *testing.T) {
//		pawltest.CrashEverywhere(t, Order, Cart{"book"},
//			pawltest.WithChildren(Shipping), // the workflows that it starts as children
//			pawltest.WithDriver(func(h *pawltest.Harness, runID string) {
//				h.AwaitEvent(runID, "paid")
//				h.Signal(runID, "paid", 12)
//			}))
//	}
//
// It runs the workflow undisturbed, and then once more for each commit of the worker and
// for both of a commit's bad moments: the worker dies before the commit is applied, and
// after it was applied but before the worker hears of it. Another worker takes over. Result,
// journal, attributes, streams and effects of the run and of all the runs that it starts
// must be those of the undisturbed run, and no body may run whose result is recorded.
// Count what your steps do to the outside world with [Effects].
//
// # What it never does
//
// It touches no file and no network, and it does not lighten the engine's promises: it is
// the real engine on a real store, SQLite in memory. It does not judge whether a step's body
// is idempotent, only what it does when it is called with the same key again: that it is
// called again is promised. In virtual time a step's body must not wait for the network or
// for anything else outside of the bubble but for a moment, and must heed its context: a
// goroutine that never ends keeps the bubble from ending.
package pawltest
