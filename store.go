package pawl

import (
	"context"
	"encoding/json"
	"time"
)

// Store keeps runs. It is the only authority: what is not in it did not happen. sqlite
// and postgres implement it; storetest holds its promises as tests.
//
// Every method is safe for concurrent use, takes the time as an argument where time
// matters, and changes the store in one transaction or not at all. An error that a method
// returns as such (not in an answer field) means that nothing was written, unless it wraps
// ErrUnknownOutcome: then the transaction may have been committed or not. An error that wraps
// ErrRefused says that the same call would be refused for ever: for what is in it, not for
// the state of the store or its disk.
type Store interface {
	// Join makes a worker: one row, whose lease ends at until unless Beat extends it.
	Join(ctx context.Context, w WorkerInfo, until time.Time) (worker int64, err error)
	// Beat extends a worker's lease. ErrFenced: the worker was declared dead.
	Beat(ctx context.Context, worker int64, now, until time.Time) error
	// Leave ends a worker; the runs that it still holds become claimable at once, and it
	// counts as no failure of theirs.
	Leave(ctx context.Context, worker int64, now time.Time) error

	// Commit writes b in one transaction and fills in its answers. Each Change, Start, Send,
	// Order, Write and so on in it is whole or absent. It refuses all with ErrFenced when b.Worker is
	// not zero and no longer holds its lease: the check is part of the transaction. It
	// refuses all with ErrRefused when a Change can't be stored; the caller then commits each
	// by itself.
	Commit(ctx context.Context, b *Batch) error

	// Claim declares workers dead whose lease has ended, frees their runs, and gives the
	// asking worker up to Limit runs that are ready or due, highest rank first.
	Claim(ctx context.Context, r ClaimRequest) (Claims, error)
	// Mail returns messages for runs that the worker holds, oldest first.
	Mail(ctx context.Context, worker int64) ([]Mail, error)

	// Journal returns entries of a run with Seq > after, in order, at most limit of them
	// or about 4 MiB, whichever comes first; fewer than that only at the end.
	Journal(ctx context.Context, run int64, after int64, limit int) ([]Entry, error)
	// Index returns entries as Journal does, but for what they hold where that is longer than
	// inline bytes: then Data is nil and Size tells how long it is. It reads no more than it returns.
	Index(ctx context.Context, run int64, after int64, limit, inline int) ([]Entry, error)
	// Result returns the newest entry of a run: of an ended one, its KindResult.
	Result(ctx context.Context, run int64) (Entry, error)
	// Lookup finds a run by id. ErrNotFound.
	Lookup(ctx context.Context, tenant, id string) (RunInfo, error)
	// List returns a page of runs, newest first.
	List(ctx context.Context, f Filter) ([]RunInfo, error)
	// Chunks returns chunks of a stream with Index >= from, in order, at most limit of them
	// or about 4 MiB; none only where there is none.
	Chunks(ctx context.Context, run int64, stream string, from int64, limit int) ([]Chunk, error)
	// Streams tells what streams a run has written.
	Streams(ctx context.Context, run int64) ([]StreamInfo, error)
	// FindHook finds the hook with a token, which it takes as it is stored: one that code has
	// chosen among those of the tenant (see [TokenSpace]). ErrEnded, with the hook: it was
	// closed or its run has ended, and it is held or remembered. ErrNotFound.
	FindHook(ctx context.Context, tenant, token string, now time.Time) (HookInfo, error)
	// ListHooks returns a page of hooks in the order of their making.
	ListHooks(ctx context.Context, f HookFilter) ([]HookInfo, error)
	// Holders lists what a run is queued behind or waits for, for Engine.Why.
	Holders(ctx context.Context, run int64, now time.Time) (Holders, error)

	// Budgets lists budgets by name. Their counts are those of the window that now lies in.
	Budgets(ctx context.Context, f BudgetFilter, now time.Time) ([]Budget, error)
	// Charges returns a page of the ledger, oldest first.
	Charges(ctx context.Context, f ChargeFilter) ([]Charge, error)
	// Costs sums the ledger by what f says, whole keys of steps apart, in no order.
	Costs(ctx context.Context, f CostFilter) ([]Cost, error)

	// Records returns records of a space whose key begins with prefix and comes after a
	// key, in the order of their keys, at most limit. Those that have expired by now are not there.
	Records(ctx context.Context, space, prefix, after string, limit int, now time.Time) ([]Record, error)

	// News returns a reader of what changes from now on, whoever changes it.
	News(ctx context.Context, now time.Time) (NewsReader, error)

	// Audit looks for runs that nothing would ever wake and makes them claimable; it
	// reports what it found. On a sound store it finds nothing.
	Audit(ctx context.Context, now time.Time) ([]Finding, error)
	// Purge deletes up to limit terminal runs whose retention has ended, with all that is
	// theirs but their charges, and as many expired records and forgotten hooks. It returns
	// the largest of these counts: with less than limit nothing is left.
	Purge(ctx context.Context, now time.Time, limit int) (int, error)
	// Queued counts a tenant's runs that are Pending, and Unread the messages of a run that it has
	// not taken. Neither reads more than most of them, nor returns more.
	Queued(ctx context.Context, tenant string, most int) (int, error)
	Unread(ctx context.Context, run int64, most int) (int, error)
	// Tally counts the runs of a workflow and tells how long they took; it looks at no more than
	// f.Most of them, the newest.
	Tally(ctx context.Context, f TallyFilter) (Tally, error)
	// Stats counts.
	Stats(ctx context.Context, now time.Time) (Stats, error)
	// Close waits for calls under way and gives everything back.
	Close() error
}

// Watcher is a second interface of stores that several processes share: Watch calls hint
// soon after some other process has made a run ready or has sent a message, until ctx
// ends. A hint may be lost or come for nothing; polling is the guarantee.
type Watcher interface {
	Watch(ctx context.Context, hint func()) error
}

// NewsReader tells what has changed in a store: each change that was committed after the
// reader was made, by whatever process, once. It is used by one goroutine at a time.
type NewsReader interface {
	// Next returns what has changed since it was called last, run by run: the row as it is
	// now, whatever it was in between. It does not wait. ErrGap: more has changed than it can
	// tell; what comes from here on it will.
	Next(ctx context.Context, now time.Time) ([]News, error)
	// Close ends the reader.
	Close() error
}

// News is what has happened to one run.
type News struct {
	Run     RunInfo // as it is now, with its attributes
	Moved   bool    // its row was written
	Entries []Entry // that were appended to its journal, in order and without Data
}

// WorkerInfo describes one process start of an engine that works.
type WorkerInfo struct {
	Name    string // host and process, for people
	Started time.Time
}

// Batch is what one commit writes: all that a worker's runs and its callers have to say.
type Batch struct {
	Worker    int64 // zero: a client, which then has no Changes
	Now       time.Time
	Room      int      // how many runs the store may grant to Worker at once
	Workflows []string // that Worker knows: the store grants no others

	Changes []*Change
	Starts  []*Start
	Sends   []*Send
	Orders  []*Order
	Budgets []*BudgetOrder
	Settles []*Settle // by hand
	Writes  []*Write  // of records

	// Answers.
	Granted []Claim   // runs that became the worker's in this commit
	Mail    []Mail    // messages for runs that the worker holds
	Ready   bool      // some run became claimable
	Due     time.Time // the earliest time at which a run of this batch becomes due; zero: none
}

// Change is what one run has to say in one commit. It is stored whole or not at all.
type Change struct {
	Run   int64
	Epoch int64 // checked when To is set

	Entries  []Entry // appended; their Seqs go on from the run's last
	Consumed []int64 // messages that Entries took out of the inbox
	Waits    []Wait  // waits registered
	Unwaits  []string
	Hooks    []HookSpec
	Unhooks  []string // keys of hooks given back
	Chunks   []Chunk
	Attrs    []Attr
	Children []*Start
	Cancels  []int64 // children to be cancelled, by run key
	Reserves []*Reserve
	Settles  []*Settle
	// Puts are records, each of a key that nobody else writes, whatever its version; they are stored if To was not refused.
	Puts []Put
	Solo bool  // from now until its next Move, a death of the worker is this run's fault alone
	To   *Move // nil: the run's row is not touched

	// Answers.
	Err  error     // ErrFenced: To met another epoch; nothing of this change was stored
	Mail []Message // To was refused because these came after To.Seen; the rest was stored
}

// Move takes a run out of its worker's hands: to wait, to end, or to stop.
type Move struct {
	State  State
	Reason string
	Due    time.Time // Waiting, Pending: earliest time to be woken; zero: Waiting only, by a message
	Seen   int64     // Waiting, Paused: the newest message that the run has seen
	// Retention of an ended run; negative: for ever.
	Keep time.Duration
	// Next starts a run in this one's place (ContinueAs); it takes over parent, singleton,
	// limits, attributes, budgets and the events that were not taken.
	Next *Start
}

// Wait is a registered wait for an event by name, which Publish finds.
type Wait struct {
	Key   string
	Event string
	Need  int64 // what of a budget it waits for; zero: it waits for an event
}

// HookSpec registers a hook. The entry with the same key in the same Change is stored with
// Failed set, and a Failure in it, when the token is taken: by another live hook, or one that
// holds it after its run's end, in the same space (see [TokenSpace]).
type HookSpec struct {
	Key    string
	Token  string // as it is stored: the hash of one that is a secret
	Kind   string // what it is for, to list it by
	Meta   json.RawMessage
	Schema json.RawMessage
	Public bool          // reachable as a webhook
	Hold   time.Duration // how long the token stays taken after its run ended
	// Remember is how long a token is known to have ended, after that: until then it is
	// answered with ErrEnded, and is free all the same. That of a failed run is remembered as
	// long, and kept as long as the run, which may be retried.
	Remember time.Duration
	// Claim takes a token that is taken over from its owner, in this transaction, unless that
	// hook is Public. The owner's hook is gone, and a live owner is sent a message under
	// MsgClaim and the key of its hook, with [ClaimNotice] as its data; the journal of one that
	// has ended is not touched. The entry is stored as [Change.Took] makes it.
	Claim bool

	Owner string  // answer: the id of the run that holds the token; empty: registered
	From  HookRef // answer: whose the token was that Claim took; zero: nobody's

	answer *Answer // of a webhook, on its way into Meta
}

// Attr sets an attribute of a run; a nil Value unsets it.
type Attr struct {
	Name  string
	Value *string
}

// Chunk is one element of a stream.
//
// What a step's body wrote says which attempt it was: a step that is cut off, as by a kill, or
// that fails runs again, and writes again. A reader keeps what it has by Step, and drops that of
// a step at a chunk that is its attempt's First. What a workflow function wrote has neither Step,
// Attempt nor Epoch: it is written once.
type Chunk struct {
	Stream  string          `json:"stream,omitempty"`
	Index   int64           `json:"index"`
	At      time.Time       `json:"at"`
	Data    json.RawMessage `json:"data,omitempty"`
	Closed  bool            `json:"closed,omitempty"`  // the stream's end; no data
	Step    string          `json:"step,omitempty"`    // key of the step whose body wrote it
	Attempt int             `json:"attempt,omitempty"` // of the step, as in [Info]: one that was cut off does not count
	Epoch   int64           `json:"epoch,omitempty"`   // of the run as the attempt began, as in [Info]: greater after a kill
	First   bool            `json:"first,omitempty"`   // of its attempt in this stream: what earlier attempts of the step wrote is void
}

// StreamInfo tells how far a stream has come.
type StreamInfo struct {
	Name   string `json:"name"`
	Tail   int64  `json:"tail"` // index of the newest chunk; -1: none yet
	Closed bool   `json:"closed"`
}

// Message is what waits in a run's inbox.
type Message struct {
	ID   int64 // grows within a run
	Name string
	Data json.RawMessage
	At   time.Time
}

// Mail is a message for a run that a worker holds.
type Mail struct {
	Run int64
	Message
}

// Names of messages. An event is sent under msgEvent and its name, a hook's payload under
// msgHook and the hook's key, a child's end under msgChild and the child's key.
const (
	MsgEvent  = "event:"
	MsgHook   = "hook:"
	MsgChild  = "child:"
	MsgClaim  = "claim:" // and a hook's key: another hook has taken its token over
	MsgCancel = "cancel" // Data: an order
	MsgPause  = "pause"
	MsgWake   = "wake"
)

// Start stores a new run.
type Start struct {
	Run    NewRun
	Policy Policy
	Exact  bool  // with CancelOld and Queue: a taken id is answered with the run that has it, and not with another id
	Copy   *Copy // a fork: entries to begin with

	// Answers.
	Key     int64
	Existed bool    // the run was there already: Info is that run
	Info    RunInfo // as stored
	Err     error
}

// NewRun is what is known of a run at its start.
type NewRun struct {
	ID         string
	Tenant     string
	Workflow   string
	Version    string
	Input      json.RawMessage
	Seed       int64 // of Context.Rand
	Attrs      []Attr
	Priority   int
	NotBefore  time.Time
	Deadline   time.Time
	Parent     int64  // run key; zero: none
	ParentKey  string // the child's key in its parent's journal
	Detached   bool   // no message to the parent, no cancel from it
	Single     string // singleton key; empty: none
	Limits     []RunLimit
	Keep       time.Duration // retention; negative: for ever
	Budgets    []Budget      // of this run and its descendants
	Trace      string        // W3C traceparent of the starter
	ForkedFrom string
	Eager      bool // may be granted to the batch's worker at once
}

// Copy makes a fork: the entries of the run From with Seq < Until are copied, those in
// Replace in place of the copied ones with the same Seq.
type Copy struct {
	From    int64
	Until   int64
	Omit    []int64 // seqs that are not copied
	Replace []Entry
}

// RunLimit bounds how many runs with the same key are worked at once, or start per period.
type RunLimit struct {
	Key string        `json:"key"`
	N   int           `json:"n"`
	Per time.Duration `json:"per,omitempty"` // zero: a concurrency limit
}

// Policy says what a start does when its id or its singleton key is taken.
type Policy uint8

// The policies.
const (
	// ReturnExisting answers with the run that is there. The default. Another input under
	// the same id is ErrConflict.
	ReturnExisting Policy = iota
	// Reject answers ErrExists.
	Reject
	// CancelOld cancels the run that is there; the new one starts when it has ended.
	CancelOld
	// Queue lets the new run start when the one that is there has ended.
	Queue
)

// Send puts a message into inboxes.
type Send struct {
	// One of: a run, a hook's token, or an event to all that wait for it.
	Tenant  string
	RunID   string // with Token: the hook is to be of this run, or else it is ErrEnded
	Token   string
	Hook    int64 // with Token: the hook is to be that with this ID, or else it is Moved; zero: whichever
	Publish string

	Name string // with RunID: the message's name
	Data json.RawMessage

	// Once, if not nil, lets the message arrive once: see [Once].
	Once *Once

	// Answers.
	Info     RunInfo         // with RunID and Token: the run
	Count    int             // with Publish: how many runs got it
	Moved    bool            // nothing was sent: the token is that of another hook than Hook
	Repeated bool            // nothing was sent: Info, Count and First are what the first was answered
	First    json.RawMessage // the Answer that the first was given
	Err      error           // ErrNotFound, ErrEnded
}

// Once is the name of a delivery. A second one of the same name to the same addressee (a hook's
// token, a run and an event, or a tenant and an event that is published) is not delivered, for as
// long as the first is remembered. The decision is part of the transaction that has the message;
// what is remembered is the record that [Send.Remembers] makes.
type Once struct {
	ID     string
	Until  time.Time       // the first is remembered until then
	Answer json.RawMessage // what the first is answered, for repeats to be answered with
}

// Order is an operator's action on a run.
type Order struct {
	Verb   Verb
	Tenant string
	RunID  string
	Data   json.RawMessage // reason, or what to wake: journalled with the order
	Keys   []string        // Retry: keys whose failures are to be forgotten
	// Hooks are those that a Retry opens again. A row may be gone, as when another run has had the
	// token: then it is made anew.
	Hooks []HookSpec
	Also  []*Order // Retry: children, failed or cancelled, that go on with it; their ends so far are dropped

	// Migrate: the version that the run is to go on with, if its epoch is still this. One that waits or is blocked begins
	// to look for what it waits for anew; one that is paused stays so.
	Version string
	Epoch   int64

	// Answers.
	Info RunInfo
	Err  error // ErrNotFound, ErrEnded, ErrState; of a Retry *HookConflictError; of a Migrate ErrConflict: it has another epoch
}

// ReasonParentEnded is the Reason of a run that is cancelled because its parent has ended.
const ReasonParentEnded = "its parent has ended"

// Verb is what an order does.
type Verb uint8

// The verbs.
const (
	VerbCancel Verb = iota + 1
	VerbPause
	VerbUnpause
	VerbWake
	VerbRetry
	VerbDelete
	VerbMigrate
)

var verbNames = [...]string{"", "cancel", "pause", "resume", "wake", "retry", "delete", "migrate"}

func (v Verb) String() string { return verbNames[v] }

// ClaimRequest asks for runs.
type ClaimRequest struct {
	Worker    int64
	Now       time.Time
	Limit     int
	Workflows []string // those that the worker knows
}

// Claims is the answer to a claim.
type Claims struct {
	Runs []Claim
	Due  time.Time // the earliest time at which some unclaimed run becomes due; zero: none
	More bool      // there was more that is ready
}

// Claim is a run given to a worker, with what lay in its inbox.
type Claim struct {
	Info  RunInfo
	Mail  []Message
	Start *Start // granted at its start: the journal holds the input only
}

// RunInfo is what is known of a run without its journal.
type RunInfo struct {
	Key       int64             `json:"-"`
	ID        string            `json:"id"`
	Tenant    string            `json:"tenant,omitempty"`
	Workflow  string            `json:"workflow"`
	Version   string            `json:"version,omitempty"`
	State     State             `json:"state"`
	Reason    string            `json:"reason,omitempty"` // of Paused and Blocked; the error's text of Failed and Cancelled
	Epoch     int64             `json:"epoch"`            // how many times it was claimed
	Worker    int64             `json:"worker,omitempty"` // who holds it
	Priority  int               `json:"priority,omitempty"`
	Created   time.Time         `json:"created"`
	Updated   time.Time         `json:"updated"`
	Ended     time.Time         `json:"ended,omitzero"`
	Due       time.Time         `json:"due,omitzero"` // when a timer wakes it
	NotBefore time.Time         `json:"notBefore,omitzero"`
	Deadline  time.Time         `json:"deadline,omitzero"`
	ParentKey string            `json:"parentKey,omitempty"`
	Parent    string            `json:"parent,omitempty"`  // the parent run's id
	Next      string            `json:"next,omitempty"`    // the run that goes on in its place
	Gate      string            `json:"gate,omitempty"`    // the limit or singleton that it is queued behind
	Strikes   int               `json:"strikes,omitempty"` // claims that ended with a dead worker and no progress
	ParentRun int64             `json:"-"`                 // the parent's key
	Limits    string            `json:"-"`                 // its RunLimits, as JSON
	Seed      int64             `json:"-"`
	Detached  bool              `json:"-"`
	Keep      time.Duration     `json:"-"`
	Forked    string            `json:"forkedFrom,omitempty"`
	Trace     string            `json:"trace,omitempty"`
	Attrs     map[string]string `json:"attributes,omitempty"` // filled by Lookup, List and starts
	Existed   bool              `json:"existed,omitempty"`    // of a start's answer: the run was there already
}

// HookInfo is a hook. Stores fill in Token as it is stored; an [Engine] with the token, or with
// nothing where only the hash is known.
type HookInfo struct {
	ID     int64           `json:"id"` // grows in the order of their making; to page by
	Run    RunInfo         `json:"run"`
	Key    string          `json:"key"`
	Token  string          `json:"token,omitempty"`
	Kind   string          `json:"kind,omitempty"`
	Meta   json.RawMessage `json:"meta,omitempty"`
	Schema json.RawMessage `json:"schema,omitempty"`
	Public bool            `json:"public,omitempty"`
	At     time.Time       `json:"at"`
	Until  time.Time       `json:"until,omitzero"` // set: it is closed or its run has ended, and the token is free from then on

	stored string // by FindHook: the token as the store knows it, where Token is as it was asked for
}

// HookFilter picks hooks. Zero fields do not restrict, but for Tenant: "" is the default tenant.
type HookFilter struct {
	Tenant      string
	AllTenants  bool
	Run         int64  // of this run, whatever its tenant
	Key         string // with Run
	Kind        string
	TokenPrefix string // what a token begins with that its code has chosen
	Ended       bool   // those too that are closed or whose run has ended, as long as they are kept
	After       int64  // only hooks with a greater ID
	Limit       int    // 0 means 100; at most 1000
}

// Filter picks runs. Zero fields do not restrict, but for Tenant: "" is the default tenant, as
// everywhere.
type Filter struct {
	Tenant     string
	AllTenants bool   // whatever Tenant says: for operators of the whole store
	Query      string // what the id begins with
	Workflow   string
	States     []State
	Parent     int64
	Attrs      map[string]string
	After      time.Time // created at or after
	Before     time.Time // created before
	Cursor     int64     // only runs older than this key
	Limit      int       // 0 means 50; at most 1000
}

// Holders is what a run that does not move is waiting for.
type Holders struct {
	Events   []Wait
	Sent     []string // names of events that lie in its inbox and that it does not wait for, as they came; at most 100
	Hooks    []HookInfo
	Children []RunInfo // not ended
	Slot     *RunLimit // the limit that is full, where it is queued behind one
	Holds    []RunInfo // the runs that hold the slot or the singleton
	Ahead    int       // runs queued before it
	Worker   string    // name of the worker that holds it
}

// Finding is a run that nothing would have woken.
type Finding struct {
	RunID string
	State State
	What  string
}

// Stats counts what a store holds.
type Stats struct {
	Runs    map[State]int64 `json:"runs"`
	Ready   int64           `json:"ready"`       // claimable now
	Workers int64           `json:"workers"`     // whose lease has not ended
	Oldest  time.Duration   `json:"oldestReady"` // how long the oldest claimable run has waited
}

// LimitOf finds a limit by its key in what RunInfo.Limits holds.
func LimitOf(limits, key string) *RunLimit {
	var all []RunLimit
	if json.Unmarshal([]byte(limits), &all) == nil {
		for i := range all {
			if all[i].Key == key {
				return &all[i]
			}
		}
	}
	return nil
}
