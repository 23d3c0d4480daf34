package draft

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
)

// judgment is what came of looking at an answer.
type judgment struct {
	Text     string        `json:"text"`           // the flow; of what is no JSON how it begins
	Flow     string        `json:"flow,omitempty"` // its id
	Problems flow.Problems `json:"problems,omitempty"`
	Unread   bool          `json:"unread,omitempty"` // it is no JSON object
}

// faults are how many problems stop a deployment; what can't be read has more than any flow.
func (j judgment) faults() int {
	if n := len(j.Problems.Faults()); !j.Unread {
		return n
	}
	return unreadable
}

// unreadable is more than the faults of any document that was read.
const unreadable = 1000

// shape is what an answer must be before it is looked at as a flow: this forgives fences, and words around it.
var shape = func() *agent.Shape {
	s, err := agent.JSON(json.RawMessage(`{"type":"object"}`))
	if err != nil {
		panic(err) // it is one
	}
	return s
}()

// shown is how much is kept of an answer that is no JSON.
const shown = 2000

// judge looks at an answer as a deployment looks at a document, and some more: a change keeps the flow's id, and a new flow
// takes no other's place.
func (s *Drafts) judge(ctx context.Context, q question, answer string) (judgment, error) {
	unread := func(format string, args ...any) (judgment, error) {
		return judgment{Text: cut(strings.ToValidUTF8(answer, "\uFFFD"), shown), Unread: true, Problems: flow.Problems{{Message: fmt.Sprintf(format, args...)}}}, nil
	}
	if len(answer) > MaxText {
		return unread("the answer has %d bytes, a flow here may have %d", len(answer), MaxText)
	}
	value, err := shape.Read(answer)
	var bad *agent.AnswerError
	switch {
	case errors.As(err, &bad):
		return unread("the answer is no flow: %s", bad.Why)
	case err != nil:
		return unread("the answer is no flow: %v", err)
	}
	value = unnumbered(value)
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, value, "", "  "); err != nil || pretty.Len() > MaxText {
		return unread("the flow has %d bytes, the limit is %d", pretty.Len(), MaxText)
	}
	j := judgment{Text: pretty.String()}
	var doc struct{ ID string }
	_ = json.Unmarshal(value, &doc) // what is no text is told below
	j.Flow = cut(doc.ID, 128)
	world := s.flows.World()
	world.ByModel = true
	tenant := pawl.InfoOf(ctx).Tenant
	var trouble error
	world.Workflows = func(name string) bool {
		is, err := s.flows.Startable(ctx, tenant, name)
		trouble = cmp.Or(trouble, err)
		return is || name == j.Flow
	}
	made, err := flow.Parse([]byte(j.Text), world)
	if made != nil {
		j.Problems = made.Warnings
	}
	var found flow.Problems
	if errors.As(err, &found) {
		j.Problems = found
	} else if err != nil {
		j.Problems = flow.Problems{{Message: err.Error()}}
	}
	id, err := s.identity(ctx, tenant, q, doc.ID)
	j.Problems = slices.Concat(j.Problems, id)
	return j, cmp.Or(trouble, err)
}

// unnumbered leaves out of a flow what its place in the registry decides: its version; and the address of its schema.
func unnumbered(flow json.RawMessage) json.RawMessage {
	d := json.NewDecoder(bytes.NewReader(flow))
	if _, err := d.Token(); err != nil {
		return flow
	}
	out := []byte{'{'}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		text, _ := name.(string)
		quoted, qerr := json.Marshal(text)
		if err != nil || qerr != nil {
			return flow
		}
		if text == "version" || text == "$schema" {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, quoted...), ':'), value...)
	}
	return append(out, '}')
}

// identity checks that a change is of the flow that was to be changed, and that a new flow is new.
func (s *Drafts) identity(ctx context.Context, tenant string, q question, id string) (flow.Problems, error) {
	fault := func(hint, format string, args ...any) (flow.Problems, error) {
		return flow.Problems{{Pointer: "/id", Message: fmt.Sprintf(format, args...), Hint: hint}}, nil
	}
	switch {
	case id == "": // which is told
		return nil, nil
	case q.Flow != "" && id != q.Flow:
		return fault("", "it is a change of the flow %q, and must keep that id", q.Flow)
	case q.Flow != "":
		return nil, nil
	}
	_, err := s.flows.Get(ctx, tenant, id)
	if err == nil {
		return fault("choose another id", "there is a flow %q already, which this would replace", id)
	}
	if _, err := s.engine.Workflow(id); err == nil && !s.flows.Is(id) {
		return fault("choose another id", "the program has a workflow %q", id)
	}
	return nil, ignoreGone(err)
}

// told is how many problems a model is told of at a time.
const told = 30

// repair is what a model is told of its answer.
func (j judgment) repair() string {
	var b strings.Builder
	b.WriteString("The flow can't be deployed. These are its problems:\n")
	faults := j.Problems.Faults()
	for i, p := range faults {
		if i == told {
			fmt.Fprintf(&b, "and %d more\n", len(faults)-told)
			break
		}
		p.Line, p.Column = 0, 0
		fmt.Fprintf(&b, "- %s\n", cut(p.String(), 1000))
	}
	b.WriteString("Answer with the whole flow again, mended, as one JSON object and nothing else.")
	return b.String()
}

func randomText() string { return rand.Text() }
