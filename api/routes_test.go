package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/draft"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/trigger"
)

// browser are the operations that a browser calls, for which the client has no method.
var browser = []string{"login", "loginCallback", "logout", "showApprovalLink", "decideApprovalLink"}

func isBrowsers(id string) bool {
	for _, b := range browser {
		if b == id {
			return true
		}
	}
	return false
}

func TestTheClientHasEveryOperation(t *testing.T) {
	c := newContract(t)
	for _, d := range c.operations {
		name := strings.ToUpper(d.OperationID[:1]) + d.OperationID[1:]
		if _, ok := reflect.TypeFor[*api.Client]().MethodByName(name); ok == isBrowsers(d.OperationID) {
			t.Errorf("operation %s: the client's method %s is there: %v", d.OperationID, name, ok)
		}
	}
}

// asks are workflows whose models are scripted.
func asks() []pawl.Definition {
	models := agent.New(agent.Options{Model: "scripted/m", Providers: map[string]llm.Model{"scripted": llmtest.Script(
		llmtest.Rule{Contains: "Hello", Text: "good day"},
		llmtest.Rule{Contains: "Bye", Text: "farewell"},
	)}})
	return []pawl.Definition{
		pawl.Define("asks", func(c *pawl.Context, text string) (string, error) {
			return agent.Generate[string](c, models, "greet", agent.Call{Prompt: text})
		}),
		models.Backtester(),
		pawl.Define("tries", func(c *pawl.Context, _ any) (string, error) {
			tries := 0
			if err := pawl.Do(c, "shaky", func(ctx context.Context) error {
				money, err := pawl.Spend(ctx, pawl.Spending{Item: "paper", Most: 10})
				if err != nil {
					return err
				}
				if err := money.Settle(4, false, nil); err != nil {
					return err
				}
				if tries++; tries == 1 {
					return errors.New("not yet")
				}
				return nil
			}, pawl.Backoff(time.Millisecond, time.Millisecond)); err != nil {
				return "", err
			}
			return "done", pawl.Do(c, "bad", func(context.Context) error { return pawl.Fatal(errors.New("broken")) })
		}),
	}
}

// Each operation of the document is asked for, and answers with success what it is for.
func TestEveryRouteIsDriven(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()}, append(workflows(func() error { return nil }), asks()...)...)
		_, secret := h.key("", api.Admin)
		c, ctx := h.as(secret), t.Context()
		must := func(ok bool, err error, got any) {
			t.Helper()
			if err != nil || !ok {
				t.Errorf("%+v %v", got, err)
			}
		}
		first := func(events iter.Seq2[api.Event, error]) (e api.Event, err error) {
			for e, err = range events {
				return e, err
			}
			return e, errors.New("no event")
		}
		var key api.NewKey
		var ran string // an execution
		var drafted api.DraftView
		var hook api.Hook
		begin := func(workflow, id string, input string, until pawl.State) {
			t.Helper()
			run, err := c.Start(ctx, api.StartRequest{Workflow: workflow, ID: id, Input: json.RawMessage(input)}, 0)
			for end := time.Now().Add(20 * time.Second); err == nil && run.State != until && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				run, err = c.Run(ctx, id, 0)
			}
			must(run.State == until, err, run)
		}
		rows := []struct {
			operation string
			drive     func()
		}{
			{"health", func() { v, err := c.Health(ctx); must(v.Status == "ok", err, v) }},
			{"ready", func() { v, err := c.Ready(ctx); must(v.Status == "ok", err, v) }},
			{"metrics", func() {
				v, err := c.Metrics(ctx)
				must(strings.Contains(v, "\npawl_workers 1\n") && strings.Contains(v, `pawl_http_requests_total{code="200",method="GET",route="/healthz"} `), err, v)
			}},
			{"openAPI", func() { v, err := c.OpenAPI(ctx); must(strings.Contains(string(v), `"3.1.0"`), err, "") }},
			{"whoami", func() { v, err := c.Whoami(ctx); must(v.Name == `the key "test"`, err, v) }},
			{"stats", func() { v, err := c.Stats(ctx); must(v.Workers == 1, err, v) }},
			{"workflows", func() { v, err := c.Workflows(ctx, "", 0); must(len(v.Items) == 15, err, v) }},
			{"workflow", func() {
				v, err := c.Workflow(ctx, "agent.backtest")
				must(v.Name == "agent.backtest", err, v)
				_, err = c.Workflow(ctx, "ecco")
				must(errors.Is(err, pawl.ErrUnknown) && strings.Contains(err.Error(), `"echo"`), nil, err)
			}},
			{"flowSchema", func() { v, err := c.FlowSchema(ctx); must(strings.Contains(string(v), "ai-decision"), err, "") }},
			{"templates", func() { v, err := c.Templates(ctx); must(len(v.Items) == 8 && v.Items[0].Flow == "", err, v) }},
			{"template", func() {
				v, err := c.Template(ctx, "rag-answer")
				must(strings.Contains(v.Flow, "\nid: rag-answer\n") && v.Cases != "" && v.Page != "" && v.Services["search"] != "" && json.Valid(v.Input), err, v)
				if _, err := c.Template(ctx, "nothing"); !errors.Is(err, pawl.ErrNotFound) {
					t.Errorf("a template that nobody wrote: %v", err)
				}
			}},
			{"validate", func() {
				v, err := c.Validate(ctx, []byte(aFlow("hello", "one")))
				must(v.Valid && v.WorkflowID == "hello" && len(v.Errors)+len(v.Warnings) == 0, err, v)
				v, err = c.Validate(ctx, []byte("id: hello\nsteps:\n- {id: a, type: service, config: {service: dusk}, next: end}\n"))
				must(!v.Valid && len(v.Errors) == 1 && v.Errors[0].Line == 3 && v.Errors[0].Hint == `did you mean "desk"?`, err, v)
			}},
			{"deploy", func() {
				for i, text := range []string{"one", "two", "one"} {
					v, err := c.Deploy(ctx, []byte(aFlow("hello", text)), api.DeployOptions{})
					must(v.Success && v.WorkflowID == "hello" && v.Version == []int{1, 2, 1}[i] && v.Existed == (i == 2) && v.Active == v.Version, err, v)
				}
			}},
			{"execute", func() {
				v, err := c.Execute(ctx, "hello", json.RawMessage(`{"a":1}`), 2, 20*time.Second)
				ran = v.ExecutionID
				must(v.Status == "completed" && v.Version == "2" && string(v.Output) == `{"text":"two"}`, err, v)
				v, err = c.Execute(ctx, "echo", json.RawMessage(`{"text":"hi"}`), 0, 20*time.Second)
				must(v.Status == "completed" && string(v.Output) == `{"text":"hi"}`, err, v)
			}},
			{"workflowMetrics", func() {
				v, err := c.WorkflowMetrics(ctx, "hello", flow.Span{})
				must(v.TotalExecutions == 1 && v.SuccessRate == "100.0%" && *v.SuccessRatio == 1 && *v.TotalCost == "$0.0000" && v.Last24h.Completed == 1 && v.ByVersion["2"].Completed == 1, err, v)
				v, err = c.WorkflowMetrics(ctx, "hello", flow.Span{To: time.Now().Add(-time.Hour)})
				must(v.TotalExecutions == 0 && v.SuccessRate == "N/A" && v.SuccessRatio == nil, err, v)
				_, err = c.WorkflowMetrics(ctx, "nobody", flow.Span{})
				must(errors.Is(err, pawl.ErrNotFound), nil, err)
			}},
			{"workflowCosts", func() {
				v, err := c.WorkflowCosts(ctx, "hello", flow.Span{})
				must(v.TotalExecutions == 1 && *v.TotalCost == "$0.0000" && len(v.CostByStep) == 0 && strings.HasPrefix(v.Period, "since "), err, v)
				_, err = c.WorkflowCosts(ctx, "nobody", flow.Span{})
				must(errors.Is(err, pawl.ErrNotFound), nil, err)
			}},
			{"executions", func() {
				v, err := c.Executions(ctx, api.ExecutionQuery{Workflow: "hello", Status: []pawl.State{pawl.Completed}, Limit: 1})
				must(len(v.Items) == 1 && v.Items[0].ExecutionID == ran && v.Items[0].Version == 2 && v.NextCursor == "", err, v)
				v, err = c.Executions(ctx, api.ExecutionQuery{Workflow: "hello", Since: time.Now().Add(time.Hour)})
				must(len(v.Items) == 0, err, v)
			}},
			{"execution", func() {
				v, err := c.Execution(ctx, ran)
				must(v.WorkflowID == "hello" && v.Status == pawl.Completed && string(v.StepResults["say"].Output) == `{"text":"two"}` && v.StepResults["say"].Next == "end" && string(v.Output) == `{"text":"two"}`, err, v)
				_, err = c.Execution(ctx, "nobody")
				must(errors.Is(err, pawl.ErrNotFound), nil, err)
			}},
			{"workflowGraph", func() {
				v, err := c.WorkflowGraph(ctx, "hello", api.GraphQuery{Format: "mermaid"})
				must(strings.HasPrefix(string(v), "flowchart TD"), err, string(v))
				v, err = c.WorkflowGraph(ctx, "hello", api.GraphQuery{Format: "svg", Run: ran})
				must(strings.HasPrefix(string(v), "<svg ") && strings.Contains(string(v), "✓ completed"), err, string(v))
				v, err = c.WorkflowGraph(ctx, "hello", api.GraphQuery{Run: ran, Version: 2})
				var g flow.Graph
				must(json.Unmarshal(v, &g) == nil && len(g.Nodes) == 3 && g.Edges[1].Taken == 1, err, string(v))
				for _, q := range []api.GraphQuery{{Run: "nobody"}, {Version: 7}} {
					_, err = c.WorkflowGraph(ctx, "hello", q)
					must(errors.Is(err, pawl.ErrNotFound), nil, err)
				}
			}},
			{"dashboard", func() {
				v, err := c.Dashboard(ctx, "", 0)
				must(len(v.Workflows) >= 1 && v.Workflows[len(v.Workflows)-1].ID == "hello" && v.TotalExecutions >= 1 && v.NextCursor == "", err, v)
			}},
			{"generate", func() {
				v, err := c.Generate(ctx, api.GenerateRequest{Description: "written by a script"}, time.Minute)
				must(v.DraftID == v.ID && v.State == draft.Open && v.WorkflowID == "written" && strings.Contains(string(v.Workflow), "written by a script") && len(v.Problems) == 0, err, v)
				drafted = v.DraftView
			}},
			{"approveDraft", func() {
				v, err := c.ApproveDraft(ctx, drafted.ID, api.ApproveDraftRequest{Digest: drafted.Digest})
				must(v.Draft.State == draft.Approved && v.Deployed.Version == 1 && v.Deployed.Active == 1, err, v)
			}},
			{"generateChange", func() {
				v, err := c.GenerateChange(ctx, "written", api.GenerateRequest{Description: "otherwise"}, 0)
				must(v.Change && v.Base == 1 && len(v.Diff.Changes) == 1, err, v)
				drafted = v.DraftView
			}},
			{"draft", func() {
				v, err := c.Draft(ctx, drafted.ID)
				must(v.Digest == drafted.Digest && v.Text == drafted.Text, err, v)
			}},
			{"rejectDraft", func() {
				v, err := c.RejectDraft(ctx, drafted.ID, api.RejectDraftRequest{Comment: "no"})
				must(v.State == draft.Rejected && v.Decided.Comment == "no", err, v)
			}},
			{"propose", func() {
				v, err := c.Propose(ctx, []byte(aFlow("written", "by hand")), "for you")
				must(v.State == draft.Open && v.Change && v.Words == "for you", err, v)
				drafted = v
			}},
			{"deleteDraft", func() { err := c.DeleteDraft(ctx, drafted.ID); must(true, err, nil) }},
			{"drafts", func() {
				v, err := c.Drafts(ctx, api.DraftQuery{Workflow: "written", State: draft.Rejected})
				must(len(v.Items) == 1 && v.NextCursor == "", err, v)
			}},
			{"explain", func() {
				v, err := c.Explain(ctx, "written", 0)
				must(v.ID == "written" && len(v.Steps) == 1, err, v)
			}},
			{"exportWorkflow", func() {
				v, err := c.ExportWorkflow(ctx, "written", 0)
				must(strings.Contains(string(v), `"version":1`), err, string(v))
			}},
			{"validateWorkflow", func() {
				v, err := c.ValidateWorkflow(ctx, "hello", 2)
				must(v.Valid && v.Version == 2, err, v)
			}},
			{"workflowVersions", func() {
				v, err := c.WorkflowVersions(ctx, "hello", "", 1)
				must(len(v.Items) == 1 && v.Items[0].Version == 1 && v.Items[0].Document == nil && v.NextCursor != "", err, v)
				v, err = c.WorkflowVersions(ctx, "hello", v.NextCursor, 1)
				must(len(v.Items) == 1 && v.Items[0].Version == 2 && v.NextCursor == "", err, v)
			}},
			{"workflowVersion", func() {
				v, err := c.WorkflowVersion(ctx, "hello", 2)
				must(v.Version == 2 && strings.Contains(string(v.Document), `"two"`), err, v)
			}},
			{"activateWorkflow", func() {
				share := 25.0
				v, err := c.ActivateWorkflow(ctx, "hello", api.ActivateFlowRequest{Version: 2, Percent: &share})
				must(v.Active == 1 && v.Canary.Version == 2 && v.Canary.Percent == 25, err, v)
			}},
			{"rollbackWorkflow", func() {
				v, err := c.RollbackWorkflow(ctx, "hello")
				must(v.Active == 1 && v.Canary == nil, err, v)
				v, err = c.RollbackWorkflow(ctx, "hello")
				must(v.Active == 2 && v.Previous == 1, err, v)
			}},
			{"workflowTriggers", func() {
				v, err := c.WorkflowTriggers(ctx, "hello")
				must(len(v.Items) > 0 && v.Items[0].Type == "manual", err, v)
			}},
			{"testTrigger", func() {
				v, err := c.TestTrigger(ctx, "hello", 0, api.TestTriggerRequest{DryRun: true})
				must(v.Matched && v.Run == "", err, v)
			}},
			{"migrateWorkflow", func() {
				v, err := c.MigrateWorkflow(ctx, "hello", api.MigrateRequest{DryRun: true})
				must(v.To == 2 && v.Migrated == 0, err, v)
			}},
			{"deactivateWorkflow", func() {
				v, err := c.DeactivateWorkflow(ctx, "hello")
				must(v.Active == 0 && v.Previous == 2, err, v)
				_, err = c.Execute(ctx, "hello", nil, 0, 0)
				must(errors.Is(err, pawl.ErrState), nil, err)
			}},
			{"start", func() { begin("waits", "w/1", "null", pawl.Waiting) }},
			{"startWorkflow", func() {
				v, err := c.StartWorkflow(ctx, "echo", api.StartRequest{ID: "e", Input: json.RawMessage(`{"text":"hi"}`)}, 20*time.Second)
				must(string(v.Result) == `{"text":"hi"}`, err, v)
			}},
			{"run", func() { v, err := c.Run(ctx, "w/1", 0); must(v.Workflow == "waits", err, v) }},
			{"runs", func() {
				v, err := c.Runs(ctx, api.RunQuery{Prefix: "w/", Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)})
				must(len(v.Items) == 1 && v.Items[0].ID == "w/1", err, v)
				v, err = c.Runs(ctx, api.RunQuery{Since: time.Now().Add(time.Hour)})
				must(len(v.Items) == 0, err, v)
				v, err = c.Runs(ctx, api.RunQuery{Parent: "w/1"})
				must(len(v.Items) == 0, err, v)
			}},
			{"why", func() { v, err := c.Why(ctx, "w/1"); must(strings.Contains(v.Why, "go/now"), err, v) }},
			{"journalPage", func() { v, err := c.JournalPage(ctx, "w/1", -1); must(len(v.Items) > 0, err, v) }},
			{"steps", func() {
				begin("tries", "tries", "null", pawl.Failed)
				v, err := c.Steps(ctx, "tries", "", 1)
				must(len(v.Items) == 1 && v.NextCursor != "", err, v)
				s := v.Items[0]
				must(s.Key == "shaky" && s.State == api.StepCompleted && len(s.Attempts) == 2 && s.Attempts[0].Error.Message == "not yet" && s.Attempts[1].Error == nil && *s.Cost == 8, nil, s)
				v, err = c.Steps(ctx, "tries", v.NextCursor, 1)
				must(len(v.Items) == 1 && v.NextCursor == "" && v.Items[0].State == api.StepFailed && v.Items[0].Key == "bad", err, v)
			}},
			{"follow", func() { e, err := first(c.Follow(ctx, "w/1", -1)); must(e.Run.ID == "w/1", err, e) }},
			{"streams", func() {
				begin("streams", "s", `{"n":3}`, pawl.Waiting)
				v, err := c.Streams(ctx, "s")
				must(len(v.Items) == 2, err, v)
			}},
			{"createStreamToken", func() {
				v, err := c.CreateStreamToken(ctx, "s", api.StreamTokenRequest{})
				must(v.Token != "" && v.Expires.After(time.Now()), err, v)
			}},
			{"readStream", func() {
				e, err := first(c.ReadStream(ctx, "s", "a/b", 1))
				must(string(e.Chunk.Data) == `{"i":1}`, err, e)
			}},
			{"chunkPage", func() {
				v, err := c.ChunkPage(ctx, "s", "a/b", 0, 2)
				must(len(v.Items) == 2 && v.NextFrom == 2 && !v.Done, err, v)
				v, err = c.ChunkPage(ctx, "s", "a/b", 2, 2)
				must(len(v.Items) == 1 && v.NextFrom == 3 && v.Done, err, v)
				v, err = c.ChunkPage(ctx, "s", "a/b", -1, 0)
				must(len(v.Items) == 1 && v.Items[0].Index == 2, err, v)
				v, err = c.ChunkPage(ctx, "s", "", 3, 0) // it is not waited for what may come
				must(len(v.Items) == 0 && v.NextFrom == 3 && !v.Done, err, v)
			}},
			{"feed", func() {
				feed, stop := context.WithTimeout(ctx, 20*time.Second)
				defer stop()
				go func() {
					for feed.Err() == nil {
						if _, err := c.Start(feed, api.StartRequest{Workflow: "echo", Input: json.RawMessage(`{}`)}, 0); err != nil {
							return
						}
						time.Sleep(20 * time.Millisecond)
					}
				}()
				e, err := first(c.Feed(feed, api.FeedQuery{Workflow: "echo"}, ""))
				must(e.Item != nil, err, e)
			}},
			{"signal", func() { v, err := c.Signal(ctx, "w/1", "go/now", nil); must(v.ID == "w/1", err, v) }},
			{"publish", func() {
				begin("waits", "w2", "null", pawl.Waiting)
				once := api.WithIdempotencyKey(ctx, "event-1")
				for range 2 {
					v, err := c.Publish(once, "go/now", json.RawMessage(`1`))
					must(v.Count == 1 && v.ID == "event-1", err, v)
				}
				_, err := c.Publish(once, "go/now", json.RawMessage(`2`))
				var p *api.Problem
				must(errors.As(err, &p) && p.Status == 422, nil, err)
				v, err := c.Publish(ctx, "go/now", nil)
				must(v.Count == 0 && v.ID != "" && v.ID != "event-1", err, v)
			}},
			{"hooks", func() {
				begin("hooks", "h", "null", pawl.Waiting)
				v, err := c.Hooks(ctx, "h")
				must(len(v.Items) == 1 && v.Items[0].Run == "h", err, v)
				hook = v.Items[0]
				_, reader := h.key("", api.RunsRead)
				v, err = h.as(reader).Hooks(ctx, "h")
				must(len(v.Items) == 1 && v.Items[0].Token == "", err, v) // who may not send is not told how
			}},
			{"hookPage", func() {
				begin("hooks", "h2", "null", pawl.Waiting)
				v, err := c.HookPage(ctx, api.HookQuery{Limit: 1})
				must(len(v.Items) == 1 && v.Items[0].Key == hook.Key && v.Items[0].Token == hook.Token && v.NextCursor != "", err, v)
				v, err = c.HookPage(ctx, api.HookQuery{Cursor: v.NextCursor})
				must(len(v.Items) == 1 && v.Items[0].Run == "h2" && v.NextCursor == "", err, v)
				v, err = c.HookPage(ctx, api.HookQuery{Run: "h2", Kind: "none"})
				must(len(v.Items) == 0, err, v)
			}},
			{"hook", func() { v, err := c.Hook(ctx, hook.Token); must(v.Run == "h", err, v) }},
			{"sendHook", func() {
				once := api.WithIdempotencyKey(ctx, "x")
				for range 2 {
					v, err := c.SendHook(once, hook.Token, json.RawMessage(`{"a":1}`))
					must(v.Run == "h", err, v)
				}
				_, err := c.SendHook(once, hook.Token, json.RawMessage(`{"a":2}`))
				var p *api.Problem
				must(errors.As(err, &p) && p.Status == 422, nil, err)
				begin("echo", "after", `{}`, pawl.Completed)
				if run, err := c.Run(ctx, "h", 20*time.Second); err != nil || string(run.Result) != `{"a":1}` {
					t.Error(run, err)
				}
				_, err = c.SendHook(ctx, hook.Token, nil)
				must(errors.Is(err, pawl.ErrEnded), nil, err)
			}},
			{"sendRunHook", func() {
				v, err := c.SendRunHook(ctx, "h2", hook.Key, json.RawMessage(`2`))
				must(v.Run == "h2", err, v)
				_, err = c.SendRunHook(ctx, "h2", "none", nil)
				must(errors.Is(err, pawl.ErrNotFound) || errors.Is(err, pawl.ErrEnded), nil, err)
			}},
			{"approvals", func() {
				begin("approves", "p/1", `{"text":"x"}`, pawl.Waiting)
				v, err := c.Approvals(ctx, api.ApprovalQuery{Run: "p/1", Approver: "ann"})
				must(len(v.Items) == 1 && v.Items[0].ID == "p%2F1/pay", err, v)
			}},
			{"approval", func() {
				v, err := c.Approval(ctx, "p%2F1/pay", true)
				must(v.Run == "p/1" && v.State == approval.Pending && len(v.History) == 1, err, v)
			}},
			{"approvalLink", func() {
				v, err := c.ApprovalLink(ctx, "p%2F1/pay", "ann")
				must(v.Approver == "ann" && strings.HasPrefix(v.URL, "http://") && strings.Contains(v.URL, approval.LinkPath), err, v)
			}},
			{"decide", func() {
				a, err := c.Approval(ctx, "p%2F1/pay", false)
				must(true, err, a)
				no := false
				v, err := c.Decide(ctx, a.ID, api.DecisionRequest{Approved: &no, By: "ann", Shown: a.Shown})
				must(v.State == approval.Decided && !v.Decision.Approved, err, v)
			}},
			{"pause", func() {
				begin("sleeps", "z", "null", pawl.Waiting)
				v, err := c.Pause(ctx, "z", "lunch")
				must(v.State == pawl.Paused, err, v)
			}},
			{"resume", func() { v, err := c.Resume(ctx, "z"); must(v.State != pawl.Paused, err, v) }},
			{"wake", func() { v, err := c.Wake(ctx, "z", api.WakeRequest{}); must(v.ID == "z", err, v) }},
			{"cancel", func() {
				begin("waits", "x", "null", pawl.Waiting)
				v, err := c.Cancel(ctx, "x", "no more")
				must(v.ID == "x", err, v)
				v, err = c.Run(ctx, "x", 20*time.Second)
				must(v.State == pawl.Cancelled, err, v)
			}},
			{"retry", func() { v, err := c.Retry(ctx, "tries"); must(v.State != pawl.Failed, err, v) }},
			{"fork", func() {
				v, err := c.Fork(ctx, "e", api.ForkRequest{From: "say", ID: "e2"})
				must(v.Forked == "e", err, v)
			}},
			{"deleteRun", func() {
				must(true, c.DeleteRun(ctx, "x"), "")
				_, err := c.Run(ctx, "x", 0)
				must(errors.Is(err, pawl.ErrNotFound), nil, err)
				must(errors.Is(c.DeleteRun(ctx, "s"), pawl.ErrState), nil, "a run that has not ended")
			}},
			{"costs", func() { v, err := c.Costs(ctx, api.CostQuery{Run: "tries"}); must(len(v.Items) == 1, err, v) }},
			{"charges", func() {
				v, err := c.Charges(ctx, api.ChargeQuery{Run: "tries", Item: "paper", Limit: 1})
				must(len(v.Items) == 1 && v.Items[0].Amount == 4 && v.NextCursor != "", err, v)
				v, err = c.Charges(ctx, api.ChargeQuery{Run: "tries", Cursor: v.NextCursor})
				must(len(v.Items) == 1, err, v)
			}},
			{"setBudget", func() {
				v, err := c.SetBudget(ctx, "team/red", api.BudgetRequest{Limit: 5_000_000, Per: "24h", Workflow: "echo"})
				must(v.Left == 5_000_000 && v.Per == "24h0m0s" && v.Meter == "usd", err, v)
				must(true, second(c.SetBudget(ctx, "b", api.BudgetRequest{Limit: 1, Meter: "pages"})), "")
			}},
			{"budget", func() { v, err := c.Budget(ctx, "team/red"); must(v.Limit == 5_000_000 && v.ETag != "", err, v) }},
			{"budgets", func() {
				v, err := c.Budgets(ctx, "", 1)
				must(len(v.Items) == 1 && v.Items[0].Name == "b" && v.NextCursor != "", err, v)
				v, err = c.Budgets(ctx, v.NextCursor, 0)
				must(len(v.Items) == 4 && strings.HasPrefix(v.Items[2].Name, "run:") && v.Items[3].Name == "team/red" && v.NextCursor == "", err, v) // the first are those of a flow's run and of drafts
			}},
			{"runBudgets", func() {
				limit := 0.5
				_, err := c.Start(ctx, api.StartRequest{Workflow: "waits", ID: "rich", BudgetUSD: &limit}, 0)
				must(true, err, "")
				v, err := c.RunBudgets(ctx, "rich", "", 0)
				must(len(v.Items) == 1 && v.Items[0].Limit == 500_000, err, v)
			}},
			{"topUp", func() {
				was, err := c.Budget(ctx, "team/red")
				must(true, err, "")
				v, err := c.TopUp(api.WithIfMatch(ctx, was.ETag), "team/red", 7)
				must(v.Extra == 7 && v.ETag != was.ETag, err, v)
				var p *api.Problem
				_, err = c.TopUp(api.WithIfMatch(ctx, was.ETag), "team/red", 7)
				must(errors.As(err, &p) && p.Status == 412 && p.Code == "changed", nil, err)
				_, err = c.SetBudget(api.WithIfMatch(ctx, was.ETag), "team/red", api.BudgetRequest{Limit: 1})
				must(errors.As(err, &p) && p.Status == 412, nil, err)
				must(errors.As(c.DeleteBudget(api.WithIfMatch(ctx, was.ETag), "team/red"), &p) && p.Status == 412, nil, "")
			}},
			{"deleteBudget", func() {
				must(true, c.DeleteBudget(ctx, "team/red"), "")
				must(errors.Is(c.DeleteBudget(ctx, "team/red"), pawl.ErrNotFound), nil, "")
			}},
			{"putPrompt", func() {
				for range 2 {
					v, err := c.PutPrompt(ctx, "greet", api.PromptRequest{Text: "Hello {{name}}"})
					must(v.Version == 1, err, v)
				}
				v, err := c.PutPrompt(ctx, "greet", api.PromptRequest{Text: "Bye {{name}}"})
				must(v.Version == 2, err, v)
			}},
			{"prompt", func() { v, err := c.Prompt(ctx, "greet"); must(len(v.Versions) == 2, err, v) }},
			{"prompts", func() { v, err := c.Prompts(ctx); must(len(v.Items) == 1, err, v) }},
			{"promptVersion", func() { v, err := c.PromptVersion(ctx, "greet", 2); must(v.Text == "Bye {{name}}", err, v) }},
			{"activatePrompt", func() {
				was, err := c.Prompt(ctx, "greet")
				must(true, err, "")
				at := api.WithIfMatch(ctx, fmt.Sprintf("%q", fmt.Sprint(was.Revision)))
				v, err := c.ActivatePrompt(at, "greet", api.ActivateRequest{Weights: map[int]int{1: 1, 2: 3}})
				must(v.Active != nil && v.Active.By == `the key "test"` && v.Active.Weights[2] == 3, err, v)
				_, err = c.ActivatePrompt(at, "greet", api.ActivateRequest{})
				var p *api.Problem
				must(errors.As(err, &p) && p.Status == 412, nil, err)
				_, err = c.ActivatePrompt(ctx, "greet", api.ActivateRequest{Weights: map[int]int{1: 1}})
				must(true, err, "")
			}},
			{"rollbackPrompt", func() {
				v, err := c.RollbackPrompt(ctx, "greet", api.RollbackRequest{By: "me"})
				must(v.Active.Weights[2] == 3 && v.Active.By == "me", err, v)
			}},
			{"asked", func() {
				begin("asks", "a", `"Hello"`, pawl.Completed)
				v, err := c.Asked(ctx, "a", "", 0)
				must(len(v.Items) == 1 && v.Items[0].Step == "greet" && v.Items[0].Request != nil && v.NextCursor == "", err, v)
			}},
			{"forkAsked", func() {
				v, err := c.ForkAsked(ctx, "a", api.ForkAskedRequest{Step: "greet", Change: agent.Change{Prompt: "Bye"}})
				must(v.Forked == "a", err, v)
				v, err = c.Run(ctx, v.ID, 20*time.Second)
				must(string(v.Result) == `"farewell"`, err, v)
				must(strings.Contains(fmt.Sprint(second(c.ForkAsked(ctx, "a", api.ForkAskedRequest{Step: "none"}))), "none"), nil, "")
			}},
			{"backtest", func() {
				v, err := c.Backtest(ctx, api.BacktestRequest{Step: "greet", Runs: []string{"a"}, Change: agent.Change{Prompt: "Bye"}, ID: "bt"})
				must(v.ID == "bt", err, v)
				v, err = c.Run(ctx, "bt", 20*time.Second)
				var report agent.Report
				must(json.Unmarshal(v.Result, &report) == nil && report.Asked == 1 && strings.Contains(report.Decisions[0].Is, "farewell"), err, v)
			}},
			{"backtestWorkflow", func() {
				_, err := c.Deploy(ctx, []byte(`{"id":"sorts","steps":[{"id":"which","type":"ai-decision","config":{"prompt":"Which? {{variables.text}}","outputFormat":"enum","allowedValues":["a","b"]},"next":{"default":"end"}}]}`), api.DeployOptions{})
				must(true, err, "")
				x, err := c.Execute(ctx, "sorts", json.RawMessage(`{"text":"t"}`), 0, 20*time.Second)
				must(x.Status == "completed", err, x)
				q := api.WorkflowBacktestRequest{Step: "which", Flow: json.RawMessage(`"id: sorts\nsteps: [{id: which, type: ai-decision, config: {prompt: \"{{variables.text}}?\", outputFormat: enum, allowedValues: [b, c]}, next: {default: end}}]"`), DryRun: true}
				v, err := c.BacktestWorkflow(ctx, "sorts", q, 0)
				must(v.Run == nil && v.Estimate.Questions == 1 && v.Step == "which", err, v)
				q.DryRun = false
				v, err = c.BacktestWorkflow(api.WithIdempotencyKey(ctx, "again"), "sorts", q, 20*time.Second)
				var report agent.Report
				must(v.Run != nil && json.Unmarshal(v.Run.Result, &report) == nil && report.Asked == 1 && len(report.Pairs) == 1 && report.Pairs[0] == agent.Pair{Was: "a", Is: "b", N: 1}, err, v)
			}},
			{"putSchedule", func() {
				q := api.ScheduleRequest{Workflow: "echo", Cron: "0 9 * * MON-FRI", Zone: "Europe/Berlin", Input: json.RawMessage(`{"text":"tick"}`), Jitter: "30s", Attributes: map[string]string{"team": "red"}}
				v, err := c.PutSchedule(ctx, "daily:echo", q)
				must(v.Revision > 0 && v.ETag != "" && v.Jitter == "30s" && strings.Contains(v.Description, "09:00") && v.Next.After(time.Now()), err, v)
				same, err := c.PutSchedule(api.WithIfMatch(ctx, v.ETag), "daily:echo", q)
				must(same.ETag == v.ETag, err, same)
				q.Cron, q.Every = "", "1h"
				now, err := c.PutSchedule(api.WithIfMatch(ctx, v.ETag), "daily:echo", q)
				must(now.ETag != v.ETag && now.Every == "1h0m0s", err, now)
				var p *api.Problem
				for _, match := range []string{v.ETag, `"1"`} {
					_, err = c.PutSchedule(api.WithIfMatch(ctx, match), "daily:echo", q)
					must(errors.As(err, &p) && p.Status == 412 && p.Code == "changed", nil, err)
				}
				_, err = c.PutSchedule(api.WithIfMatch(ctx, "*"), "none", q)
				must(errors.Is(err, pawl.ErrNotFound), nil, err)
				r := h.send("PUT", "/api/schedules/daily:echo", `{"workflow":"echo","every":"1h"}`, bearer(secret), func(r *http.Request) { r.Header.Set("If-None-Match", "*") })
				must(r.status == 412, nil, r)
				for _, bad := range []api.ScheduleRequest{{Workflow: "echo"}, {Workflow: "echo", Every: "soon"}, {Cron: "@daily"}, {Workflow: "echo", Cron: "0 9 30 2 *"}, {Workflow: "echo", Cron: "@daily", Zone: "Mars"}, {Workflow: "echo", At: time.Now().Add(-time.Hour)}} {
					_, err = c.PutSchedule(ctx, "bad", bad)
					must(errors.As(err, &p) && p.Status == 400, nil, err)
				}
				must(true, second(c.PutSchedule(ctx, "weekly", api.ScheduleRequest{Workflow: "echo", Cron: "@weekly", Paused: true})), "")
			}},
			{"schedule", func() {
				v, err := c.Schedule(ctx, "daily:echo")
				must(v.Attributes["team"] == "red" && string(v.Input) == `{"text":"tick"}`, err, v)
			}},
			{"schedules", func() {
				v, err := c.Schedules(ctx, "", "", 1)
				must(len(v.Items) == 1 && v.Items[0].ID == "daily:echo" && v.NextCursor != "", err, v)
				v, err = c.Schedules(ctx, "", v.NextCursor, 0)
				must(len(v.Items) == 1 && v.Items[0].ID == "weekly" && v.NextCursor == "", err, v)
				v, err = c.Schedules(ctx, "w", "", 0)
				must(len(v.Items) == 1, err, v)
			}},
			{"nextSlots", func() {
				v, err := c.NextSlots(ctx, "weekly", 2)
				must(len(v.Items) == 2 && v.Items[1].Sub(v.Items[0]) == 7*24*time.Hour, err, v)
				must(errors.Is(second(c.NextSlots(ctx, "none", 0)), pawl.ErrNotFound), nil, "")
			}},
			{"pauseSchedule", func() {
				v, err := c.PauseSchedule(ctx, "daily:echo", "holidays")
				must(v.Paused && v.Reason == "holidays", err, v)
				was, err := c.Schedule(ctx, "weekly")
				must(true, err, "")
				must(true, second(c.PauseSchedule(api.WithIfMatch(ctx, was.ETag), "weekly", "another reason")), "")
				var p *api.Problem
				must(errors.As(second(c.PauseSchedule(api.WithIfMatch(ctx, was.ETag), "weekly", "again")), &p) && p.Status == 412, nil, "")
				must(errors.As(second(c.ResumeSchedule(api.WithIfMatch(ctx, was.ETag), "weekly")), &p) && p.Status == 412, nil, "")
				must(errors.As(c.DeleteSchedule(api.WithIfMatch(ctx, was.ETag), "weekly"), &p) && p.Status == 412, nil, "")
			}},
			{"triggerSchedule", func() {
				once := api.WithIdempotencyKey(ctx, "by hand")
				_, err := c.TriggerSchedule(once, "daily:echo", api.TriggerRequest{})
				var p *api.Problem
				must(errors.As(err, &p) && p.Status == 400, nil, err) // a space in a key
				once = api.WithIdempotencyKey(ctx, "by-hand")
				o, err := c.TriggerSchedule(once, "daily:echo", api.TriggerRequest{Overlap: "allow"})
				must(o.Outcome == trigger.Started && o.Run != "", err, o)
				again, err := c.TriggerSchedule(once, "daily:echo", api.TriggerRequest{Overlap: "allow"})
				must(again.Run == o.Run && again.Slot.Equal(o.Slot), err, again)
				r := h.send("POST", "/api/schedules/daily:echo/trigger", `{"overlap":"allow"}`, bearer(secret), func(r *http.Request) { r.Header.Set("Idempotency-Key", "by-hand") })
				must(r.status == 200 && r.header.Get("Idempotency-Replayed") == "true", nil, r)
				_, err = c.TriggerSchedule(once, "daily:echo", api.TriggerRequest{Overlap: "skip"})
				must(errors.As(err, &p) && p.Status == 422, nil, err)
				run, err := c.Run(ctx, o.Run, 20*time.Second)
				must(string(run.Result) == `{"text":"tick"}` && run.Attrs["team"] == "red" && run.Attrs["schedule"] == "daily:echo", err, run)
				o, err = c.TriggerSchedule(ctx, "daily:echo", api.TriggerRequest{})
				must(o.Outcome == trigger.Started, err, o)
			}},
			{"backfillSchedule", func() {
				if _, err := c.PutSchedule(ctx, "hourly", api.ScheduleRequest{Workflow: "echo", Input: json.RawMessage(`{}`), Cron: "@hourly"}); err != nil {
					t.Fatal(err)
				}
				to := time.Now().UTC().Truncate(time.Hour)
				q := api.BackfillRequest{From: to.Add(-3 * time.Hour), To: to, Overlap: "allow", DryRun: true}
				v, err := c.BackfillSchedule(ctx, "hourly", q)
				must(v.Slots == 3 && v.DryRun && v.First.Equal(q.From) && v.Last.Equal(to.Add(-time.Hour)), err, v)
				all, err := c.Runs(ctx, api.RunQuery{Attrs: map[string]string{"schedule": "hourly"}})
				must(len(all.Items) == 0, err, all)
				q.DryRun = false
				v, err = c.BackfillSchedule(ctx, "hourly", q)
				must(v.Slots == 3 && !v.DryRun, err, v)
				run, err := c.Schedule(ctx, "hourly")
				must(run.Waiting == 3, err, run)
				for _, bad := range []api.BackfillRequest{{}, {From: q.From}, {From: q.To, To: q.From}, {From: q.From, To: to.Add(2 * time.Hour)}, {From: to.Add(-3000 * time.Hour), To: to}, {From: q.From, To: q.To, Overlap: "none"}} {
					for _, bad.DryRun = range []bool{true, false} {
						var p *api.Problem
						_, err := c.BackfillSchedule(ctx, "hourly", bad)
						must(errors.As(err, &p) && p.Status == 400, nil, fmt.Sprint(bad, err))
					}
				}
				must(errors.Is(second(c.BackfillSchedule(ctx, "none", q)), pawl.ErrNotFound), nil, "")
				must(true, c.DeleteSchedule(ctx, "hourly"), "")
			}},
			{"putSubscription", func() {
				v, err := c.PutSubscription(ctx, "big", api.SubscriptionRequest{Event: "order", Where: "event.data.n > 10", Workflow: "echo"})
				must(v.ID == "big" && v.ETag != "" && !v.Created.IsZero(), err, v)
				was := v
				v, err = c.PutSubscription(api.WithIfMatch(ctx, was.ETag), "big", api.SubscriptionRequest{Event: "order", Where: "event.data.n > 5", Workflow: "echo"})
				must(v.ETag != was.ETag && v.Created.Equal(was.Created), err, v)
				var p *api.Problem
				_, err = c.PutSubscription(api.WithIfMatch(ctx, was.ETag), "big", api.SubscriptionRequest{Event: "order", Workflow: "echo"})
				must(errors.As(err, &p) && p.Status == 412, nil, err)
				r := h.send("PUT", "/api/subscriptions/big", `{"event":"order","workflow":"echo"}`, bearer(secret), func(r *http.Request) { r.Header.Set("If-None-Match", "*") })
				must(r.status == 412, nil, r)
				_, err = c.PutSubscription(ctx, "all", api.SubscriptionRequest{Event: "order", Workflow: "nobody-knows-it"})
				must(true, err, "")
				for _, bad := range []api.SubscriptionRequest{{}, {Event: "order"}, {Event: "$x", Workflow: "w"}, {Event: "e", Where: "1 +", Workflow: "w"}} {
					_, err := c.PutSubscription(ctx, "bad", bad)
					must(errors.As(err, &p) && p.Status == 400, nil, err)
				}
				// What a published event was matched with is in the answer.
				sent, err := c.Publish(api.WithIdempotencyKey(ctx, "o-1"), "order", json.RawMessage(`{"n":7}`))
				must(len(sent.Matches) == 2 && sent.Matches[0].Subscription == "all" && !sent.Matches[0].Done && sent.Pending &&
					sent.Matches[1].Subscription == "big" && sent.Matches[1].Run == sent.Runs[1] && sent.Matches[1].Done, err, sent)
				sent, err = c.Publish(api.WithIdempotencyKey(ctx, "o-2"), "order", json.RawMessage(`{}`))
				must(len(sent.Matches) == 1 && len(sent.Errors) == 1, err, sent)
			}},
			{"subscriptions", func() {
				v, err := c.Subscriptions(ctx, "", "", 1)
				must(len(v.Items) == 1 && v.Items[0].ID == "all" && v.NextCursor != "", err, v)
				v, err = c.Subscriptions(ctx, "", v.NextCursor, 0)
				must(len(v.Items) == 1 && v.Items[0].ID == "big" && v.NextCursor == "", err, v)
				v, err = c.Subscriptions(ctx, "b", "", 0)
				must(len(v.Items) == 1, err, v)
			}},
			{"subscription", func() {
				v, err := c.Subscription(ctx, "big")
				must(v.Where == "event.data.n > 5", err, v)
				must(errors.Is(second(c.Subscription(ctx, "none")), pawl.ErrNotFound), nil, "")
			}},
			{"subscriptionEvents", func() {
				v, err := c.SubscriptionEvents(ctx, "big", time.Time{}, "", 1)
				must(len(v.Items) == 1 && v.Items[0].Event == "o-1" && v.Items[0].Run != "" && v.Items[0].Done && v.NextCursor != "", err, v)
				v, err = c.SubscriptionEvents(ctx, "big", time.Time{}, v.NextCursor, 0)
				must(len(v.Items) == 1 && v.Items[0].Event == "o-2" && v.Items[0].Run == "" && v.Items[0].Error != "" && v.NextCursor == "", err, v)
				v, err = c.SubscriptionEvents(ctx, "big", time.Now().Add(time.Minute), "", 0)
				must(len(v.Items) == 0, err, v)
				must(errors.Is(second(c.SubscriptionEvents(ctx, "none", time.Time{}, "", 0)), pawl.ErrNotFound), nil, "")
			}},
			{"deleteSubscription", func() {
				var p *api.Problem
				must(errors.As(c.DeleteSubscription(api.WithIfMatch(ctx, `"1"`), "big"), &p) && p.Status == 412, nil, "")
				must(true, c.DeleteSubscription(ctx, "big"), "")
				must(errors.Is(c.DeleteSubscription(ctx, "big"), pawl.ErrNotFound), nil, "")
				sent, err := c.Publish(ctx, "order", json.RawMessage(`{"n":7}`))
				must(len(sent.Matches) == 1, err, sent)
			}},
			{"occurrences", func() {
				v, err := c.Occurrences(ctx, "daily:echo", "", 1)
				must(len(v.Items) == 1 && v.Items[0].Cause == trigger.ByHand && v.NextCursor != "", err, v)
				v, err = c.Occurrences(ctx, "daily:echo", v.NextCursor, 0)
				must(len(v.Items) == 1 && v.NextCursor == "", err, v)
				v, err = c.Occurrences(ctx, "weekly", "", 0)
				must(len(v.Items) == 0, err, v)
				must(errors.Is(second(c.Occurrences(ctx, "none", "", 0)), pawl.ErrNotFound), nil, "")
			}},
			{"resumeSchedule", func() { v, err := c.ResumeSchedule(ctx, "daily:echo"); must(!v.Paused, err, v) }},
			{"deleteSchedule", func() {
				must(true, c.DeleteSchedule(ctx, "daily:echo"), "")
				must(errors.Is(c.DeleteSchedule(ctx, "daily:echo"), pawl.ErrNotFound), nil, "")
			}},
			{"putSecret", func() {
				v, err := c.PutSecret(ctx, "stripe", api.SecretRequest{Value: "s1"})
				must(v.Name == "stripe" && strings.Contains(v.By, "test") && v.KeyID != "" && v.ETag != "" && v.PreviousUntil.IsZero(), err, v)
				was, until := v, time.Now().Add(time.Hour).UTC().Truncate(time.Second)
				v, err = c.PutSecret(api.WithIfMatch(ctx, was.ETag), "stripe", api.SecretRequest{Value: "s2", PreviousUntil: until})
				must(v.Revision > was.Revision && v.PreviousUntil.Equal(until), err, v)
				var p *api.Problem
				_, err = c.PutSecret(api.WithIfMatch(ctx, was.ETag), "stripe", api.SecretRequest{Value: "s3"})
				must(errors.As(err, &p) && p.Status == 412, nil, err)
				r := h.send("PUT", "/api/secrets/stripe", `{"value":"s3"}`, bearer(secret), func(r *http.Request) { r.Header.Set("If-None-Match", "*") })
				must(r.status == 412, nil, r)
				r = h.send("PUT", "/api/secrets/stripe", `{"value":"s3"}`, bearer(secret), func(r *http.Request) { r.Header.Set("Idempotency-Key", "once") })
				must(r.status == 400, nil, r) // it would keep a hash of it
				for name, bad := range map[string]api.SecretRequest{"1st": {Value: "x"}, "empty": {}, "past": {Value: "x", PreviousUntil: time.Unix(1, 0)}} {
					_, err := c.PutSecret(ctx, name, bad)
					must(errors.As(err, &p) && p.Status == 400, nil, err)
				}
				_, err = c.PutSecret(ctx, "large", api.SecretRequest{Value: strings.Repeat("x", 64<<10+1)})
				must(errors.As(err, &p) && p.Status == 413, nil, err)
				_, err = c.PutSecret(ctx, "mail", api.SecretRequest{Value: "m"})
				must(true, err, "")
			}},
			{"secrets", func() {
				v, err := c.Secrets(ctx, "", "", 1)
				must(len(v.Items) == 1 && v.Items[0].Name == "mail" && v.NextCursor != "", err, v)
				v, err = c.Secrets(ctx, "", v.NextCursor, 0)
				must(len(v.Items) == 1 && v.Items[0].Name == "stripe" && v.NextCursor == "", err, v)
				v, err = c.Secrets(ctx, "m", "", 0)
				must(len(v.Items) == 1, err, v)
			}},
			{"secret", func() {
				v, err := c.Secret(ctx, "stripe")
				must(v.Name == "stripe" && v.KeyID != "", err, v)
				must(errors.Is(second(c.Secret(ctx, "none")), pawl.ErrNotFound), nil, "")
			}},
			{"secretKeys", func() {
				v, err := c.SecretKeys(ctx)
				must(len(v.Items) == 1 && v.Items[0].Seals && v.Items[0].Given && v.Items[0].Secrets == 3, err, v) // one has a value before
			}},
			{"rewrapSecrets", func() {
				v, err := c.RewrapSecrets(ctx)
				must(v.Rewrapped == 0 && v.Done && len(v.Keys) == 1, err, v)
			}},
			{"deleteSecret", func() {
				var p *api.Problem
				must(errors.As(c.DeleteSecret(api.WithIfMatch(ctx, `"1"`), "stripe"), &p) && p.Status == 412, nil, "")
				must(true, c.DeleteSecret(ctx, "stripe"), "")
				must(errors.Is(c.DeleteSecret(ctx, "stripe"), pawl.ErrNotFound), nil, "")
			}},
			{"breakers", func() {
				fails(h, "openai")
				fails(h, "service:/tickets")
				v, err := c.Breakers(ctx, "", 1)
				must(len(v.Items) == 1 && v.Items[0].Endpoint == "openai" && v.Items[0].Failures == 1 && v.NextCursor != "", err, v)
				v, err = c.Breakers(ctx, v.NextCursor, 0)
				must(len(v.Items) == 1 && v.Items[0].Last != "" && v.NextCursor == "", err, v)
			}},
			{"resetBreaker", func() {
				must(true, c.ResetBreaker(ctx, "service:/tickets"), "")
				must(errors.Is(c.ResetBreaker(ctx, "service:/tickets"), pawl.ErrNotFound), nil, "")
			}},
			{"createKey", func() {
				var err error
				key, err = c.CreateKey(ctx, api.KeySpec{Name: "ci", Scopes: []api.Scope{api.RunsRead}})
				must(key.Secret != "", err, key)
			}},
			{"keys", func() { v, err := c.Keys(ctx); must(len(v.Items) == 3, err, v) }},
			{"revokeKey", func() { must(true, c.RevokeKey(ctx, key.ID), "") }},
		}
		has := map[string]bool{}
		for _, row := range rows {
			has[row.operation] = true
			h.contract.mu.Lock()
			delete(h.contract.driven, row.operation)
			h.contract.mu.Unlock()
			failed := t.Failed()
			row.drive()
			if t.Failed() && !failed {
				t.Errorf("— in %s", row.operation)
			}
			h.contract.mu.Lock()
			if !h.contract.driven[row.operation] && row.operation != "follow" && row.operation != "readStream" && row.operation != "feed" { // of which the transport sees no end
				t.Errorf("%s was not driven", row.operation)
			}
			h.contract.mu.Unlock()
		}
		for _, d := range h.contract.operations {
			if !has[d.OperationID] && !isBrowsers(d.OperationID) { // those have tests of their own
				t.Errorf("operation %s has no row here", d.OperationID)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }
