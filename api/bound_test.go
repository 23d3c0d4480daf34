package api_test

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// trail has the statements that a store ran, and for which operation.
type trail struct {
	mu   sync.Mutex
	op   string // "": nobody records
	list []statement
}

type statement struct {
	op, query string
	args      []any
}

func (l *trail) trace(query string, args []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.op != "" {
		l.list = append(l.list, statement{l.op, strings.Join(strings.Fields(query), " "), slices.Collect(flat(args))})
	}
}

func (l *trail) during(op string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.op = op
}

// flat yields the single values of what is bound: those of arrays one by one, times as they are.
func flat(args []any) func(yield func(any) bool) {
	return func(yield func(any) bool) {
		for _, a := range args {
			v := reflect.ValueOf(a)
			if _, data := a.([]byte); data || v.Kind() != reflect.Slice || v.Type().Elem().Kind() == reflect.Uint8 {
				if !yield(a) {
					return
				}
				continue
			}
			for i := range v.Len() {
				if !yield(v.Index(i).Interface()) {
					return
				}
			}
		}
	}
}

// eachTracedStore runs f on each store, whose statements are recorded.
func eachTracedStore(t *testing.T, f func(t *testing.T, store pawl.Store, l *trail)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		l := &trail{}
		store, err := sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), &sqlite.Options{Trace: l.trace})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, store)
		f(t, store, l)
	})
	t.Run("postgres", func(t *testing.T) {
		l := &trail{}
		store, err := postgres.Open(t.Context(), pgtest.URL(t), &postgres.Options{Trace: l.trace})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, store)
		f(t, store, l)
	})
}

// owned are the tables whose rows are some tenant's.
var owned = regexp.MustCompile(`(?i)\b(from|join|into|update|only|using)\s+(runs|journal|inbox|waits|hooks|chunks|attrs|slots|rates|budgets|charges|records)\b`)

const (
	ourTenant, theirTenant = "tenant-ours", "tenant-theirs"
	fillers                = 1100 // their runs' keys are larger than any other number that is bound to find something
)

// TestEveryStatementIsBoundToTheTenant drives every route of the document with a key of one
// tenant, at what is its own, at what is another's and at what does not exist, and looks at each
// statement that a store runs for it: see unbound for what is asked of one.
func TestEveryStatementIsBoundToTheTenant(t *testing.T) {
	met := map[string]bool{}
	eachTracedStore(t, func(t *testing.T, store pawl.Store, l *trail) {
		things := map[string]*belongings{}
		keys := map[string]string{}
		var theirs map[int64]string
		t.Run("what there is", func(t *testing.T) { // with a worker, which stops at the end: its statements are nobody's
			h := openOn(t, store, api.Options{Auth: unlimited()})
			for _, tenant := range []string{ourTenant, theirTenant} {
				_, keys[tenant] = h.key(tenant, api.Admin)
			}
			var all sync.WaitGroup
			for i := range 32 {
				all.Go(func() {
					for n := i; n < fillers; n += 32 {
						if _, err := h.engine.StartRun(t.Context(), "sleeps", nil, pawl.Tenant(theirTenant), pawl.Delay(time.Hour)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			things[ourTenant] = furnish(h, keys[ourTenant], "o-")
			things[theirTenant] = furnish(h, keys[theirTenant], "t-")
			theirs = keysOf(t, h.engine, theirTenant)
		})
		if t.Failed() {
			t.FailNow()
		}
		told := map[string]string{
			"start": `{"workflow":"echo"}`, "createKey": `{"name":"ci","scopes":["runs:read"]}`,
			"decide":       `{"approved":true,"by":"ann","shown":"` + things[ourTenant].other["shown"] + `"}`,
			"approveDraft": `{"digest":"` + things[ourTenant].other["digest"] + `"}`,
		}
		engine := pawl.New(store, clientOptions())
		defer engine.Close()
		if err := engine.Register(workflows(func() error { return nil })...); err != nil {
			t.Fatal(err)
		}
		flows := flowsOf(t, engine)
		handler := api.New(engine, api.Options{Auth: unlimited(), Flows: flows, Drafts: draftsOf(t, engine, flows), Secrets: &secret.Store{Engine: engine, Keys: encryptionKeys(t, secret.NewKey())}})
		drive := func(d documented, path string) int {
			path = strings.TrimSuffix(path, "?kind=no-such-kind")
			r := httptest.NewRequest(d.method, "http://localhost"+path, strings.NewReader(cmp.Or(told[d.OperationID], bodies[d.OperationID])))
			bearer(keys[ourTenant])(r)
			withJSON(r)
			ctx, cancel := contextFor(t, d)
			defer cancel()
			rec := httptest.NewRecorder()
			l.during(d.OperationID)
			handler.ServeHTTP(rec, r.WithContext(ctx))
			l.during("")
			return rec.Code
		}
		operations := newContract(t).operations
		slices.SortStableFunc(operations, func(a, b documented) int { return order(a) - order(b) })
		found := map[string]bool{}
		for _, d := range operations {
			for _, whose := range []string{theirTenant, "nobody", ourTenant} {
				for _, run := range things[ourTenant].runs {
					path := pathOf(d, things[whose].fill(d, run))
					code := drive(d, path)
					if code >= 500 {
						t.Errorf("%s %s: %d", d.method, path, code)
					}
					found[d.OperationID] = found[d.OperationID] || whose == ourTenant && code < 400
					if !strings.HasPrefix(d.path, "/api/runs/{id}") {
						break
					}
				}
			}
		}
		for _, d := range operations {
			if missed := notForTenants[d.OperationID]; found[d.OperationID] == (missed != "") {
				t.Errorf("%s: succeeded with what is ours: %v, want %v %s", d.OperationID, found[d.OperationID], missed == "", missed)
			}
		}
		seen := map[string]bool{}
		for _, s := range l.list {
			why := s.unbound(theirs)
			if why == "" {
				continue
			}
			if i := slices.IndexFunc(allowed, func(a allowance) bool { return a.fits(s, why) }); i >= 0 {
				met[allowed[i].why] = true
			} else if !seen[why+s.query] {
				seen[why+s.query] = true
				t.Errorf("%s: %s\n\t%s\n\t%v", s.op, why, s.query, s.args)
			}
		}
		t.Logf("%d statements of %d operations", len(l.list), len(operations))
	})
	for _, a := range allowed {
		if !met[a.why] {
			t.Errorf("no statement needs this any more, take it off the list: %s", a.why)
		}
	}
}

const (
	bindsNone    = "it binds neither our tenant nor a run of ours"
	bindsForeign = "it binds another tenant or its run"
)

// unbound says what is wrong with a statement; "": nothing. One that touches what belongs to
// tenants must bind our tenant, or the number of a run of ours, and nothing of another's.
func (s statement) unbound(theirs map[int64]string) string {
	if !owned.MatchString(s.query) {
		return ""
	}
	bound := false
	for _, a := range s.args {
		switch v := a.(type) {
		case string:
			if strings.Contains(v, theirTenant) {
				return bindsForeign
			}
			bound = bound || strings.Contains(v, ourTenant)
		case int64:
			if theirs[v] != "" {
				return bindsForeign
			}
			bound = bound || v > fillers && v < 1_000_000 // times and versions are larger
		}
	}
	if bound {
		return ""
	}
	return bindsNone
}

// allowance is a statement that may be otherwise, and why.
type allowance struct {
	operations string // an expression; "": all
	query      string // what it has in it
	arg        string // what the first of its strings begins with
	what       string // "": bindsNone
	why        string
}

func (a allowance) fits(s statement, what string) bool {
	first := ""
	if i := slices.IndexFunc(s.args, func(v any) bool { _, ok := v.(string); return ok }); i >= 0 {
		first = s.args[i].(string)
	}
	return cmp.Or(a.what, bindsNone) == what && strings.Contains(s.query, a.query) && strings.HasPrefix(first, a.arg) && regexp.MustCompile("^("+a.operations+")").MatchString(s.op)
}

// allowed is all that is not bound to a tenant. Each has a reason; one that no statement needs fails the test.
var allowed = []allowance{
	{query: "records", arg: "api.keys",
		why: "a key is looked up by its own id, which is random: it is what says whose tenant it is; who is not of the default tenant sees and revokes keys of its own only"},
	{query: "records", arg: "$delivery",
		why: "what was delivered is remembered under the hash of tenant, addressee and name"},
	{query: "records", arg: "trigger.due",
		why: "when schedules and events are due is one list for the runner; its keys are hashes of the tenant and the id, worked out of a record that was found by its tenant"},
	{query: "records", arg: "trigger.ends", operations: "deploy|approveDraft|activateWorkflow|rollbackWorkflow|deactivateWorkflow|execute|start",
		why: "which tenants' flows wait for the ends of runs: an engine tells of ends only where somebody listens"},
	{query: "records", arg: "flow.deployed", operations: "deploy",
		why: "that some flow has a name that the engines of the store don't know yet; it says neither whose nor which"},
	{query: "records", arg: "secret.", operations: "secrets?$|putSecret|deleteSecret",
		why: "secrets are kept under the hash of the tenant and the name"},
	{query: "records", arg: "approval", operations: "approvals|approval|decide",
		why: "approvals are kept under the hash of tenant and id"},
	{query: "hooks AS h JOIN runs", operations: "retry",
		why: "what hooks the run must have again: it has none, and nothing is bound"},
	{query: "hooks", arg: "$sha256:", operations: "hook|sendHook|sendRunHook|decide",
		why: "a token that pawl has made is 192 random bits and found whatever its tenant"},
	{query: "FROM runs WHERE key = ", what: bindsForeign, operations: "hook$|sendHook$",
		why: "the run of such a hook, whose tenant is then compared: TestAnotherTenantsIdsDoNotExist"},
	{query: "FROM runs", operations: "ready",
		why: "whether the store can be read; nothing of the row is told"},
	{query: "budgets", operations: "topUp|setBudget|deleteBudget",
		why: "a budget by its number, which was found by tenant and name before"},
	{query: "FROM waits WHERE event = ", arg: "$budget:", operations: "topUp|setBudget|deleteBudget",
		why: "who waits for a budget, by that number: only runs of its tenant can"},
	{query: "FROM runs WHERE changed >= ",
		why: "news on PostgreSQL are read once for all feeds of a process, each of which is told of its own tenant: TestTheFeedOverHTTP"},
	{query: "WHERE worker <> 0", why: "the reader of news on PostgreSQL starts with what runs now"},
}

// notForTenants are the operations that a tenant's key can't succeed with here, and why.
var notForTenants = map[string]string{
	"prompts": "global", "prompt": "global", "promptVersion": "global", "putPrompt": "global", "activatePrompt": "global", "rollbackPrompt": "global", "stats": "global", "metrics": "global",
	"secretKeys": "global", "rewrapSecrets": "global",
	"backtest": "no run has asked a model", "backtestWorkflow": "no run has asked a model", "forkAsked": "no run has asked a model",
	"showApprovalLink": "a link has its tenant in it, signed", "decideApprovalLink": "a link has its tenant in it, signed",
	"login": "there is no provider", "loginCallback": "there is no provider", "resetBreaker": "no circuit of a service is open",
}

func clientOptions() *pawl.Options {
	return &pawl.Options{Secret: []byte(strings.Repeat("s", 32)), Poll: 50 * time.Millisecond}
}

// keysOf are the numbers of a tenant's runs.
func keysOf(t *testing.T, e *pawl.Engine, tenant string) map[int64]string {
	t.Helper()
	keys := map[int64]string{}
	var cursor int64
	for {
		page, err := e.List(t.Context(), pawl.Filter{Tenant: tenant, Limit: 1000, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range page {
			if run.Key > fillers {
				keys[run.Key] = run.ID
			}
			cursor = run.Key
		}
		if len(page) < 1000 {
			return keys
		}
	}
}

// belongings are what a tenant has, each under the name of the parameter that takes it.
type belongings struct {
	prefix string
	runs   []string // their ids without the prefix
	other  map[string]string
}

// furnish makes one of everything that routes ask for by a name.
func furnish(h *house, bearing, prefix string) *belongings {
	h.t.Helper()
	b := &belongings{prefix: prefix, runs: []string{"hooks", "fails", "echo", "waits", "streams", "sleeps", "approves"}, other: map[string]string{}}
	c, ctx := h.as(bearing), h.t.Context()
	must := func(err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
	}
	states := map[string]pawl.State{"fails": pawl.Failed, "echo": pawl.Completed}
	for _, workflow := range b.runs {
		input := json.RawMessage("{}")
		if workflow == "streams" {
			input = json.RawMessage(`{"n":3}`)
		}
		_, err := c.Start(ctx, api.StartRequest{Workflow: workflow, ID: prefix + workflow, Input: input, Attributes: map[string]any{"of": prefix}}, 0)
		must(err)
		want, ok := states[workflow]
		if !ok {
			want = pawl.Waiting
		}
		h.eventually(prefix+workflow, func() bool {
			run, err := c.Run(ctx, prefix+workflow, 0)
			must(err)
			return run.State == want
		})
	}
	hooks, err := c.Hooks(ctx, prefix+"hooks")
	must(err)
	b.other["token"], b.other["key"] = hooks.Items[0].Token, hooks.Items[0].Key
	_, err = c.SetBudget(ctx, prefix+"name", api.BudgetRequest{Limit: 5})
	must(err)
	_, err = c.PutSchedule(ctx, prefix+"id", api.ScheduleRequest{Workflow: "sleeps", Cron: "@yearly"})
	must(err)
	_, err = c.PutSubscription(ctx, prefix+"id", api.SubscriptionRequest{Workflow: "sleeps", Event: "never"})
	must(err)
	for _, text := range []string{"first", "second"} {
		_, err = c.Deploy(ctx, []byte(aFlow(prefix+"flow", text)), api.DeployOptions{})
		must(err)
	}
	_, err = c.Start(ctx, api.StartRequest{Workflow: prefix + "flow", ID: prefix + "executed"}, 20*time.Second)
	must(err)
	for _, what := range []string{"approveDraft", "rejectDraft", "draft"} {
		v, err := c.Propose(ctx, []byte(aFlow(prefix+"flow", "third")), "")
		must(err)
		b.other["drafts:"+what], b.other["digest"] = v.ID, v.Digest
	}
	_, err = c.PutSecret(ctx, prefix+"name", api.SecretRequest{Value: "hush"})
	must(err)
	key, err := c.CreateKey(ctx, api.KeySpec{Name: "spare", Scopes: []api.Scope{api.RunsRead}})
	must(err)
	b.other["keys"] = key.Key.ID
	asked, err := c.Approval(ctx, prefix+"approves/pay", false)
	must(err)
	b.other["shown"] = asked.Shown
	return b
}

// fill gives the parameters of an operation what is the tenant's.
func (b *belongings) fill(d documented, run string) func(param string) string {
	return func(param string) string {
		if b == nil {
			return nowhere(param)
		}
		what, _, _ := strings.Cut(strings.TrimPrefix(d.path, "/api/"), "/")
		switch what + "/" + param {
		case "runs/id":
			return b.prefix + run
		case "runs/name":
			return "a/b"
		case "runs/event":
			return "go/now"
		case "keys/id":
			return b.other["keys"]
		case "approvals/id", "approval-links/id":
			return b.prefix + "approves/pay"
		case "budgets/name", "secrets/name", "schedules/id", "subscriptions/id":
			return b.prefix + param
		case "templates/name":
			return "rag-answer"
		case "events/name": // both tenants have a run that waits for it
			return "go/now"
		case "workflows/id":
			return b.prefix + "flow"
		case "drafts/id":
			return cmp.Or(b.other["drafts:"+d.OperationID], b.other["drafts:draft"])
		case "executions/id":
			return b.prefix + "executed"
		}
		if v := b.other[param]; v != "" {
			return v
		}
		return nowhere(param)
	}
}

// order is when an operation comes: what reads first, what removes last.
func order(d documented) int {
	switch {
	case d.method == http.MethodGet:
		return 0
	case d.OperationID == "cancel" || d.OperationID == "deactivateWorkflow":
		return 2
	case d.method == http.MethodDelete:
		return 3
	}
	return 1
}

// contextFor ends views, which would not end by themselves.
func contextFor(t *testing.T, d documented) (context.Context, context.CancelFunc) {
	limit := 30 * time.Second
	if d.OperationID == "follow" || d.OperationID == "readStream" || d.OperationID == "feed" {
		limit = 300 * time.Millisecond
	}
	return context.WithTimeout(t.Context(), limit)
}
