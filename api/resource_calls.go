package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/trigger"
)

// paged is the query of a page; zero fields are left out.
func paged(cursor string, limit int) url.Values {
	query := url.Values{}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	return query
}

// Steps returns a page of a run's steps. limit 0 means 100; at most 500.
func (c *Client) Steps(ctx context.Context, id, cursor string, limit int) (StepPage, error) {
	return call[StepPage](ctx, c, http.MethodGet, RunPath(id)+"/steps", paged(cursor, limit), nil)
}

// Stats counts the runs of all tenants, and workers.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	return call[Stats](ctx, c, http.MethodGet, "/api/stats", nil, nil)
}

// Budgets returns a page of budgets, by name. limit 0 means 50; at most 500.
func (c *Client) Budgets(ctx context.Context, cursor string, limit int) (BudgetPage, error) {
	return call[BudgetPage](ctx, c, http.MethodGet, "/api/budgets", paged(cursor, limit), nil)
}

// RunBudgets returns a page of the budgets of a run.
func (c *Client) RunBudgets(ctx context.Context, id, cursor string, limit int) (BudgetPage, error) {
	return call[BudgetPage](ctx, c, http.MethodGet, RunPath(id)+"/budgets", paged(cursor, limit), nil)
}

func budgetPath(name string) string { return "/api/budgets/" + segment(name) }

// Budget looks at a budget.
func (c *Client) Budget(ctx context.Context, name string) (Budget, error) {
	return call[Budget](ctx, c, http.MethodGet, budgetPath(name), nil, nil)
}

// SetBudget makes a budget, or changes one; what was spent of it stays. With [WithIfMatch] it
// does so only if the budget still has an ETag.
func (c *Client) SetBudget(ctx context.Context, name string, q BudgetRequest) (Budget, error) {
	return call[Budget](ctx, c, http.MethodPut, budgetPath(name), nil, q)
}

// TopUp lets by more be spent of a budget; with [WithIdempotencyKey] it may be repeated.
func (c *Client) TopUp(ctx context.Context, name string, by int64) (Budget, error) {
	return call[Budget](ctx, c, http.MethodPost, budgetPath(name), url.Values{"topup": {strconv.FormatInt(by, 10)}}, nil)
}

// DeleteBudget removes a budget.
func (c *Client) DeleteBudget(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, budgetPath(name), nil, nil)
	return err
}

// Charges returns a page of the ledger, oldest first.
func (c *Client) Charges(ctx context.Context, q ChargeQuery) (ChargePage, error) {
	query := paged(q.Cursor, q.Limit)
	for name, value := range map[string]string{"run": q.Run, "workflow": q.Workflow, "step": q.Step, "item": q.Item, "meter": q.Meter} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, set := range map[string]bool{"family": q.Family, "open": q.Open, "cut": q.Cut} {
		if set {
			query.Set(name, "true")
		}
	}
	setTime(query, "from", q.From)
	setTime(query, "to", q.To)
	return call[ChargePage](ctx, c, http.MethodGet, "/api/charges", query, nil)
}

// Prompts lists prompts, by name, without their texts.
func (c *Client) Prompts(ctx context.Context) (PromptList, error) {
	return call[PromptList](ctx, c, http.MethodGet, "/api/prompts", nil, nil)
}

func promptPath(name string) string { return "/api/prompts/" + segment(name) }

// Prompt looks at a prompt. Its ETag is its revision in quotes.
func (c *Client) Prompt(ctx context.Context, name string) (agent.PromptInfo, error) {
	return call[agent.PromptInfo](ctx, c, http.MethodGet, promptPath(name), nil, nil)
}

// PromptVersion returns a version of a prompt with its text.
func (c *Client) PromptVersion(ctx context.Context, name string, version int) (agent.PromptVersion, error) {
	return call[agent.PromptVersion](ctx, c, http.MethodGet, promptPath(name)+"/versions/"+strconv.Itoa(version), nil, nil)
}

// PutPrompt keeps a text as a version of a prompt; the same text is the same version.
func (c *Client) PutPrompt(ctx context.Context, name string, q PromptRequest) (agent.PromptVersion, error) {
	return call[agent.PromptVersion](ctx, c, http.MethodPost, promptPath(name), nil, q)
}

// ActivatePrompt lets runs get versions of a prompt by weight.
func (c *Client) ActivatePrompt(ctx context.Context, name string, q ActivateRequest) (agent.PromptInfo, error) {
	return call[agent.PromptInfo](ctx, c, http.MethodPost, promptPath(name)+"/activate", nil, q)
}

// RollbackPrompt undoes the newest activation of a prompt that was not undone.
func (c *Client) RollbackPrompt(ctx context.Context, name string, q RollbackRequest) (agent.PromptInfo, error) {
	return call[agent.PromptInfo](ctx, c, http.MethodPost, promptPath(name)+"/rollback", nil, q)
}

// Asked returns a page of what a run has asked models. limit 0 means 20; at most 100.
func (c *Client) Asked(ctx context.Context, id, cursor string, limit int) (AskingPage, error) {
	return call[AskingPage](ctx, c, http.MethodGet, RunPath(id)+"/asked", paged(cursor, limit), nil)
}

// ForkAsked forks a run at a step that has asked a model: see [agent.ForkAsked].
func (c *Client) ForkAsked(ctx context.Context, id string, q ForkAskedRequest) (Run, error) {
	return call[Run](ctx, c, http.MethodPost, RunPath(id)+"/fork-asked", nil, q)
}

// Backtest asks the questions of past runs again; it is a run, whose result is an
// [agent.Report].
func (c *Client) Backtest(ctx context.Context, q BacktestRequest) (Run, error) {
	return call[Run](ctx, c, http.MethodPost, "/api/backtests", nil, q)
}

// BacktestWorkflow asks a decision of past runs of a flow again, or with DryRun tells what that would ask and is likely to cost. The
// answer's Run asks; with a wait it has ended, or the wait is over. Its result is an [agent.Report].
func (c *Client) BacktestWorkflow(ctx context.Context, id string, q WorkflowBacktestRequest, wait time.Duration) (WorkflowBacktest, error) {
	query := url.Values{}
	if wait > 0 {
		query.Set("wait", wait.String())
	}
	return call[WorkflowBacktest](ctx, c, http.MethodPost, workflowPath(id)+"/backtest", query, q)
}

// Schedules returns a page of schedules whose id begins with prefix, by id. limit 0 means 50; at
// most 500.
func (c *Client) Schedules(ctx context.Context, prefix, cursor string, limit int) (SchedulePage, error) {
	query := paged(cursor, limit)
	if prefix != "" {
		query.Set("q", prefix)
	}
	return call[SchedulePage](ctx, c, http.MethodGet, "/api/schedules", query, nil)
}

func schedulePath(id string) string { return "/api/schedules/" + segment(id) }

// Schedule looks at a schedule.
func (c *Client) Schedule(ctx context.Context, id string) (Schedule, error) {
	return call[Schedule](ctx, c, http.MethodGet, schedulePath(id), nil, nil)
}

// PutSchedule makes a schedule, or changes one: with [WithIfMatch] only if it still has an ETag.
func (c *Client) PutSchedule(ctx context.Context, id string, q ScheduleRequest) (Schedule, error) {
	return call[Schedule](ctx, c, http.MethodPut, schedulePath(id), nil, q)
}

// DeleteSchedule removes a schedule. Its runs go on.
func (c *Client) DeleteSchedule(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, schedulePath(id), nil, nil)
	return err
}

// PauseSchedule stops a schedule until ResumeSchedule.
func (c *Client) PauseSchedule(ctx context.Context, id, reason string) (Schedule, error) {
	return call[Schedule](ctx, c, http.MethodPost, schedulePath(id)+"/pause", nil, ReasonRequest{Reason: reason})
}

// ResumeSchedule lets a paused schedule go on with the next slot.
func (c *Client) ResumeSchedule(ctx context.Context, id string) (Schedule, error) {
	return call[Schedule](ctx, c, http.MethodPost, schedulePath(id)+"/resume", nil, nil)
}

// TriggerSchedule fires a schedule now, and returns what became of it so far.
func (c *Client) TriggerSchedule(ctx context.Context, id string, q TriggerRequest) (trigger.Occurrence, error) {
	return call[trigger.Occurrence](ctx, c, http.MethodPost, schedulePath(id)+"/trigger", nil, q)
}

// BackfillSchedule fires slots of a schedule that have passed, or says how many there are: see
// [trigger.Schedules.Backfill].
func (c *Client) BackfillSchedule(ctx context.Context, id string, q BackfillRequest) (Backfill, error) {
	return call[Backfill](ctx, c, http.MethodPost, schedulePath(id)+"/backfill", nil, q)
}

// NextSlots returns when a schedule comes next. limit 0 means 10; at most 500.
func (c *Client) NextSlots(ctx context.Context, id string, limit int) (SlotList, error) {
	return call[SlotList](ctx, c, http.MethodGet, schedulePath(id)+"/next", paged("", limit), nil)
}

// Occurrences returns a page of what became of a schedule's slots, newest slot first. limit 0
// means 50; at most 500.
func (c *Client) Occurrences(ctx context.Context, id, cursor string, limit int) (OccurrencePage, error) {
	return call[OccurrencePage](ctx, c, http.MethodGet, schedulePath(id)+"/occurrences", paged(cursor, limit), nil)
}

// Subscriptions returns a page of subscriptions to events whose id begins with prefix, by id. limit 0
// means 50; at most 500.
func (c *Client) Subscriptions(ctx context.Context, prefix, cursor string, limit int) (SubscriptionPage, error) {
	query := paged(cursor, limit)
	if prefix != "" {
		query.Set("q", prefix)
	}
	return call[SubscriptionPage](ctx, c, http.MethodGet, "/api/subscriptions", query, nil)
}

func subscriptionPath(id string) string { return "/api/subscriptions/" + segment(id) }

// Subscription looks at a subscription.
func (c *Client) Subscription(ctx context.Context, id string) (Subscription, error) {
	return call[Subscription](ctx, c, http.MethodGet, subscriptionPath(id), nil, nil)
}

// PutSubscription lets events start runs, or changes which: with [WithIfMatch] only if it still has an ETag.
func (c *Client) PutSubscription(ctx context.Context, id string, q SubscriptionRequest) (Subscription, error) {
	return call[Subscription](ctx, c, http.MethodPut, subscriptionPath(id), nil, q)
}

// DeleteSubscription removes a subscription. Its runs go on.
func (c *Client) DeleteSubscription(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, subscriptionPath(id), nil, nil)
	return err
}

// SubscriptionEvents returns a page of the events that a subscription has taken since a time, oldest
// first; a zero time: of all that are kept. limit 0 means 50; at most 500. A page before the last may be empty.
func (c *Client) SubscriptionEvents(ctx context.Context, id string, since time.Time, cursor string, limit int) (MatchedPage, error) {
	query := paged(cursor, limit)
	setTime(query, "since", since)
	return call[MatchedPage](ctx, c, http.MethodGet, subscriptionPath(id)+"/events", query, nil)
}

// Breakers returns a page of circuit breakers that are not closed, or whose last calls failed, by endpoint. limit 0 means 50; at most 500.
func (c *Client) Breakers(ctx context.Context, cursor string, limit int) (BreakerPage, error) {
	return call[BreakerPage](ctx, c, http.MethodGet, "/api/breakers", paged(cursor, limit), nil)
}

// ResetBreaker closes the circuit of an endpoint, as Breakers names it. pawl.ErrNotFound: it is closed and has no failures.
func (c *Client) ResetBreaker(ctx context.Context, endpoint string) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/api/breakers/reset", nil, BreakerReset{Endpoint: endpoint})
	return err
}

// Secrets returns a page of secrets whose name begins with prefix, by name, without their values. limit 0 means 50; at most 500.
func (c *Client) Secrets(ctx context.Context, prefix, cursor string, limit int) (SecretPage, error) {
	query := paged(cursor, limit)
	if prefix != "" {
		query.Set("q", prefix)
	}
	return call[SecretPage](ctx, c, http.MethodGet, "/api/secrets", query, nil)
}

func secretPath(name string) string { return "/api/secrets/" + segment(name) }

// Secret tells of a secret, without its value.
func (c *Client) Secret(ctx context.Context, name string) (Secret, error) {
	return call[Secret](ctx, c, http.MethodGet, secretPath(name), nil, nil)
}

// PutSecret sets a secret: with [WithIfMatch] only if it still has an ETag.
func (c *Client) PutSecret(ctx context.Context, name string, q SecretRequest) (Secret, error) {
	return call[Secret](ctx, c, http.MethodPut, secretPath(name), nil, q)
}

// DeleteSecret removes a secret.
func (c *Client) DeleteSecret(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, secretPath(name), nil, nil)
	return err
}

// SecretKeys tells which encryption keys the server has, and how many secrets of all tenants are sealed with each.
func (c *Client) SecretKeys(ctx context.Context) (SecretKeyList, error) {
	return call[SecretKeyList](ctx, c, http.MethodGet, "/api/secret-keys", nil, nil)
}

// RewrapSecrets seals the secrets of all tenants with the first encryption key, as many as there is time for: call it
// until it is Done.
func (c *Client) RewrapSecrets(ctx context.Context) (Rewrapped, error) {
	return call[Rewrapped](ctx, c, http.MethodPost, "/api/secret-keys/rewrap", nil, nil)
}

// Whoami says what the server takes the client for.
func (c *Client) Whoami(ctx context.Context) (Whoami, error) {
	return call[Whoami](ctx, c, http.MethodGet, "/api/whoami", nil, nil)
}

// Keys lists keys: those of the client's tenant; in the default tenant those of all.
func (c *Client) Keys(ctx context.Context) (KeyList, error) {
	return call[KeyList](ctx, c, http.MethodGet, "/api/keys", nil, nil)
}

// CreateKey makes a key, whose secret is told this once: a repeat with the same [WithIdempotencyKey]
// is a *[Problem] with the code key_made, which names the key.
func (c *Client) CreateKey(ctx context.Context, q KeySpec) (NewKey, error) {
	return call[NewKey](ctx, c, http.MethodPost, "/api/keys", nil, q)
}

// RevokeKey lets a key be refused from now on.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/keys/"+segment(id), nil, nil)
	return err
}

// HookPage returns a page of live hooks, in the order of their making.
func (c *Client) HookPage(ctx context.Context, q HookQuery) (HookPage, error) {
	query := paged(q.Cursor, q.Limit)
	for name, value := range map[string]string{"kind": q.Kind, "run": q.Run} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return call[HookPage](ctx, c, http.MethodGet, "/api/hooks", query, nil)
}

// Hook looks at the live hook with a token.
func (c *Client) Hook(ctx context.Context, token string) (Hook, error) {
	return call[Hook](ctx, c, http.MethodGet, "/api/hooks/"+segment(token), nil, nil)
}

// SendRunHook sends a payload to the hook of a run that has a key.
func (c *Client) SendRunHook(ctx context.Context, id, key string, data []byte) (Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPost, RunPath(id)+"/hooks/"+segment(key), nil, orNull(data))
}
