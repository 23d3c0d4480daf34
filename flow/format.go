package flow

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"sync"

	"github.com/pawlrun/pawl/trigger"
)

// Ends of a flow, as targets of next.
const (
	End  = "end"  // the run completes
	Fail = "fail" // the run fails
)

// MaxSteps bounds the steps of a flow, with those of its branches.
const MaxSteps = 10_000

var (
	flowID     = text{least: 1, most: 128, pattern: regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*$`), means: "begin with a letter, go on with letters, digits, - _ and ."}
	stepID     = text{least: 1, most: 128, pattern: regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`), means: "begin with a letter, go on with letters, digits, - and _"}
	plain      = text{least: 1}
	still      = text{least: 1, still: true}
	targetName = text{least: 1, most: 128}
	person     = text{least: 1, most: 256, still: true, pattern: regexp.MustCompile(`^[^\x00-\x1f]*$`), means: "write the name on one line"}
	millis     = num{whole: true, least: 1, most: 366 * 24 * 3600 * 1000}
	count      = num{whole: true, least: 1, most: 1_000_000}
	dollars    = num{least: 0, aboveLeast: true, most: 1_000_000}
)

var document = record{doc: "A flow: a workflow as data, which pawl runs durably.", attrs: []attr{
	{name: "$schema", doc: "the address of this schema, for editors", is: plain},
	{name: "id", doc: "names the flow; versions share it", is: flowID, required: true},
	{name: "name", doc: "says it to people", is: text{most: 200}},
	{name: "description", doc: "what it is for", is: text{most: 10_000}},
	{name: "version", doc: "a number that grows; left out, it is the next free one", is: num{whole: true, least: 1, most: 1 << 31}},
	{name: "trigger", doc: "what starts it; left out, only people and programs do", is: triggerOf},
	{name: "triggers", doc: "several things that start it", is: list{of: triggerOf, least: 1, most: 50}},
	{name: "inputs", doc: "JSON Schema of the variables with which a run starts; a start with others is refused", is: jsonSchema{}},
	{name: "limits", is: limitsShape},
	{name: "steps", doc: "the steps; a run begins with the first", is: list{of: nested, least: 1, most: MaxSteps}, required: true},
}}

var limitsShape = record{doc: "Bounds of one run.", attrs: []attr{
	{name: "maxSteps", doc: "how many steps a run may take, with those of its branches; an item of a map may take as many as its map has steps without counting", is: count, usual: defaultMaxSteps},
	{name: "maxBytes", doc: "how many bytes of memory a run may hold in its variables and in what its steps have brought, with those of branches and items under way", is: num{whole: true, least: 1024, most: maxRunBytes}, usual: defaultMaxBytes},
	{name: "maxCostUsd", doc: "what its model calls may cost; asked before each call", is: dollars, usual: defaultMaxCost},
	{name: "timeoutMs", doc: "how long it may take from its start, in milliseconds", is: millis},
}}

// nested is a step within a document: a named shape, as branches hold steps.
var nested = named{"step", func() shape { return stepShape{} }}

// stepShape is a record whose config depends on its type.
type stepShape struct{}

var stepAttrs = []attr{
	{name: "id", doc: "names the step in the flow", is: stepID, required: true},
	{name: "name", doc: "says it to people", is: text{most: 200}},
	{name: "type", doc: "what the step does", is: text{one: stepTypeNames()}, required: true},
	{name: "config", doc: "the settings of its type, below", is: anything{}},
	{name: "next", doc: "the step that follows: a name; or by the output's text, with a default; or by conditions, of which the first that holds decides", is: nextShape, required: true},
	{name: "when", doc: "the step is skipped unless this is true: a path or an expression", is: plain},
	{name: "retryPolicy", is: record{doc: "When a failed step is tried again.", attrs: []attr{
		{name: "maxAttempts", doc: "how often it is tried at most", is: num{whole: true, least: 1, most: 1000}, usual: 4},
		{name: "maxRetries", doc: "how often it is tried after the first time; instead of maxAttempts", is: num{whole: true, least: 0, most: 999}},
		{name: "backoffMs", doc: "the wait before the second try, in milliseconds; doubles each time", is: num{whole: true, least: 1, most: 3600_000}, usual: 1000},
		{name: "maxBackoffMs", doc: "the longest wait between two tries, in milliseconds, unless who is called asks for a longer one", is: num{whole: true, least: 1, most: 3600_000}, usual: 60_000},
	}}},
	{name: "timeoutMs", doc: "how long the step may take with all its tries, in milliseconds", is: millis},
	{name: "onFailure", doc: "what happens when it has failed for good", is: text{one: []string{"fail", "skip", "fallback"}}, usual: "fail"},
	{name: "fallbackStep", doc: "where it goes on then, with onFailure: fallback", is: targetName},
	{name: "maxVisits", doc: "how often a run may come to this step; needed in a circle", is: count},
}

var nextShape = either{
	targetName,
	table{of: targetName},
	list{least: 1, most: 100, of: record{attrs: []attr{
		{name: "when", doc: "a path or an expression over output and all that a step sees; left out in the last, it is the default", is: plain},
		{name: "to", doc: "the step, end or fail", is: targetName, required: true},
	}}},
}

func stepTypeNames() []string {
	return []string{"ai-decision", "service", "transform", "parallel", "wait", "map", "workflow", "agent"}
}

var prompt = text{least: 1, most: maxTemplate}

// respond is the answer of a webhook.
var respond = attr{name: "respond", doc: "the answer to a request that was taken; left out, 202, and where it starts a run its id", is: record{attrs: []attr{
	{name: "status", doc: "the HTTP status", is: num{whole: true, least: 200, most: 299}, usual: 200},
	{name: "headers", doc: "headers of the answer", is: table{of: text{most: 4096, still: true}}},
	{name: "body", doc: "a text is sent as it is, anything else as JSON", is: asItIs{}},
}}}

var failureMode = attr{name: "failureMode", doc: "failFast: the first that fails ends all; continue: all are carried out; quorum: enough must complete", is: text{one: []string{"failFast", "continue", "quorum"}}, usual: "failFast"}

// stepTypes are the types of steps, with what their config holds.
var stepTypes = map[string]record{
	"ai-decision": {doc: "Asks a model a question whose answer has a known form.", attrs: []attr{
		{name: "model", doc: "the model, as provider/model or a name of the price table", is: still},
		{name: "models", doc: "models that are asked in this order when one fails", is: list{of: still, least: 1, most: 10}},
		{name: "prompt", doc: "the question; {{path}} puts a value in", is: prompt},
		{name: "promptRef", doc: "a prompt of the registry: name, or name@version", is: plain},
		{name: "vars", doc: "values for the places of promptRef; left out, they are the variables", is: table{of: anything{}}},
		{name: "system", doc: "instructions to the model", is: prompt},
		{name: "outputFormat", doc: "the form of the answer", is: text{one: []string{"enum", "number", "boolean", "json", "text"}}, usual: "text"},
		{name: "allowedValues", doc: "the values of outputFormat enum", is: list{of: text{least: 1, most: 200, still: true}, least: 1, most: 500}},
		{name: "min", doc: "the least number", is: anyNumber{}},
		{name: "max", doc: "the greatest number", is: anyNumber{}},
		{name: "integer", doc: "the number must be whole", is: truth{}},
		{name: "outputSchema", doc: "JSON Schema of the answer of outputFormat json, which needs one", is: jsonSchema{}},
		{name: "outputVariable", doc: "a variable that is set to the output", is: stepID},
		{name: "temperature", doc: "how freely the model answers", is: num{least: 0, most: 2}, usual: defaultTemperature},
		{name: "maxTokens", doc: "most tokens of the answer; left out, what fits its form", is: num{whole: true, least: 1, most: 1_000_000}},
		{name: "cacheTtlMs", doc: "how long the answer to the same question is used again, in milliseconds; left out, not at all", is: millis},
		{name: "maxRepairs", doc: "how often the model may mend an answer of another form", is: num{whole: true, least: 0, most: 10}, usual: 2},
		{name: "routeOn", doc: "of a JSON answer, the path below output by which next chooses", is: plain},
	}},
	"service": {doc: "Calls a service. Its action's parameters stand beside service and action, or in params.", open: true, attrs: []attr{
		{name: "service", doc: "the service's name", is: plain, required: true},
		{name: "action", doc: "what it does; left out, its first action", is: plain},
		{name: "params", doc: "the action's parameters, or some of them: here may stand also those that have the names of these fields", is: table{of: anything{}}},
		{name: "outputVariable", doc: "a variable that is set to the output", is: stepID},
		{name: "allowModel", doc: "parameters into which a model's words may flow though they name places or people", is: list{of: plain, least: 1, most: 100}},
	}},
	"transform": {doc: "Makes a value of others.", attrs: []attr{
		{name: "expression", doc: "a path or an expression; its value is the output", is: plain},
		{name: "set", doc: "variables, and the paths or expressions they are set to; the output is all of them", is: table{of: plain}},
		{name: "outputVariable", doc: "a variable that is set to the output", is: stepID},
	}},
	"parallel": {doc: "Runs branches at the same time.", attrs: []attr{
		{name: "branches", doc: "what runs at the same time", is: list{least: 1, most: 100, of: record{attrs: []attr{
			{name: "id", doc: "names the branch", is: stepID, required: true},
			{name: "steps", doc: "its steps, a flow of their own", is: list{of: nested, least: 1, most: MaxSteps}, required: true},
		}}}, required: true},
		failureMode,
		{name: "quorum", doc: "how many branches must complete, with failureMode quorum", is: count},
		{name: "branchTimeoutMs", doc: "how long each branch may take, in milliseconds", is: millis},
		{name: "outputVariable", doc: "a variable that is set to the output", is: stepID},
	}},
	"wait": {doc: "Waits for a person, an event, a request or a time.", attrs: []attr{
		{name: "for", doc: "what it waits for", is: text{one: []string{"approval", "event", "webhook", "delay"}}, required: true},
		{name: "timeoutMs", doc: "how long, in milliseconds; of a delay, its length", is: millis},
		{name: "onTimeout", doc: "where it goes on when nobody came in time; left out, the step fails", is: targetName},
		{name: "event", doc: "the name of the event", is: text{least: 1, most: 256, still: true}},
		{name: "correlate", doc: "the value that makes the event this run's own; {{path}} puts a value in", is: plain},
		{name: "schema", doc: "JSON Schema of what comes; of an approval, its form; requests with another body get 422", is: jsonSchema{}},
		{name: "scheme", doc: "how requests are signed, with the secret; left out, whoever has the address is let in", is: text{one: []string{"github", "stripe", "slack", "standard", "hmac"}}},
		{name: "secret", doc: "the name of the secret that signs requests", is: plain},
		respond,
		{name: "approvers", doc: "who may decide; left out, everybody with the right", is: list{of: person, least: 1, most: 100}},
		{name: "need", doc: "how many must approve", is: num{whole: true, least: 1, most: 100}, usual: 1},
		{name: "title", doc: "what is to be decided, in a line", is: text{least: 1, most: 500}},
		{name: "message", doc: "what is to be decided, in more words", is: prompt},
		{name: "details", doc: "the values that are decided on", is: anything{}},
		{name: "notify", doc: "how people are told that they are asked: calls of services, each a step of its own. Parameters stand beside service and action, and see {{approval.link}}, title, message, details, text, subject, id, what, approver and expires", is: list{least: 1, most: 20, of: record{open: true, attrs: []attr{
			{name: "service", doc: "the service's name", is: plain, required: true},
			{name: "action", doc: "what it does; left out, requestApproval if it has it, or its first action", is: plain},
			{name: "params", doc: "the action's parameters, or some of them", is: table{of: anything{}}},
			{name: "approver", doc: "whose link it holds; left out, the address in to if that is an approver, or the only approver", is: plain},
			{name: "allowModel", doc: "parameters into which a model's words may flow though they name places or people", is: list{of: plain, least: 1, most: 100}},
		}}}},
		{name: "remindMs", doc: "how often those asked are reminded, in milliseconds", is: millis},
		{name: "outputVariable", doc: "a variable that is set to the output", is: stepID},
	}},
	"map": {doc: "Runs steps for each item of a list.", attrs: []attr{
		{name: "over", doc: "the path of the list, or an expression that makes it", is: plain, required: true},
		{name: "steps", doc: "the steps for one item, which see it as item and its place as index", is: list{of: nested, least: 1, most: MaxSteps}, required: true},
		{name: "concurrency", doc: "how many items at a time", is: num{whole: true, least: 1, most: 1000}, usual: defaultConcurrency},
		failureMode,
		{name: "quorum", doc: "how many items must complete, with failureMode quorum", is: count},
		{name: "outputVariable", doc: "a variable that is set to the output", is: stepID},
	}},
	"workflow": {doc: "Runs another workflow as a child.", attrs: []attr{
		{name: "workflow", doc: "its name", is: still, required: true},
		{name: "input", doc: "its input; left out, the variables", is: anything{}},
		{name: "detach", doc: "go on without waiting for its end; the output is its run", is: truth{}},
		{name: "outputVariable", doc: "a variable that is set to the output", is: stepID},
	}},
	"agent": {doc: "Lets a model work with tools until it has an answer.", attrs: []attr{
		{name: "model", doc: "the model", is: still},
		{name: "instructions", doc: "what it is and does", is: prompt, required: true},
		{name: "prompt", doc: "the task; {{path}} puts a value in", is: prompt},
		{name: "tools", doc: "what it may call: service.action, flow:name, mcp:server", is: list{most: 128, of: either{still, record{doc: "A tool, with what the flow says of it.", attrs: []attr{
			{name: "use", doc: "service.action, flow:name or mcp:server", is: still, required: true},
			{name: "description", doc: "what the model is told that it does", is: text{least: 1, most: 2000}},
			{name: "with", doc: "parameters that the flow gives, and of which the model does not know; {{path}} puts a value in", is: table{of: anything{}}},
			{name: "input", doc: "of a flow, JSON Schema of what the model may give", is: jsonSchema{}},
		}}}}},
		{name: "maxTurns", doc: "how often the model is asked", is: num{whole: true, least: 1, most: 200}, usual: 20},
		{name: "maxCostUsd", doc: "what its answers may cost; asked before each", is: dollars},
		{name: "maxTokens", doc: "most tokens of an answer", is: num{whole: true, least: 1, most: 1_000_000}},
		{name: "temperature", doc: "how freely the model answers", is: num{least: 0, most: 2}, usual: defaultTemperature},
		{name: "approve", doc: "tools that ask a person first", is: list{of: plain, least: 1, most: 128}},
		{name: "approvers", doc: "who may decide then; left out, everybody with the right", is: list{of: person, least: 1, most: 100}},
		{name: "allowModel", doc: "parameters of tools that the model may choose though they name places or people", is: list{of: plain, least: 1, most: 100}},
		{name: "outputSchema", doc: "JSON Schema of its answer", is: jsonSchema{}},
		{name: "outputVariable", doc: "a variable that is set to the output", is: stepID},
	}},
}

func (stepShape) takes() []kind { return []kind{objectKind} }

func (stepShape) look(f *findings, n *node) {
	record{attrs: stepAttrs}.look(f, n)
	config, is := stepTypes[n.get("type").str()]
	if !is {
		return // said
	}
	at := n.get("config")
	if at == nil {
		at = &node{kind: objectKind, in: n, name: "config", line: n.line, column: n.column}
	}
	look(f, at, config)
}

func (stepShape) schema() map[string]any {
	m := record{doc: "One step of a flow.", attrs: stepAttrs}.schema()
	var cases []any
	for _, name := range stepTypeNames() {
		cases = append(cases, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"type": map[string]any{"const": name}}},
			"then": map[string]any{"properties": map[string]any{"config": stepTypes[name].schema()}},
		})
	}
	m["allOf"] = cases
	return m
}

var triggerOf = triggerShape{}

// triggerShape is a record that depends on its type.
type triggerShape struct{}

// controls hold the starts of a trigger together, or apart.
var controls = []attr{
	{name: "debounce", is: record{doc: "Deliveries that follow each other closely start one run, with the newest.", attrs: []attr{
		{name: "periodMs", doc: "how long nothing must come, in milliseconds", is: millis, required: true},
		{name: "timeoutMs", doc: "how long the first waits at most, in milliseconds; left out, as long as things come", is: millis},
		keyAttr,
	}}},
	{name: "batch", is: record{doc: "Several deliveries start one run, with the variable events: a list of what each would have been.", attrs: []attr{
		{name: "maxSize", doc: "how many at most", is: num{whole: true, least: 1, most: 1000}, required: true},
		{name: "timeoutMs", doc: "how long the first waits at most, in milliseconds", is: millis, required: true},
		keyAttr,
	}}},
	{name: "rateLimit", is: record{doc: "Runs beyond it wait for their beginning.", attrs: []attr{
		{name: "limit", doc: "how many may begin in any period", is: count, required: true},
		{name: "periodMs", doc: "in milliseconds", is: millis, required: true},
		keyAttr,
	}}},
	{name: "singleton", is: record{doc: "One run at a time.", attrs: []attr{
		keyAttr,
		{name: "mode", doc: "skip: what comes while a run goes on starts nothing; cancel: it cancels that run", is: text{one: []string{"skip", "cancel"}}, usual: "skip"},
	}}},
}

var keyAttr = attr{name: "key", doc: "an expression over event, as where is, whose value tells apart what is counted apart; of a webhook event.data is the body; left out, all is one", is: plain}

var triggerTypes = map[string]record{
	"manual": {doc: "People and programs start it."},
	"webhook": {doc: "A request starts it.", attrs: append([]attr{
		{name: "path", doc: "the path of the URL, as it is served: /webhooks/orders", is: text{least: 2, most: 512, pattern: regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`), means: "begin with /, go on with letters, digits, - _ . ~ and /"}, required: true},
		{name: "secret", doc: "the name of the secret that signs requests", is: plain},
		{name: "scheme", doc: "how requests are signed, with the secret; left out, or none, whoever knows the path is let in", is: text{one: []string{"github", "stripe", "slack", "standard", "hmac", "none"}}},
		{name: "header", doc: "of scheme hmac, the header that has the signature as hexadecimal digits", is: plain, usual: "X-Signature"},
		{name: "prefix", doc: "of scheme hmac, what stands before the signature there, such as sha256=", is: plain},
		{name: "dedupe", doc: "header:Name, a path such as body.id, or body, for which equal bodies are one: what names a delivery; one that comes again within 24 hours starts nothing; left out, what the scheme says, else the header Idempotency-Key", is: plain},
		{name: "methods", doc: "what requests may be; GET has its values in query", is: list{of: text{one: trigger.RouteMethods}, least: 1, most: 5}, usual: []string{"POST"}},
		{name: "form", doc: "the body is a form, as a browser or Slack sends it, instead of JSON", is: truth{}},
		respond,
		{name: "variables", doc: "the run's variables and the paths they come from, into body, headers, query, id, method and path; left out, they are the body", is: table{of: plain}},
	}, controls...)},
	"schedule": {doc: "The clock starts it.", attrs: []attr{
		{name: "cron", doc: "minute hour day month weekday", is: plain, required: true},
		{name: "timezone", doc: "such as Europe/Berlin", is: plain, usual: "UTC"},
		{name: "overlap", doc: "what happens while the run before goes on", is: text{one: []string{"skip", "queue", "cancelPrevious", "allow"}}, usual: "skip"},
		{name: "catchUp", doc: "what happens with times that were missed", is: text{one: []string{"none", "one", "all"}}, usual: "none"},
		{name: "startingDeadlineMs", doc: "how old a time that was missed may be to be caught up, in milliseconds; left out, as old as it is", is: millis},
		{name: "jitter", doc: "spread over so many milliseconds", is: millis},
		{name: "variables", doc: "the run's variables", is: table{of: asItIs{}}},
	}},
	"event": {doc: "An event starts it, also the end of another workflow's run: workflow.completed, workflow.failed.", attrs: append([]attr{
		{name: "eventName", doc: "the name of the event", is: text{least: 1, most: 256, still: true}, required: true},
		{name: "where", doc: "an expression over event, with its id, name and data; left out, all", is: plain},
		{name: "variables", doc: "the run's variables and the paths into event that they come from: event.data.order; left out, they are the event's data", is: table{of: plain}},
	}, controls...)},
	"database-change": {doc: "New rows of a database start it.", attrs: []attr{
		{name: "query", doc: "rows above the cursor, which is $1; it has no limit", is: plain},
		{name: "cursor", doc: "the column of the query that grows", is: plain},
		{name: "key", doc: "the columns that tell rows with the same cursor apart; left out, id, or all if there is none", is: list{of: plain, least: 1, most: 16}},
		{name: "existing", doc: "the rows that are there at the first look start runs too", is: truth{}},
		{name: "settleMs", doc: "for how long rows of a query may come below others that were seen; 0 is not at all, left out 10 seconds", is: num{whole: true, most: 3600_000}},
		{name: "table", doc: "a table with an outbox (pawl databases install-outbox), instead of query", is: plain},
		{name: "operations", doc: "what changes of the table; left out, insert", is: list{of: text{one: []string{"insert", "update", "delete"}}, least: 1, most: 3}},
		{name: "pollIntervalMs", doc: "the pause between two looks; left out, 30 seconds for a query, 2 for a table, whose changes PostgreSQL tells of at once", is: num{whole: true, least: 100, most: 24 * 3600_000}},
		{name: "dsn", doc: "the name of the database, as in the settings of the server; never its address", is: plain, required: true},
	}},
}

func (triggerShape) takes() []kind { return []kind{objectKind} }

func (triggerShape) look(f *findings, n *node) {
	names := slices.Sorted(maps.Keys(triggerTypes))
	kind := attr{name: "type", doc: "what starts a run", is: text{one: names}, required: true}
	known, is := triggerTypes[n.get("type").str()]
	if !is {
		record{attrs: []attr{kind}, open: true}.look(f, n)
		return
	}
	record{attrs: append([]attr{kind}, known.attrs...)}.look(f, n)
}

func (triggerShape) schema() map[string]any {
	var all []any
	for _, name := range slices.Sorted(maps.Keys(triggerTypes)) {
		m := triggerTypes[name].schema()
		m["properties"].(map[string]any)["type"] = map[string]any{"const": name}
		required, _ := m["required"].([]string)
		m["required"] = append([]string{"type"}, required...)
		all = append(all, m)
	}
	return map[string]any{"oneOf": all}
}

// Schema is the JSON Schema (2020-12) of a flow. It is made of the data by which [Parse] checks documents.
var Schema = sync.OnceValue(func() json.RawMessage {
	m := document.schema()
	m["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	m["title"] = "pawl flow"
	m["$defs"] = map[string]any{"step": stepShape{}.schema()}
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		panic(err) // the shapes hold only what JSON can say
	}
	return data
})
