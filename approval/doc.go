// Package approval lets a workflow wait for a person's decision.
//
// [Ask] asks for it and waits: it says what is to be decided, who may decide it, until when,
// who is reminded and who is asked when nobody answers. From outside, [List] and [Get] show
// what waits, and [Decide] decides it. [Links] are addresses for people without an account:
// each is for one approval and one approver, and works once.
//
// What it promises: exactly one decision counts. Decide returns without an error only where
// its vote is durable and is the run's, also if the approval expires at the same moment; whoever
// comes second gets a [*DecidedError] with who was first, and when. A decision is about what
// the decider was shown: [Approval.Shown] names it, and one about something else is refused.
// An approval survives crashes, pauses and retries of its run, and ends with it.
//
// What it never does: it does not know people. Who somebody is must be checked by whoever
// calls Decide with a name, or by the way on which a link was sent. It sends nothing by itself:
// [Request].Notify does. It never fetches what a schema refers to.
//
// The package is written with the exported names of pawl only. What waits is a hook of the run
// of the kind [Kind]; the journal of the run is its audit ([History]); decided approvals lie in
// records, for as long as Request.Keep says.
package approval
