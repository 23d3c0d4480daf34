package flow

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/pawlrun/pawl/expr"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/trigger/dbchange"
)

// Flow is a document that was read and in which nothing stops a deployment. It does not change and may be shared.
type Flow struct {
	ID          string
	Name        string // "" if the document has none
	Description string
	Version     int             // as the document says; 0 if it does not
	Hash        string          // of what the document says, its version and the order of names in objects left out: SHA-256 as hex
	Inputs      json.RawMessage // JSON Schema of the variables; nil: any
	Warnings    Problems        // what does not stop a deployment

	root   *node
	inputs schema // of Inputs
	// readsBegan: something reads trigger.
	readsBegan bool
	limits     limits
	starts     []start
	main       graph
}

// What holds where a document says nothing.
const (
	defaultConcurrency = 10
	defaultAttempts    = 4
	defaultBackoff     = time.Second
	defaultMaxBackoff  = time.Minute
	defaultTemperature = 0.1
	defaultRepairs     = 2
)

// World is what a flow can refer to: deploying checks its references against it.
type World struct {
	Services  service.Set
	Unset     map[string]string      // as [Options].Unset
	Workflows func(name string) bool // reports whether a workflow can be started, and one that can't is refused; nil: none is known
	// Others finds the names of workflows that can be started where the one of a name can't, which is warned of: it may come
	// later, or be another program's. nil: none is known. It is asked where Workflows is nil.
	Others func(name string) (others []string, missing bool)
	Model  string // is asked where a step names none; "" is none
	// Prompt returns the variables of a prompt of the registry: of a version, or of all that are active for version 0. nil: none is
	// known, and none is refused.
	Prompt func(name string, version int) ([]string, error)
	// Watch looks whether changes of a database can start runs: an error that is a pawl.ErrInput or a pawl.ErrNotFound is a fault of
	// the document, another one is warned of. nil: it is not looked at.
	Watch func(s dbchange.Source) error
	// Secret finds the names of secrets that services can be given, and webhooks be checked with, where the one of a name is not there,
	// which is warned of: it may be set later. nil: nothing is known of secrets, and none is missed. It never tells a value.
	Secret func(name string) (others []string, missing bool)
	// Signers are secrets that the server's settings have for webhooks alone, which go before others of their names: the scheme of
	// each, by its name. They are asked where Secret is not nil.
	Signers   map[string]string
	Toolboxes []string // servers of tools that agents may name as mcp:name; nil: none is known, and none is refused

	// ByModel says that a model wrote the document and is to mend it: no hint tells it how its words may reach further than they do.
	ByModel bool

	// Provider finds the provider of a model that is named without one, as that of [Options]. nil: none is found.
	Provider func(model string) string
	// Price tells what provider/model costs now, if that is known. nil: no model's price is known, and none is missed.
	Price func(model string) (llm.Price, bool)
	// Unpriced is put aside for a call of a model whose price is not known, in millionths of a US dollar. 0 means $0.10.
	Unpriced int64
	// Child finds the flow that a run of another workflow would follow; nil: it is not known. Asked by WorstCase alone.
	Child func(name string) *Flow
}

// Parse reads a flow, JSON or YAML, and looks at all of it. The error is of type [Problems], and holds everything that
// is wrong, not only the first.
func Parse(data []byte, w World) (*Flow, error) {
	f := &findings{}
	root, err := readDocument(data)
	var bad *syntaxError
	if errors.As(err, &bad) {
		f.fault(&bad.at, bad.hint, "%s", bad.message)
		return nil, f.sorted()
	}
	look(f, root, document)
	if root.kind != objectKind {
		return nil, f.sorted()
	}
	made := read(f, root, w)
	check(f, made, w)
	if f.more[0] == 0 {
		f.costs(made, w)
	}
	found := f.sorted()
	if err := found.err(); err != nil {
		return nil, found
	}
	made.Warnings = found
	return made, nil
}

// reread makes a flow of a document that was checked when it was deployed.
func reread(data []byte, w World) (*Flow, error) {
	root, err := readDocument(data)
	if err != nil {
		return nil, err
	}
	return read(&findings{}, root, w), nil
}

// read makes a flow of a document that may have faults; what is faulty is left out.
func read(f *findings, root *node, w World) *Flow {
	made := &Flow{
		ID: root.get("id").str(), Name: root.get("name").str(), Description: root.get("description").str(),
		Version: root.get("version").int(0), root: root, limits: readLimits(root.get("limits")),
	}
	if inputs := root.get("inputs"); inputs.is(objectKind) {
		if made.Inputs = schemaOf(f, inputs); made.Inputs != nil {
			made.inputs, _ = compile(made.Inputs) // it is one
		}
	}
	made.Hash = hash(root)
	made.starts = readStarts(f, root, w)
	made.main = readGraph(f, root.get("steps"), w)
	made.readsBegan = made.readsTrigger()
	return made
}

// hash names what a document says.
func hash(root *node) string {
	said := &node{kind: root.kind}
	for _, field := range root.fields {
		if field.name != "version" && field.name != "$schema" {
			said.fields = append(said.fields, field)
		}
	}
	var b bytes.Buffer
	said.canonical(&b)
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:])
}

// JSON is the document, with the names in objects sorted.
func (f *Flow) JSON() json.RawMessage {
	var b bytes.Buffer
	f.root.canonical(&b)
	return b.Bytes()
}

func milliseconds(n *node) time.Duration { return time.Duration(n.int(0)) * time.Millisecond }

// graph is steps that lead to each other; a run begins with the first.
type graph struct {
	steps   []*step
	by      map[string]*step
	outside []string // waits of the graphs around it that its steps tell others the webhooks of
}

// step is one step, read.
type step struct {
	at   *node
	id   string
	kind string
	next next
	when *condition
	work worker
	retry
	onFailure string // fail, skip, fallback
	fallback  string
	maxVisits int     // 0: no limit of its own
	variable  string  // "": none is set
	opens     []*step // waits for a request whose webhooks it tells others of
}

// retry is when a step is tried again.
type retry struct {
	attempts            int
	backoff, maxBackoff time.Duration
	timeout             time.Duration // 0: none
}

// next is what follows a step.
type next struct {
	at    *node
	to    string            // whatever the output
	by    map[string]string // by the output's text, or
	when  []way             // by conditions, of which the first that holds decides
	other string            // else; "": there is none
}

type way struct {
	at   *node
	when *condition
	to   string
}

func readGraph(f *findings, steps *node, w World) graph {
	g := graph{by: map[string]*step{}}
	if !steps.is(listKind) {
		return g
	}
	for _, at := range steps.items {
		if !at.is(objectKind) || stepTypes[at.get("type").str()].attrs == nil {
			continue
		}
		s := readStep(f, at, w)
		g.steps = append(g.steps, s)
		if g.by[s.id] == nil && s.id != End && s.id != Fail {
			g.by[s.id] = s
		}
	}
	g.readCallbacks()
	return g
}

func readStep(f *findings, at *node, w World) *step {
	policy := at.get("retryPolicy")
	s := &step{
		at: at, id: at.get("id").str(), kind: at.get("type").str(), next: readNext(f, at.get("next")),
		retry: retry{
			attempts: policy.get("maxAttempts").int(policy.get("maxRetries").int(defaultAttempts-1) + 1),
			backoff:  defaultBackoff, maxBackoff: defaultMaxBackoff, timeout: milliseconds(at.get("timeoutMs")),
		},
		onFailure: at.get("onFailure").str(), fallback: at.get("fallbackStep").str(), maxVisits: at.get("maxVisits").int(0),
		variable: at.get("config").get("outputVariable").str(),
	}
	first, most := policy.get("backoffMs"), policy.get("maxBackoffMs")
	if first != nil {
		s.backoff = milliseconds(first)
		s.maxBackoff = max(s.maxBackoff, s.backoff)
	}
	if most != nil {
		s.maxBackoff = milliseconds(most)
		if first != nil && s.maxBackoff < s.backoff {
			f.fault(most, "", "it is below backoffMs")
		}
		s.backoff = min(s.backoff, s.maxBackoff)
	}
	if policy.get("maxAttempts") != nil && policy.get("maxRetries") != nil {
		f.fault(policy, "maxRetries counts the tries after the first", "give maxAttempts or maxRetries, not both")
	}
	if s.variable != "output" && (slices.Contains(resultFields, s.variable) || s.variable == "branches") {
		f.fault(at.get("config").get("outputVariable"), "take another name", "%q is a field of each step's result", s.variable)
	}
	if when := at.get("when"); when.is(textKind) {
		s.when = readCondition(f, when, within, expr.Bool)
	}
	s.work = readWork(f, s, at.get("config"), w)
	return s
}

func readNext(f *findings, at *node) next {
	n := next{at: at}
	switch {
	case at.is(textKind):
		n.to = at.text
	case at.is(objectKind):
		n.by = map[string]string{}
		for _, field := range at.fields {
			if field.name == "default" {
				n.other = field.value.str()
			} else {
				n.by[field.name] = field.value.str()
			}
		}
	case at.is(listKind):
		for i, item := range at.items {
			to, when := item.get("to").str(), item.get("when")
			switch {
			case when.is(textKind):
				n.when = append(n.when, way{item, readCondition(f, when, behind, expr.Bool), to})
			case i < len(at.items)-1:
				f.fault(item, "put it at the end of the list", "only the last way may go without a condition")
			default:
				n.other = to
			}
		}
	}
	return n
}

// targets are all that may follow, with their places.
func (n next) targets() (out []target) {
	switch {
	case n.at.is(textKind):
		return []target{{n.to, n.at}}
	case n.at.is(objectKind):
		for _, field := range n.at.fields {
			out = append(out, target{field.value.str(), field.value})
		}
	case n.at.is(listKind):
		for _, item := range n.at.items {
			out = append(out, target{item.get("to").str(), item.get("to")})
		}
	}
	return out
}

// target is a step that another leads to, and where that is said.
type target struct {
	to string
	at *node
}

// targets are all steps that may follow a step: by its output, its failure, or as nobody came in time.
func (s *step) targets() []target {
	out := s.next.targets()
	if s.onFailure == "fallback" && s.fallback != "" {
		out = append(out, target{s.fallback, s.at.get("fallbackStep")})
	}
	if at := s.at.get("config").get("onTimeout"); s.kind == "wait" && at.is(textKind) {
		out = append(out, target{at.text, at})
	}
	return out
}

// maxSchema bounds a JSON Schema of a document, in bytes: the time to read one grows with its square.
const maxSchema = 64 << 10

// schemaOf is a JSON Schema of the document, as JSON; a fault if it is none.
func schemaOf(f *findings, at *node) json.RawMessage {
	data := schemaText(at)
	if len(data) > maxSchema {
		f.fault(at, "", "the JSON Schema has %d bytes, the limit is %d", len(data), maxSchema)
		return nil
	}
	if _, err := compile(data); err != nil {
		f.fault(at, "", "it is no JSON Schema: %v", err)
		return nil
	}
	return data
}
