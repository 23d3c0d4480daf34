package pawl

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// USD is the meter of money, in millionths of a US dollar.
const USD = "usd"

// Budget bounds what may be spent of a meter. What a step is about to spend is reserved on
// every budget that applies to its run, in one transaction, or on none; so no race overruns
// a budget, and a crash only leaves something reserved. A budget without Run, Workflow and
// Attr applies to every run of its tenant.
type Budget struct {
	ID     int64         `json:"-"`
	Name   string        `json:"name"` // unique within its tenant
	Tenant string        `json:"tenant,omitempty"`
	Meter  string        `json:"meter"`
	Limit  int64         `json:"limit"`          // in units of the meter
	Per    time.Duration `json:"per,omitempty"`  // the limit holds for each period of this length, counted from 1970 in UTC: 24 h is a day; 0: for ever
	Wait   bool          `json:"wait,omitempty"` // a step that finds too little left waits until there is enough; else it fails with ErrBudget

	Run      string `json:"run,omitempty"`      // applies to the run with this id and to its descendants, detached ones excepted
	Workflow string `json:"workflow,omitempty"` // applies to runs of this workflow
	Attr     string `json:"attr,omitempty"`     // applies to runs whose attribute of this name
	Value    string `json:"value,omitempty"`    // has this value

	Extra    int64     `json:"extra,omitempty"` // what TopUp has added to the limit, in this period where it has one
	Spent    int64     `json:"spent"`           // in this period
	Reserved int64     `json:"reserved"`        // for what is under way, and for what was cut off by a crash
	Since    time.Time `json:"since,omitzero"`  // when this period began; zero where there is but one
}

// Left is how much may still be reserved. It can be negative, after a limit was lowered or
// something cost more than was reserved for it.
func (b *Budget) Left() int64 { return b.Limit + b.Extra - b.Spent - b.Reserved }

// Until is when the period ends; zero where there is but one.
func (b *Budget) Until() time.Time {
	if b.Per <= 0 {
		return time.Time{}
	}
	return b.Since.Add(b.Per)
}

// Roll begins a new period if the one that the counts are of has ended by now. It reports
// whether it did. Stores call it before they look at the counts.
func (b *Budget) Roll(now time.Time) bool {
	if b.Per <= 0 {
		return false
	}
	since := time.UnixMicro(now.UnixMicro() - now.UnixMicro()%b.Per.Microseconds()).UTC()
	if !since.After(b.Since) { // a clock that was set back begins no period again
		return false
	}
	b.Since, b.Spent, b.Reserved, b.Extra = since, 0, 0, 0
	return true
}

// Event is the name of the event that wakes a step when there may be enough left for it.
func (b *Budget) Event() string { return fmt.Sprintf("%s%d", budgetEvent, b.ID) }

const budgetEvent = "$budget:"

func (b *Budget) validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: budget %q: %s", ErrInput, b.Name, fmt.Sprintf(format, args...))
	}
	if err := checkName("name of a budget", b.Name); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	if err := checkName("name of a meter", b.Meter); err != nil {
		return fmt.Errorf("%w: budget %q: %w", ErrInput, b.Name, err)
	}
	for what, text := range map[string]string{"run": b.Run, "workflow": b.Workflow, "attribute": b.Attr, "attribute's value": b.Value, "tenant": b.Tenant} {
		if !isText(text) || len(text) > 4*maxName {
			return bad("its %s is no text of at most %d bytes without NUL", what, 4*maxName)
		}
	}
	switch {
	case b.Limit < 0 || b.Limit > maxAmount:
		return bad("its limit is %d; it must be from 0 to %d", b.Limit, int64(maxAmount))
	case b.Per < 0 || b.Per > 0 && b.Per < time.Second:
		return bad("its period is %v; it must be a second or longer, or 0 for ever", b.Per)
	case b.Attr == "" && b.Value != "":
		return bad("it has the value %q of no attribute; set Attr", b.Value)
	}
	return nil
}

// maxAmount bounds limits and amounts, so that sums of them do not overflow.
const maxAmount = math.MaxInt64 / 1_000_000

// BudgetError reports that a step was to spend more than a budget has left. Nothing was
// reserved. Where the budget says so, the step waits after it; else it is fatal.
type BudgetError struct {
	Budget Budget // as it was then
	Need   int64  // what was to be reserved
}

func (e *BudgetError) Error() string {
	b := &e.Budget
	text := fmt.Sprintf("budget %q has %s left of %s, and this needs up to %s (spent %s, reserved %s)", b.Name, amount(b.Meter, b.Left()),
		amount(b.Meter, b.Limit+b.Extra), amount(b.Meter, e.Need), amount(b.Meter, b.Spent), amount(b.Meter, b.Reserved))
	if until := b.Until(); !until.IsZero() {
		text += ", until " + until.Format(time.RFC3339)
	}
	return text + "; top it up, raise its limit, or spend less"
}
func (e *BudgetError) Is(target error) bool { return target == ErrBudget }

// Fatal reports whether another attempt is not worth it: a step waits where the budget says so.
func (e *BudgetError) Fatal() bool { return !e.Budget.Wait }

// ErrorCode names the error in a journal.
func (e *BudgetError) ErrorCode() string { return "budget" }

// amount writes an amount of a meter for people.
func amount(meter string, n int64) string {
	if meter != USD {
		return fmt.Sprintf("%d %s", n, meter)
	}
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	cents := strings.TrimRight(fmt.Sprintf("%06d", n%1e6), "0")
	return fmt.Sprintf("%s$%d.%s", sign, n/1e6, cents+strings.Repeat("0", max(2-len(cents), 0)))
}

// BudgetVerb is what a BudgetOrder does.
type BudgetVerb uint8

// The verbs.
const (
	BudgetSet BudgetVerb = iota + 1 // makes it, or gives it another limit, period or scope; what was spent stays
	BudgetTopUp
	BudgetDelete
)

// BudgetOrder is an operator's action on a budget.
type BudgetOrder struct {
	Verb   BudgetVerb
	Budget Budget  // TopUp, Delete: Name and Tenant
	By     int64   // TopUp
	If     *Budget // what must be set of it, by Budget.SameSettings; nil: whatever
	With   *Put    // a record that is written with it; if that is of another version, neither is

	// Answers.
	Info Budget
	Err  error // ErrNotFound: no such budget, or no such run; ErrInput; *BudgetConflictError; *RecordConflictError
}

// BudgetOption is an option of an order on a budget.
type BudgetOption func(*BudgetOrder)

// IfBudget lets an order be carried out only if what people set of the budget is as in was, decided
// in the transaction of the order: else *[BudgetConflictError]. What is spent of it does not count.
func IfBudget(was Budget) BudgetOption { return func(o *BudgetOrder) { o.If = &was } }

// WithRecord writes a record in the transaction of an order on a budget, so that neither is there without
// the other. If the record is not of the version that p names, nothing is done: *[RecordConflictError].
func WithRecord(p Put) BudgetOption { return func(o *BudgetOrder) { o.With = &p } }

// BudgetConflictError reports that a budget is not as an order was to find it. It is an
// ErrConflict. Nothing was done.
type BudgetConflictError struct {
	Name string
	Gone bool // it is not there any more
}

func (e *BudgetConflictError) Error() string {
	if e.Gone {
		return fmt.Sprintf("budget %q is not there any more", e.Name)
	}
	return fmt.Sprintf("budget %q was changed by somebody else; read it again", e.Name)
}

// Is makes it an ErrConflict.
func (e *BudgetConflictError) Is(target error) bool { return target == ErrConflict }

// SameSettings reports whether all that people set of two budgets is the same: limit, period, scope,
// Wait, and what TopUp has added.
func (b *Budget) SameSettings(o *Budget) bool {
	set := func(b *Budget) Budget {
		return Budget{
			Name: b.Name, Tenant: b.Tenant, Meter: b.Meter, Limit: b.Limit, Per: b.Per, Wait: b.Wait,
			Run: b.Run, Workflow: b.Workflow, Attr: b.Attr, Value: b.Value, Extra: b.Extra,
		}
	}
	return set(b) == set(o)
}

// Refuses decides, of the budget as it is now, nil where there is none, whether the order's If holds.
// Stores call it when the budget's row is theirs until they commit.
func (o *BudgetOrder) Refuses(now *Budget) error {
	switch {
	case o.If == nil:
		return nil
	case now == nil:
		return &BudgetConflictError{Name: o.Budget.Name, Gone: true}
	case !now.SameSettings(o.If):
		return &BudgetConflictError{Name: o.Budget.Name}
	}
	return nil
}

// BudgetFilter picks budgets. Zero fields do not restrict.
type BudgetFilter struct {
	Tenant string // "" is the default tenant
	Name   string
	ID     int64 // whatever its tenant
	Run    int64 // of this run, by key
	Shared bool  // none of single runs
	After  string
	Limit  int // 0 means 100; at most 1000
}

// SetBudget makes a budget, or changes the limit, period, scope and Wait of the one that has
// its name; what was spent of it stays, and what TopUp has added: a program may set its
// budgets anew at each start. It holds from the next reservation on. ErrInput;
// ErrNotFound: no run has the id Run.
func (e *Engine) SetBudget(ctx context.Context, b Budget, opts ...BudgetOption) (Budget, error) {
	b.Meter = cmp.Or(b.Meter, USD)
	if err := b.validate(); err != nil {
		return b, err
	}
	return e.budget(ctx, "set", &BudgetOrder{Verb: BudgetSet, Budget: b}, opts)
}

// TopUp lets by more be spent of a budget: for good, or where it has a period, in this one.
// Steps that wait for it and now fit go on. A negative amount takes away. ErrNotFound, ErrInput.
func (e *Engine) TopUp(ctx context.Context, tenant, name string, by int64, opts ...BudgetOption) (Budget, error) {
	if by < -maxAmount || by > maxAmount {
		return Budget{}, fmt.Errorf("%w: top up budget %q: %d is over the limit of %d", ErrInput, name, by, int64(maxAmount))
	}
	return e.budget(ctx, "top up", &BudgetOrder{Verb: BudgetTopUp, Budget: Budget{Tenant: tenant, Name: name}, By: by}, opts)
}

// DeleteBudget removes a budget; steps that wait for it go on. ErrNotFound.
func (e *Engine) DeleteBudget(ctx context.Context, tenant, name string, opts ...BudgetOption) error {
	_, err := e.budget(ctx, "delete", &BudgetOrder{Verb: BudgetDelete, Budget: Budget{Tenant: tenant, Name: name}}, opts)
	return err
}

func (e *Engine) budget(ctx context.Context, deed string, o *BudgetOrder, opts []BudgetOption) (Budget, error) {
	name := o.Budget.Name
	for _, opt := range opts {
		opt(o)
	}
	if o.With != nil {
		if err := e.checkPuts(*o.With); err != nil {
			return Budget{}, fmt.Errorf("%s budget %q: %w", deed, name, err)
		}
	}
	if err := e.submit(ctx, &item{budget: o}); err != nil { // o may still be written to
		return Budget{}, fmt.Errorf("%s budget %q: %w", deed, name, err)
	}
	if o.Err != nil {
		return o.Info, fmt.Errorf("%s budget %q: %w", deed, name, o.Err)
	}
	return o.Info, nil
}

// Budgets lists budgets by name, with what is spent of them in their present period. The
// next page has the name of the last as its After.
func (e *Engine) Budgets(ctx context.Context, f BudgetFilter) ([]Budget, error) {
	f.Limit = min(cmp.Or(max(f.Limit, 0), 100), 1000)
	return e.store.Budgets(ctx, f, time.Now())
}

// RunBudget bounds what a run and its descendants, detached ones excepted, may spend of a
// meter. As an option of Define it holds for each run of the workflow that is started without
// one for the same meter. With wait set, a step that finds too little left waits for a top-up;
// else it fails with ErrBudget. The budget is called RunBudgetName(run id, meter).
func RunBudget(meter string, limit int64, wait bool) interface {
	StartOption
	Option
} {
	return runBudget{Budget{Meter: meter, Limit: limit, Wait: wait}}
}

// BudgetUSD is RunBudget for money, in US dollars, without waiting.
func BudgetUSD(dollars float64) interface {
	StartOption
	Option
} {
	limit := int64(-1) // refused at the start
	if micro := math.Floor(dollars*1e6 + 0.5); micro >= 0 && micro <= maxAmount {
		limit = int64(micro)
	}
	return RunBudget(USD, limit, false)
}

// RunBudgetName is the name of the budget that a run was started with.
func RunBudgetName(runID, meter string) string { return "run:" + runID + ":" + meter }

type runBudget struct{ b Budget }

func (o runBudget) start(to *startOptions) { to.run.Budgets = append(to.run.Budgets, o.b) }
func (o runBudget) workflow(to *options)   { to.budgets = append(to.budgets, o.b) }

// bounded completes the budgets of a run that is about to start with those of its workflow.
// The store names them: it decides the run's id.
func bounded(run *NewRun, byDefault []Budget) error {
	own := len(run.Budgets)
	for _, b := range byDefault {
		if !slices.ContainsFunc(run.Budgets[:own], func(o Budget) bool { return o.Meter == b.Meter }) {
			run.Budgets = append(run.Budgets, b)
		}
	}
	meters := map[string]bool{}
	for _, b := range run.Budgets {
		b.Name = "of the run"
		if err := b.validate(); err != nil {
			return err
		}
		if meters[b.Meter] {
			return fmt.Errorf("%w: the run has two budgets for the meter %q", ErrInput, b.Meter)
		}
		meters[b.Meter] = true
	}
	return nil
}

// Charge is a row of the ledger: one thing that a step has bought, or was about to.
type Charge struct {
	ID       int64           `json:"id"`
	Tenant   string          `json:"tenant,omitempty"`
	RunID    string          `json:"run"`
	Workflow string          `json:"workflow"`
	Step     string          `json:"step"` // the step's key
	Attempt  int             `json:"attempt"`
	Meter    string          `json:"meter"`
	Item     string          `json:"item"`              // what was bought
	Version  string          `json:"version,omitempty"` // of the run's code
	Label    string          `json:"label,omitempty"`   // as Spending.Label
	Reserved int64           `json:"reserved"`
	Amount   int64           `json:"amount"`          // what it cost; before it is settled, what was reserved
	Open     bool            `json:"open,omitempty"`  // not settled: under way, or cut off
	Cut      bool            `json:"cut,omitempty"`   // open, and nobody is left who would settle it: see Engine.Settle
	Guess    bool            `json:"guess,omitempty"` // the amount is what was assumed, as the price is not known
	At       time.Time       `json:"at"`              // when it was reserved
	Settled  time.Time       `json:"settled,omitzero"`
	Detail   json.RawMessage `json:"detail,omitempty"` // what was given to Settle
}

// ChargeFilter picks charges. Zero fields do not restrict.
type ChargeFilter struct {
	Tenant   string // "" is the default tenant
	RunID    string
	Family   bool // with RunID: also of the run's children, detached ones excepted, of theirs, and of runs that these went on as
	Workflow string
	Meter    string
	Item     string
	Step     string    // a step's key
	Under    string    // only of steps in this branch and in those in it, by its key: all.b, each[3]
	Open     bool      // only open ones
	Cut      bool      // only those that were cut off
	From, To time.Time // reserved at or after, before
	After    int64     // only those with a greater ID
	Limit    int       // 0 means 100; at most 1000
}

// CostFilter says of what to sum the costs.
type CostFilter struct {
	ChargeFilter        // Open, Cut, After and Limit are not used
	By           CostBy // what to sum apart
}

// CostBy is what costs are summed by.
type CostBy string

// What costs can be summed by.
const (
	ByAll      CostBy = ""
	ByRun      CostBy = "run"
	ByStep     CostBy = "step" // without what tells occurrences of a name apart
	ByItem     CostBy = "item"
	ByWorkflow CostBy = "workflow"
	ByDay      CostBy = "day"     // 2026-11-21, in UTC, by when it was reserved
	ByVersion  CostBy = "version" // of the runs' code
	ByLabel    CostBy = "label"   // as Spending.Label; where there is none, ""
	ByTenant   CostBy = "tenant"  // of all tenants: the filter's Tenant is not used
)

// Cost is a sum over charges of one meter.
type Cost struct {
	Key     string `json:"key"` // of what it is the sum; see CostBy
	Meter   string `json:"meter"`
	Charges int64  `json:"charges"`
	Times   int64  `json:"times"`             // of how many runs; by step: how often runs came to the step
	Amount  int64  `json:"amount"`            // of all: of open ones, what is reserved
	Open    int64  `json:"open,omitempty"`    // the part of Amount that is reserved and not settled
	Guessed int64  `json:"guessed,omitempty"` // the part of Amount that was assumed
}

// Charges returns a page of the ledger, oldest first. The next page has the ID of the last
// as its After.
func (e *Engine) Charges(ctx context.Context, f ChargeFilter) ([]Charge, error) {
	f.Limit = min(cmp.Or(max(f.Limit, 0), 100), 1000)
	return e.store.Charges(ctx, f)
}

// Costs sums the ledger, by what f says, largest first, at most 1,000 sums.
func (e *Engine) Costs(ctx context.Context, f CostFilter) ([]Cost, error) {
	switch f.By {
	case ByAll, ByRun, ByStep, ByItem, ByWorkflow, ByDay, ByVersion, ByLabel, ByTenant:
	default:
		return nil, fmt.Errorf("%w: costs by %q: it is none of run, step, item, workflow, day, version, label, tenant", ErrInput, f.By)
	}
	parts, err := e.store.Costs(ctx, f)
	if err != nil {
		return nil, err
	}
	at := map[Cost]int{} // by key and meter
	var sums []Cost
	for _, part := range parts {
		if f.By == ByStep {
			part.Key = NameOf(part.Key)
		}
		of := Cost{Key: part.Key, Meter: part.Meter}
		i, ok := at[of]
		if !ok {
			i = len(sums)
			at[of], sums = i, append(sums, of)
		}
		sums[i].Charges += part.Charges
		sums[i].Times += part.Times
		sums[i].Amount += part.Amount
		sums[i].Open += part.Open
		sums[i].Guessed += part.Guessed
	}
	slices.SortFunc(sums, func(a, b Cost) int {
		return cmp.Or(cmp.Compare(b.Amount, a.Amount), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Meter, b.Meter))
	})
	return sums[:min(len(sums), 1000)], nil
}

// Settle settles by hand a charge that was cut off by a crash, once somebody knows what it
// cost. ErrNotFound; ErrState: it is settled, or its step is under way.
func (e *Engine) Settle(ctx context.Context, charge, amount int64) error {
	if amount < 0 || amount > maxAmount {
		return fmt.Errorf("%w: settle charge %d: an amount of %d; it must be from 0 to %d", ErrInput, charge, amount, int64(maxAmount))
	}
	s := &Settle{Charge: charge, Amount: amount, Detail: json.RawMessage(`{"settled":"by hand"}`)}
	if err := e.submit(ctx, &item{settle: s}); err != nil { // s may still be written to
		return fmt.Errorf("settle charge %d: %w", charge, err)
	}
	if s.Err != nil {
		return fmt.Errorf("settle charge %d: %w", charge, s.Err)
	}
	return nil
}
