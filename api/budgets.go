package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pawlrun/pawl"
)

// Budget bounds what may be spent of a meter. Amounts are in units of the meter: of usd,
// millionths of a US dollar.
type Budget struct {
	Name     string    `json:"name"`
	Meter    string    `json:"meter"`
	Limit    int64     `json:"limit"`
	Per      string    `json:"per,omitempty" doc:"The limit holds for each period of this length, such as 24h; left out: for ever."`
	Wait     bool      `json:"wait,omitempty" doc:"A step that finds too little left waits until there is enough; else it fails."`
	Run      string    `json:"run,omitempty" doc:"It applies to this run and to its descendants."`
	Workflow string    `json:"workflow,omitempty" doc:"It applies to runs of this workflow."`
	Attr     string    `json:"attr,omitempty" doc:"It applies to runs whose attribute of this name has the value."`
	Value    string    `json:"value,omitempty"`
	Extra    int64     `json:"extra,omitempty" doc:"What was added to the limit, in this period where it has one."`
	Spent    int64     `json:"spent" doc:"In this period."`
	Reserved int64     `json:"reserved" doc:"For what is under way, and for what was cut off by a crash."`
	Left     int64     `json:"left"`
	Since    time.Time `json:"since,omitzero" doc:"When this period began."`
	Until    time.Time `json:"until,omitzero" doc:"When this period ends."`
	ETag     string    `json:"etag" doc:"Names what is set of it, for If-Match."`
}

// BudgetPage is a page of budgets, by name.
type BudgetPage struct {
	Items      []Budget `json:"items"`
	NextCursor string   `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

// BudgetRequest is what a budget is to be. What was spent of one that is there stays.
type BudgetRequest struct {
	Meter    string `json:"meter,omitempty" doc:"Left out: usd."`
	Limit    int64  `json:"limit" doc:"In units of the meter: of usd, millionths of a US dollar."`
	Per      string `json:"per,omitempty"`
	Wait     bool   `json:"wait,omitempty"`
	Run      string `json:"run,omitempty"`
	Workflow string `json:"workflow,omitempty"`
	Attr     string `json:"attr,omitempty"`
	Value    string `json:"value,omitempty"`
}

// ChargePage is a page of the ledger, oldest first.
type ChargePage struct {
	Items      []pawl.Charge `json:"items"`
	NextCursor string        `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

// ChargeQuery picks charges for [Client.Charges]. Zero fields do not restrict.
type ChargeQuery struct {
	Run      string
	Family   bool // with Run: also of its children, of theirs, and of runs that these went on as
	Workflow string
	Step     string
	Item     string
	Meter    string
	Open     bool      // only those that are not settled
	Cut      bool      // only those that were cut off by a crash
	From, To time.Time // by when it was reserved
	Cursor   string
	Limit    int // 0 means 100; at most 500
}

func budgetOf(b pawl.Budget) Budget {
	out := Budget{
		Name: b.Name, Meter: b.Meter, Limit: b.Limit, Wait: b.Wait, Run: b.Run, Workflow: b.Workflow, Attr: b.Attr, Value: b.Value,
		Extra: b.Extra, Spent: b.Spent, Reserved: b.Reserved, Left: b.Left(), Since: b.Since, Until: b.Until(),
	}
	if b.Per > 0 {
		out.Per = b.Per.String()
	}
	out.ETag = out.tag()
	return out
}

// tag names what of a budget people set; what is spent of it changes all the time.
func (b Budget) tag() string {
	data, err := json.Marshal(BudgetRequest{b.Meter, b.Limit, b.Per, b.Wait, b.Run, b.Workflow, b.Attr, b.Value})
	if err != nil { // texts and numbers: can't be
		panic(err)
	}
	sum := sha256.Sum256(fmt.Appendf(data, "%d", b.Extra))
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

type budgetsInput struct {
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type runBudgetsInput struct {
	ID     string `path:"id"`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type budgetInput struct {
	Name string `path:"name"`
}

type putBudgetInput struct {
	Name  string `path:"name"`
	Match string `header:"If-Match" doc:"The ETag that the budget must still have."`
	Body  BudgetRequest
}

type deleteBudgetInput struct {
	Name  string `path:"name"`
	Match string `header:"If-Match" doc:"The ETag that the budget must still have."`
}

type topUpInput struct {
	Name  string `path:"name"`
	By    int64  `query:"topup" required:"true" doc:"How much more may be spent; negative takes away."`
	Match string `header:"If-Match" doc:"The ETag that the budget must still have."`
}

type budgetOutput struct {
	ETag string `header:"ETag" doc:"Names what is set of it, for If-Match."`
	Body Budget
}

type topUpOutput struct {
	ETag     string `header:"ETag" doc:"Names what is set of it, for If-Match."`
	Replayed string `header:"Idempotency-Replayed" doc:"true: the request was carried out before."`
	Body     Budget
}

type chargesInput struct {
	Run      string `query:"run"`
	Family   string `query:"family" enum:"true,false" doc:"With run: also of its children, of theirs, and of runs that these went on as."`
	Workflow string `query:"workflow"`
	Step     string `query:"step" doc:"Name of the steps."`
	Item     string `query:"item"`
	Meter    string `query:"meter"`
	Open     string `query:"open" enum:"true,false" doc:"Only those that are not settled."`
	Cut      string `query:"cut" enum:"true,false" doc:"Only those that were cut off by a crash."`
	From     moment `query:"from" doc:"Reserved at or after: a day in UTC or a time."`
	To       moment `query:"to" doc:"Reserved before."`
	Cursor   string `query:"cursor"`
	Limit    int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
}

func (s *server) budgetRoutes() {
	add(s, route{id: "budgets", method: http.MethodGet, path: "/api/budgets", scope: RunsRead, summary: "List budgets"},
		func(ctx context.Context, in *budgetsInput) (*output[BudgetPage], error) {
			return s.budgets(ctx, pawl.BudgetFilter{}, in.Cursor, in.Limit)
		})
	add(s, route{id: "runBudgets", method: http.MethodGet, path: "/api/runs/{id}/budgets", scope: RunsRead, summary: "List the budgets of a run"},
		func(ctx context.Context, in *runBudgetsInput) (*output[BudgetPage], error) {
			info, err := s.engine.Get(ctx, runRef(ctx, in.ID))
			if err != nil {
				return nil, err
			}
			return s.budgets(ctx, pawl.BudgetFilter{Run: info.Key}, in.Cursor, in.Limit)
		})
	add(s, route{id: "budget", method: http.MethodGet, path: "/api/budgets/{name...}", scope: RunsRead, free: true, summary: "Look at a budget"},
		func(ctx context.Context, in *budgetInput) (*budgetOutput, error) {
			return budgeted(s.findBudget(ctx, in.Name))
		})
	add(s, route{id: "setBudget", method: http.MethodPut, path: "/api/budgets/{name...}", scope: RunsOperate, free: true, summary: "Make or change a budget"}, s.setBudget)
	add(s, route{id: "topUp", method: http.MethodPost, path: "/api/budgets/{name...}", scope: RunsOperate, once: true, summary: "Let more be spent of a budget",
		about: "A repeat with the same Idempotency-Key is answered with the budget as it now is."}, s.topUp)
	add(s, route{id: "deleteBudget", method: http.MethodDelete, path: "/api/budgets/{name...}", scope: RunsOperate, free: true, status: http.StatusNoContent, summary: "Remove a budget"},
		func(ctx context.Context, in *deleteBudgetInput) (*noOutput, error) {
			return &noOutput{}, s.ifBudget(ctx, in.Name, in.Match, func(must ...pawl.BudgetOption) error {
				return s.engine.DeleteBudget(ctx, tenantOf(ctx), in.Name, must...)
			})
		})
	add(s, route{id: "charges", method: http.MethodGet, path: "/api/charges", scope: RunsRead, summary: "Read a page of the ledger, oldest first"}, s.charges)
}

func (s *server) budgets(ctx context.Context, f pawl.BudgetFilter, cursor string, limit int) (*output[BudgetPage], error) {
	var err error
	f.Tenant, f.Limit = tenantOf(ctx), limit+1
	if f.After, err = readMark("name:", cursor); err != nil {
		return nil, err
	}
	found, err := s.engine.Budgets(ctx, f)
	if err != nil {
		return nil, err
	}
	page := BudgetPage{Items: []Budget{}}
	for _, b := range found[:min(limit, len(found))] {
		page.Items = append(page.Items, budgetOf(b))
	}
	if len(found) > limit {
		page.NextCursor = mark("name:", found[limit-1].Name)
	}
	return &output[BudgetPage]{page}, nil
}

func (s *server) findBudget(ctx context.Context, name string) (pawl.Budget, error) {
	found, err := s.engine.Budgets(ctx, pawl.BudgetFilter{Tenant: tenantOf(ctx), Name: name, Limit: 1})
	if err == nil && (len(found) == 0 || name == "") {
		err = fmt.Errorf("%w: budget %q", pawl.ErrNotFound, name)
	}
	if err != nil {
		return pawl.Budget{}, err
	}
	return found[0], nil
}

// ifBudget does something to a budget if it has the ETag of an If-Match. What was read of it goes along, and
// is decided on in the write: of two that have read the same, one wins.
func (s *server) ifBudget(ctx context.Context, name, match string, do func(must ...pawl.BudgetOption) error) error {
	if match == "" {
		return do()
	}
	for {
		b, err := s.findBudget(ctx, name)
		if err != nil {
			return err
		}
		if err := matches(match, budgetOf(b).ETag); err != nil {
			return err
		}
		err = do(pawl.IfBudget(b))
		if _, lost := errors.AsType[*pawl.BudgetConflictError](err); !lost {
			return err
		}
	}
}

func (s *server) setBudget(ctx context.Context, in *putBudgetInput) (*budgetOutput, error) {
	q := in.Body
	b := pawl.Budget{Tenant: tenantOf(ctx), Name: in.Name, Meter: cmp.Or(q.Meter, pawl.USD), Limit: q.Limit, Wait: q.Wait, Run: q.Run, Workflow: q.Workflow, Attr: q.Attr, Value: q.Value}
	if q.Per != "" {
		per, err := duration("field per", q.Per)
		if err != nil {
			return nil, err
		}
		b.Per = per
	}
	err := s.ifBudget(ctx, in.Name, in.Match, func(must ...pawl.BudgetOption) (err error) {
		b, err = s.engine.SetBudget(ctx, b, must...)
		return err
	})
	return budgeted(b, err)
}

func (s *server) topUp(ctx context.Context, in *topUpInput) (*topUpOutput, error) {
	once, err := named(ctx, strconv.FormatInt(in.By, 10))
	if err != nil {
		return nil, err
	}
	if done, _, err := before(ctx, s.engine, once); err != nil || done != nil {
		return s.toppedUp(ctx, in.Name, err)
	}
	var b pawl.Budget
	err = s.ifBudget(ctx, in.Name, in.Match, func(must ...pawl.BudgetOption) (err error) {
		if once.id != "" {
			must = append(must, pawl.WithRecord(once.put("")))
		}
		b, err = s.engine.TopUp(ctx, tenantOf(ctx), in.Name, in.By, must...)
		return err
	})
	if _, met := errors.AsType[*pawl.RecordConflictError](err); met { // a repeat was faster
		_, _, err = before(ctx, s.engine, once)
		return s.toppedUp(ctx, in.Name, err)
	}
	out, err := budgeted(b, err)
	if err != nil {
		return nil, err
	}
	return &topUpOutput{ETag: out.ETag, Body: out.Body}, nil
}

// toppedUp answers a top-up that was made before with the budget as it is.
func (s *server) toppedUp(ctx context.Context, name string, err error) (*topUpOutput, error) {
	if err != nil {
		return nil, err
	}
	out, err := budgeted(s.findBudget(ctx, name))
	if err != nil {
		return nil, err
	}
	return &topUpOutput{ETag: out.ETag, Replayed: "true", Body: out.Body}, nil
}

func budgeted(b pawl.Budget, err error) (*budgetOutput, error) {
	if err != nil {
		return nil, err
	}
	out := budgetOf(b)
	return &budgetOutput{ETag: out.ETag, Body: out}, nil
}

func (s *server) charges(ctx context.Context, in *chargesInput) (*output[ChargePage], error) {
	f := pawl.ChargeFilter{
		Tenant: tenantOf(ctx), RunID: in.Run, Family: in.Family == "true", Workflow: in.Workflow, Step: in.Step, Item: in.Item, Meter: in.Meter,
		Open: in.Open == "true", Cut: in.Cut == "true", From: in.From.Time, To: in.To.Time, Limit: in.Limit + 1,
	}
	var err error
	if f.After, err = readNumber("charge:", in.Cursor); err != nil {
		return nil, err
	}
	found, err := s.engine.Charges(ctx, f)
	if err != nil {
		return nil, err
	}
	page := ChargePage{Items: append([]pawl.Charge{}, found[:min(in.Limit, len(found))]...)}
	if len(found) > in.Limit {
		page.NextCursor = mark("charge:", fmt.Sprint(found[in.Limit-1].ID))
	}
	return &output[ChargePage]{page}, nil
}
