package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Reserve is an amount that a step sets aside before it spends it.
type Reserve struct {
	Key     string // the step's
	Attempt int
	Meter   string
	Item    string
	Most    int64
	Label   string

	// Answers.
	Charge int64   // its row of the ledger; zero: it was refused
	Over   *Budget // the budget that has too little left. If it says Wait, a Wait for its Event with this Need is registered under Key
}

// Settle says what was spent in the end.
type Settle struct {
	Charge int64
	Amount int64
	Guess  bool
	Detail json.RawMessage

	Err error // answer, to one by hand: ErrNotFound, ErrState
}

// Spending is what a step is about to spend.
type Spending struct {
	Meter string // "" means USD
	Item  string // what is bought, such as "openai/gpt-4o": costs are summed by it
	Most  int64  // the most that it can cost, in units of the meter
	Label string // what tells alike purchases apart, such as "greeting@3", a version of a prompt; "": nothing
}

// Reservation is an amount set aside by [Spend].
type Reservation struct {
	s      *stepContext
	what   Spending
	at     time.Time
	charge int64
	done   bool // under the account's mu
}

// Spend sets aside what the step whose body was given ctx is about to spend, on every
// budget that applies to its run, and returns when that is durable. Settle says later what
// it was in the end; without that it stays reserved in full, as after a crash in between.
//
// When a budget has too little left it returns a *BudgetError (ErrBudget), and the body is to
// return that: where the budget says so the step then waits until there is enough, which uses up no attempt, and
// runs its body again; else the step fails. ErrMisuse: ctx is not of a step's body; ErrInput.
func Spend(ctx context.Context, what Spending) (*Reservation, error) {
	s := stepOf(ctx)
	if s == nil {
		return nil, &MisuseError{Call: "Spend", Why: "its context is not the one that a step's body was given"}
	}
	if what.Meter == "" {
		what.Meter = USD
	}
	for name, text := range map[string]string{"meter": what.Meter, "item": what.Item} {
		if err := checkName("name of the "+name, text); err != nil {
			return nil, Fatal(fmt.Errorf("%w: spend in step %s: %w", ErrInput, s.key, err))
		}
	}
	if !isText(what.Label) || len(what.Label) > maxName {
		return nil, Fatal(fmt.Errorf("%w: spend in step %s: the label is no text of at most %d bytes without NUL", ErrInput, s.key, maxName))
	}
	if what.Most < 0 || what.Most > maxAmount {
		return nil, Fatal(fmt.Errorf("%w: spend in step %s: at most %d of %s; it must be from 0 to %d", ErrInput, s.key, what.Most, what.Meter, int64(maxAmount)))
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	r := s.r
	res := &Reserve{Key: s.key, Attempt: s.attempt, Meter: what.Meter, Item: what.Item, Most: what.Most, Label: what.Label}
	r.mu.Lock()
	if r.dead.Load() || r.phase == ending || s.open() == nil {
		r.mu.Unlock()
		return nil, errDead
	}
	ch := r.collect(&Change{})
	ch.Reserves = []*Reserve{res}
	it := &item{worker: r.worker, change: ch, wake: make(chan signal, 1)}
	first := r.e.pipe.put(it)
	r.mu.Unlock()
	r.e.pipe.wait(it, first)
	if err := errors.Join(it.err, ch.Err); err != nil {
		r.lost(err)
		return nil, err
	}
	if res.Over != nil {
		return nil, &BudgetError{Budget: *res.Over, Need: what.Most}
	}
	return &Reservation{s: s, what: what, at: now(), charge: res.Charge}, nil
}

// Settle says what was spent. It is recorded with what the step records next, its result or
// its failed attempt, in one transaction. guess: amount is an assumption, as the price is
// not known. detail, if not nil, is kept in the ledger, as JSON. A second call, or one after
// the attempt has ended, changes nothing and returns ErrState.
func (v *Reservation) Settle(amount int64, guess bool, detail any) error {
	if amount < 0 || amount > maxAmount {
		return fmt.Errorf("%w: settle in step %s: an amount of %d; it must be from 0 to %d", ErrInput, v.s.key, amount, int64(maxAmount))
	}
	set := &Settle{Charge: v.charge, Amount: amount, Guess: guess}
	if detail != nil {
		data, err := encode("detail of a charge", detail, maxDetail)
		if err != nil {
			return err
		}
		set.Detail = data
	}
	if a := v.s.open(); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if v.s.account.Load() == a && !v.done { // else it was closed meanwhile
			v.done = true
			a.settles, a.spent = append(a.settles, set), append(a.spent, v)
			return nil
		}
	}
	return fmt.Errorf("%w: settle in step %s: it is settled, or the attempt has ended", ErrState, v.s.key)
}

// maxDetail bounds what a charge keeps of its detail, in bytes.
const maxDetail = 64 << 10

// Note leaves v, as JSON, in the journal for people and programs that look at the step
// later: it is recorded as a KindNote with the attempt's outcome, whatever that is, and no
// replay reads it. Notes of an attempt that is cut off are lost. An attempt may leave
// several. ErrEncoding, ErrTooLarge; ErrMisuse: ctx is not of a step's body; ErrState: the attempt has ended.
func Note(ctx context.Context, v any) error {
	s := stepOf(ctx)
	if s == nil {
		return &MisuseError{Call: "Note", Why: "its context is not the one that a step's body was given"}
	}
	data, err := encode("note of step "+s.key, v, s.r.e.opt.MaxPayload)
	if err != nil {
		return err
	}
	if a := s.open(); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if s.account.Load() == a { // else it was closed meanwhile
			a.notes = append(a.notes, data)
			return nil
		}
	}
	return fmt.Errorf("%w: note of step %s: the attempt has ended", ErrState, s.key)
}

// account is what an attempt has settled and noted.
type account struct {
	mu      sync.Mutex
	settles []*Settle
	spent   []*Reservation // that of each of settles
	notes   []json.RawMessage
}

// closed is in place of the account of an attempt that has ended.
var closed account

// open returns the attempt's account; nil: the attempt has ended.
func (s *stepContext) open() *account {
	for {
		switch a := s.account.Load(); a {
		case nil:
			s.account.CompareAndSwap(nil, &account{})
		case &closed:
			return nil
		default:
			return a
		}
	}
}

// over reports whether the attempt has ended.
func (s *stepContext) over() bool { return s.account.Load() == &closed }

// settle closes the attempt's account, and leaves what is in it to the run's next commit.
func (s *stepContext) settle() {
	a := s.account.Swap(&closed)
	if a == nil {
		return
	}
	a.mu.Lock()
	settles, spent, notes := a.settles, a.spent, a.notes
	a.settles, a.spent, a.notes = nil, nil, nil
	a.mu.Unlock()
	at := now()
	for i, set := range settles {
		v, run := spent[i], &s.r.info
		s.r.e.opt.Observer.StepSpent(*run, Charge{
			ID: set.Charge, Tenant: run.Tenant, RunID: run.ID, Workflow: run.Workflow, Step: s.key, Attempt: s.attempt, Meter: v.what.Meter, Item: v.what.Item,
			Reserved: v.what.Most, Amount: set.Amount, Guess: set.Guess, At: v.at, Settled: at, Detail: set.Detail,
		})
	}
	s.r.mu.Lock()
	s.r.pend.Settles = append(s.r.pend.Settles, settles...)
	for _, note := range notes {
		s.r.note(Entry{Kind: KindNote, Key: s.key, Attempt: s.attempt, At: at, Data: note})
	}
	s.r.mu.Unlock()
}

// awaitBudget waits until a budget that a step found too small may have enough for it, at
// most until a time: that of its next period, or the end of the step's own.
func (c *Context) awaitBudget(key string, b *Budget, until time.Time) error {
	if err := c.act(); err != nil {
		return err
	}
	r := c.b.r
	name := MsgEvent + b.Event()
	r.mu.Lock()
	if queue := r.inbox[name]; len(queue) > 0 { // it came meanwhile. One for each step that was refused: the others' stay
		r.pend.Consumed = append(r.pend.Consumed, queue[0].ID)
		if r.inbox[name] = queue[1:]; len(queue) == 1 {
			delete(r.inbox, name)
		}
		r.mu.Unlock()
		return nil
	}
	why := c.b.wait(c.s, key, name, until)
	r.mu.Lock()
	r.pend.Unwaits = append(r.pend.Unwaits, key)
	if why == forMessage {
		r.pend.Consumed = append(r.pend.Consumed, c.b.got.ID)
	}
	r.mu.Unlock()
	if why == forCancel {
		return c.act()
	}
	return nil
}

// waitsFor returns the budget that err says to wait for.
func waitsFor(err error) (*Budget, bool) {
	var be *BudgetError
	if errors.As(err, &be) && be.Budget.Wait {
		return &be.Budget, true
	}
	return nil, false
}

// whyBudget says for a person what a run waits for that waits for a budget.
func (e *Engine) whyBudget(ctx context.Context, w Wait) (name, what string, err error) {
	var id int64
	if _, err := fmt.Sscanf(w.Event, budgetEvent+"%d", &id); err != nil {
		return "", "", fmt.Errorf("what the run waits for, %q: %w", w.Event, err)
	}
	found, err := e.store.Budgets(ctx, BudgetFilter{ID: id, Limit: 1}, time.Now())
	if err != nil || len(found) == 0 {
		return "", "for a budget that was deleted", err
	}
	return found[0].Name, "for money: " + (&BudgetError{Budget: found[0], Need: w.Need}).Error(), nil
}
