// Package trigger starts runs: by the clock, by events, and by signed HTTP requests.
//
//   - [Cron] is a parsed cron expression in a time zone; [Schedule] is a row that says what to
//     start when, [Schedules] keeps the rows, and any number of [Runner]s fire them.
//   - [Publish] hands an event to all who want it: to [Subscription]s, which start a run each,
//     and to runs that wait, with [pawl.WaitFor] or with [WaitFor], which can also look back.
//   - [Webhook] starts a run for each request that its [Verifier] lets through.
//   - [Set] gathers what a program declares of all these.
//
// Nothing here needs a leader: ids of runs are made of what started them (a schedule and its
// slot, a subscription and its event, a webhook and its delivery), so that any process may do
// the same start again and the store keeps the first.
//
// What it keeps are records of the engine's store. It never keeps anything in memory that
// others would miss, and it starts no goroutine outside of [Runner.Run].
package trigger
