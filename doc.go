// Package pawl runs workflows whose completed steps never run again: not after a
// crash, a deploy, a power cut or a week of waiting for a person.
//
// A workflow is an ordinary Go function that takes a *[Context]. What it does to the
// outside world it does in steps: [Step] runs a function, commits its result to the
// run's journal, and from then on returns the recorded result, whatever happens to the
// process. [Context.Sleep], [WaitFor], hooks and children wait for days at the price of
// a row.
//
//	var Greet = pawl.Define("greet", func(c *pawl.Context, name string) (string, error) {
//		text, err := pawl.Step(c, "write", func(ctx context.Context) (string, error) {
//			return model.Ask(ctx, "Greet "+name)
//		})
//		if err != nil {
//			return "", err
//		}
//		if err := c.Sleep(24 * time.Hour); err != nil {
//			return "", err
//		}
//		return text, nil
//	})
//
// # What is promised
//
// The body of a step runs at least once; its result is recorded exactly once. Hand
// [Info.StepID] to the outside world as the idempotency key: it is the same on every
// attempt, after every crash. A record that was acknowledged survives a kill always and
// a power cut under the stores' default settings.
//
// # What workflow code must do
//
// Between durable calls a workflow function must be a function of what those calls
// returned: it is run again, from its journal, after a crash, after an eviction and on
// another worker. So: time from [Context.Now], randomness from [Context.Rand],
// goroutines by [Go] and [Map], everything else inside a step. Steps are known by name,
// not by position: adding one does not break the runs under way.
//
// The package imports the standard library only. Stores live in sqlite and postgres.
package pawl
