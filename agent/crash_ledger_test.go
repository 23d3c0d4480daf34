package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// This file holds the ledger of a race against the bill of its provider.

// till is a mock of a provider that remembers each of its bills.
type till struct {
	points
	url  string
	mock *llmtest.Mock

	mu    sync.Mutex
	sales map[string]sale // by request id
}

// sale is a call that was answered, and so has to be paid.
type sale struct {
	step string // with its run
	cost int64
}

func newTill(t *testing.T, seed uint64) *till {
	l := &till{sales: map[string]sale{}}
	opt := llmtest.MockOptions{Seed: seed, FailRate: 0.05, FailWait: 20 * time.Millisecond, Latency: 40 * time.Millisecond, Prices: testPrices}
	var err error
	if l.mock, err = llmtest.NewMock(llmtest.Script(llmtest.Rule{Answer: l.sell}), opt); err != nil {
		t.Fatal(err)
	}
	l.url = l.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := keyOf(r)
		l.pass("asked", who)
		l.mock.ServeHTTP(&watched{ResponseWriter: w, before: func(int) { l.pass("answered", who) }}, r)
	}))
	return l
}

func (l *till) sell(_ context.Context, r *llm.Request) (*llm.Response, error) {
	var run string
	var call int
	if _, err := fmt.Sscanf(r.Messages[0].Content, "%s %d", &run, &call); err != nil {
		return nil, err
	}
	step := run + "/ask"
	if call > 1 {
		step = fmt.Sprintf("%s#%d", step, call)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.sales)
	res := &llm.Response{Text: "You may.", RequestID: fmt.Sprint("sale-", n), Usage: llm.Usage{Input: llm.EstimateInput(r) - n%7, Output: 1 + 31*n%callsAnswer}}
	price, _ := testPrices.Of("openai", "priced", time.Now())
	l.sales[res.RequestID] = sale{step, price.Cost(res.Usage)}
	return res, nil
}

// audit is what is found after a race.
type audit struct {
	race
	findings
	t        *testing.T
	e        *pawl.Engine
	till     *till
	ledger   []pawl.Charge
	cut      map[string][]pawl.Charge // by step: cut off by a kill, and listed as such
	settles  map[string]int           // by step: how many charges are settled
	unpaid   map[string]sale          // answered, and not settled
	settled  int64
	reserved int64 // of those that were cut off
}

// check holds everything that a race has left against everything else.
func (r race) check(t *testing.T, e *pawl.Engine, l *till) findings {
	a := &audit{race: r, t: t, e: e, till: l, unpaid: maps.Clone(l.sales), cut: map[string][]pawl.Charge{}, settles: map[string]int{}}
	a.read(pawl.ChargeFilter{}, func(c pawl.Charge) { a.ledger = append(a.ledger, c) })
	a.read(pawl.ChargeFilter{Cut: true}, func(c pawl.Charge) {
		a.cut[stepOf(c)] = append(a.cut[stepOf(c)], c)
		a.reserved += c.Amount
		if !c.Open || c.Amount != c.Reserved {
			a.add("a call was cut off, and its charge is %+v", c)
		}
	})
	a.compare()
	a.outcomes()
	bill, of := a.bill(), 0
	for _, charges := range a.cut {
		of += len(charges)
	}
	if len(a.unpaid) == 0 {
		a.add("the kills have cut off no call that was answered")
	}
	a.sums()
	completed, refused := a.ends()
	samples, highest := a.samples()
	t.Logf("%d runs completed, %d refused; the bill of %d calls is %d micro-dollars, %d of them for %d calls that were cut off after their answer; %d charges are listed as cut off, for %d; the budget at %d moments: at most %.1f %% spent and reserved",
		completed, refused, len(l.sales), bill, bill-a.settled, len(a.unpaid), of, a.reserved, samples, 100*highest)
	a.settle()
	return a.findings
}

func stepOf(c pawl.Charge) string { return c.RunID + "/" + c.Step }

func (a *audit) read(f pawl.ChargeFilter, each func(pawl.Charge)) {
	f.Tenant, f.Limit = a.Budget.Tenant, 1000
	for {
		page, err := a.e.Charges(a.t.Context(), f)
		if err != nil {
			a.t.Fatal(err)
		}
		if len(page) == 0 {
			return
		}
		for _, c := range page {
			each(c)
			f.After = c.ID
		}
	}
}

// compare takes each charge that is settled as the payment of a bill: of one bill, to the
// micro-dollar, and of no other step's.
func (a *audit) compare() {
	recorded := map[string]string{} // step → the call whose answer it has
	for _, c := range a.ledger {
		if c.Cut {
			continue
		}
		a.settled += c.Amount
		a.settles[stepOf(c)]++
		var d paid
		if err := json.Unmarshal(c.Detail, &d); err != nil || c.Open || c.Guess || c.Amount > c.Reserved {
			a.add("a charge is neither settled nor cut off, or is a guess, or too much: %+v, %v", c, err)
		}
		if c.Amount == 0 { // it was refused
			continue
		}
		if s := a.unpaid[d.RequestID]; s != (sale{stepOf(c), c.Amount}) {
			a.add("%s has settled %d for %s, whose unpaid bill is %+v", stepOf(c), c.Amount, d.RequestID, s)
		}
		delete(a.unpaid, d.RequestID)
		if first := recorded[stepOf(c)]; first != "" {
			a.add("%s was answered and paid twice: %s and %s", stepOf(c), first, d.RequestID)
		}
		recorded[stepOf(c)] = d.RequestID
	}
}

// outcomes of attempts that are in the journals have each a charge that is settled: only what
// came to no outcome, as its process was killed, can be cut off.
func (a *audit) outcomes() {
	attempts := map[string]int{}
	for i := range a.Runs {
		for entry, err := range a.e.Journal(a.t.Context(), pawl.Ref{Tenant: a.Budget.Tenant, ID: runOf(i)}) {
			if err != nil {
				a.t.Fatal(err)
			}
			if entry.Kind == pawl.KindAttempt || entry.Kind == pawl.KindStep && !entry.Failed { // a step that has failed found no money: nobody was called
				attempts[runOf(i)+"/"+entry.Key]++
			}
		}
	}
	if maps.Equal(attempts, a.settles) {
		return
	}
	for step, n := range attempts {
		if a.settles[step] != n {
			a.add("%s has the outcomes of %d attempts, and %d charges that are settled", step, n, a.settles[step])
		}
	}
	a.same("steps with an outcome", len(a.settles), len(attempts))
}

// bill is what the provider wants: what is settled, and the price of calls that were cut off.
func (a *audit) bill() int64 {
	bill, ofCut := a.till.mock.Bill().MicroUSD, int64(0)
	for _, s := range a.unpaid {
		ofCut += s.cost
	}
	a.same("what is settled, and the price of calls that were cut off", a.settled+ofCut, bill)
	b := a.budget()
	a.same("spent and reserved of the budget", fmt.Sprint(b.Spent, " ", b.Reserved), fmt.Sprint(a.settled, " ", a.reserved))
	return bill
}

func (a *audit) budget() pawl.Budget {
	found, err := a.e.Budgets(a.t.Context(), pawl.BudgetFilter{Tenant: a.Budget.Tenant, Name: a.Budget.Name})
	if err != nil || len(found) != 1 {
		a.t.Fatalf("budget %q: %v, %v", a.Budget.Name, found, err)
	}
	if b := found[0]; b.Spent+b.Reserved > b.Limit+b.Extra {
		a.add("%d was spent and %d reserved of %d", b.Spent, b.Reserved, b.Limit+b.Extra)
	}
	return found[0]
}

// sums are those of the ledger, whatever they are grouped by.
func (a *audit) sums() {
	for _, by := range []pawl.CostBy{pawl.ByAll, pawl.ByRun, pawl.ByStep, pawl.ByItem, pawl.ByWorkflow, pawl.ByDay} {
		costs, err := a.e.Costs(a.t.Context(), pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{Tenant: a.Budget.Tenant}, By: by})
		if err != nil {
			a.t.Fatal(err)
		}
		var sum pawl.Cost
		for _, c := range costs {
			sum.Charges += c.Charges
			sum.Amount += c.Amount
			sum.Open += c.Open
		}
		a.same(fmt.Sprintf("charges, amount, open, by %q", by), fmt.Sprint(sum.Charges, " ", sum.Amount, " ", sum.Open), fmt.Sprint(len(a.ledger), " ", a.settled+a.reserved, " ", a.reserved))
	}
}

// ends looks at how the runs have ended: none is stuck, and none has failed but for money.
func (a *audit) ends() (completed, refused int) {
	for i := range a.Runs {
		_, err := pawl.Attach[string](a.e, runOf(i), pawl.Tenant(a.Budget.Tenant)).Result(a.t.Context())
		switch {
		case err == nil:
			completed++
		case errors.Is(err, pawl.ErrBudget) && !a.Budget.Wait:
			refused++
		default:
			a.add("%s: %v", runOf(i), err)
		}
	}
	if completed == 0 || !a.Budget.Wait && refused == 0 {
		a.add("%d runs are completed, %d refused: they did not race for the budget", completed, refused)
	}
	found, err := a.e.Audit(a.t.Context())
	if err != nil || len(found) > 0 {
		a.add("nothing would wake %v, %v", found, err)
	}
	return completed, refused
}

// samples looks at what the drivers saw of the budget while the race was on.
func (a *audit) samples() (n int, highest float64) {
	f, err := os.Open(a.Report)
	if err != nil {
		a.t.Fatal(err)
	}
	defer f.Close()
	over := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var b pawl.Budget
		if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
			a.t.Fatalf("%s: %v", lines.Text(), err)
		}
		if b.Spent+b.Reserved > b.Limit+b.Extra {
			over++
		}
		highest = max(highest, float64(b.Spent+b.Reserved)/float64(b.Limit+b.Extra))
	}
	if over > 0 {
		a.add("at %d moments of %d more was spent and reserved than there is: up to %.1f %%", over, n, 100*highest)
	}
	return n, highest
}

// settle is done by hand, by one who knows the bill: each call that was cut off after its
// answer is found among the charges of its step that are listed. Then nothing is reserved
// any more, and the ledger is the bill.
func (a *audit) settle() {
	for step, charges := range a.cut {
		for _, c := range charges {
			cost := int64(0)
			for id, s := range a.unpaid {
				if s.step == step {
					cost = s.cost
					delete(a.unpaid, id)
					break
				}
			}
			if err := a.e.Settle(a.t.Context(), c.ID, cost); err != nil {
				a.add("settle charge %d: %v", c.ID, err)
			}
		}
	}
	for id, s := range a.unpaid {
		a.add("%s of %s was answered for %d, and is neither settled nor listed as cut off", id, s.step, s.cost)
	}
	b := a.budget()
	a.same("spent and reserved in the end", fmt.Sprint(b.Spent, " ", b.Reserved), fmt.Sprint(a.till.mock.Bill().MicroUSD, " 0"))
}
