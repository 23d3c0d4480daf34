package agent_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/agent"
)

type priority string

func (priority) Enum() []string { return []string{"P1", "P2"} }

type team struct{ name string }

func (t *team) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &t.name) }
func (team) JSONSchema() json.RawMessage        { return json.RawMessage(`{"type":"string","maxLength":3}`) }

type base struct {
	ID   int8   `json:"id"`
	Note string `json:"note"`
}

type ticket struct {
	base
	Why      string          `json:"why" jsonschema:"the reason, in one sentence"`
	Priority priority        `json:"priority"`
	Kind     string          `json:"kind" enum:"bug,feature request"`
	Tags     []string        `json:"tags,omitempty" enum:"a,b"`
	Severity int             `json:"severity" minimum:"1" maximum:"5"`
	Level    *int            `json:"level" enum:"1,2"`
	Size     float64         `json:"size"`
	Count    uint16          `json:"count"`
	Due      *time.Time      `json:"due,omitempty"`
	Pair     [2]bool         `json:"pair"`
	Owner    *team           `json:"owner"`
	From     netip.Addr      `json:"from"`
	Parts    []*part         `json:"parts"`
	Note     string          `json:"note"` // hides that of base
	Skipped  func()          `json:"-"`
	hidden   int             `json:"-"`
	Raw      json.RawMessage `json:"-"`
}

type part struct {
	N int64 `json:"n"`
}

const ticketSchema = `{"type":"object","properties":{` +
	`"id":{"type":"integer","minimum":-128,"maximum":127},` +
	`"why":{"type":"string","description":"the reason, in one sentence"},` +
	`"priority":{"type":"string","enum":["P1","P2"]},` +
	`"kind":{"type":"string","enum":["bug","feature request"]},` +
	`"tags":{"type":"array","items":{"type":"string","enum":["a","b"]}},` +
	`"severity":{"type":"integer","minimum":1,"maximum":5},` +
	`"level":{"type":["integer","null"],"enum":[1,2,null]},` +
	`"size":{"type":"number"},` +
	`"count":{"type":"integer","minimum":0,"maximum":65535},` +
	`"due":{"type":["string","null"],"format":"date-time"},` +
	`"pair":{"type":"array","items":{"type":"boolean"},"minItems":2,"maxItems":2},` +
	`"owner":{"type":["string","null"],"maxLength":3},` +
	`"from":{"type":"string"},` +
	`"parts":{"type":"array","items":{"anyOf":[{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false},{"type":"null"}]}},` +
	`"note":{"type":"string"}},` +
	`"required":["id","why","priority","kind","severity","level","size","count","pair","owner","from","parts","note"],"additionalProperties":false}`

func TestTheSchemaOfAGoType(t *testing.T) {
	got, err := agent.SchemaOf[ticket]()
	if err != nil || string(got) != ticketSchema {
		t.Errorf("SchemaOf = %s, %v; want\n%s", got, err, ticketSchema)
	}
	for _, c := range []struct {
		of   func() (json.RawMessage, error)
		want string
	}{
		{agent.SchemaOf[map[string][]int], `{"type":"object","additionalProperties":{"type":"array","items":{"type":"integer"}}}`},
		{agent.SchemaOf[json.Number], `{"type":"number"}`},
		{agent.SchemaOf[any], `{}`},
		{agent.SchemaOf[*any], `{}`},
		{agent.SchemaOf[json.RawMessage], `{}`},
		{agent.SchemaOf[*part], `{"anyOf":[{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false},{"type":"null"}]}`},
		{agent.SchemaOf[struct{}], `{"type":"object","properties":{},"required":[],"additionalProperties":false}`},
		{agent.SchemaOf[[]priority], `{"type":"array","items":{"type":"string","enum":["P1","P2"]}}`},
		{agent.SchemaOf[*priority], `{"anyOf":[{"type":"string","enum":["P1","P2"]},{"type":"null"}]}`},
		{agent.SchemaOf[uint64], `{"type":"integer","minimum":0}`},
	} {
		if got, err := c.of(); err != nil || string(got) != c.want {
			t.Errorf("SchemaOf = %s, %v; want %s", got, err, c.want)
		}
	}
}

type tree struct {
	Left *tree `json:"left"`
}

type Loop struct {
	*Loop
}

type ownJSON struct{ A string }

func (*ownJSON) UnmarshalJSON([]byte) error { return nil }

type noEnum int

func (noEnum) Enum() []string { return []string{"1"} }

type sameEnum string

func (sameEnum) Enum() []string { return []string{"a", "A"} }

type liar struct{}

func (liar) JSONSchema() json.RawMessage { return json.RawMessage(`{"type":"objekt"}`) }

type nothing struct{}

func (nothing) JSONSchema() json.RawMessage { return nil }

func TestTypesWithoutAnAnswerAreRefusedWithTheirPath(t *testing.T) {
	for _, c := range []struct {
		of          func() (json.RawMessage, error)
		place, says string
	}{
		{agent.SchemaOf[struct{ A struct{ F func() } }], ".A.F", "func"},
		{agent.SchemaOf[struct{ A []map[string]chan int }], ".A[][]", "chan"},
		{agent.SchemaOf[struct{ A complex128 }], ".A", "complex"},
		{agent.SchemaOf[struct{ a int }], ".a", "unexported"},
		{agent.SchemaOf[struct{ A time.Duration }], ".A", "nanoseconds"},
		{agent.SchemaOf[struct{ A []byte }], ".A", "base64"},
		{agent.SchemaOf[struct{ A map[int]string }], ".A", "keys of type int"},
		{agent.SchemaOf[struct{ A error }], ".A", "interface with methods"},
		{agent.SchemaOf[struct {
			A int `json:",string"`
		}], ".A", "option string"},
		{agent.SchemaOf[struct {
			A string `json:"B"`
			B string
		}], ".A", `two fields are called "B"`},
		{agent.SchemaOf[tree], "tree.Left", "contains itself"},
		{agent.SchemaOf[struct{ A []tree }], ".A[].Left", "contains itself"},
		{agent.SchemaOf[Loop], "Loop.Loop", ""},
		{agent.SchemaOf[struct{ A ownJSON }], ".A", "give it a method JSONSchema"},
		{agent.SchemaOf[noEnum], "noEnum", "is no string"},
		{agent.SchemaOf[struct{ A sameEnum }], ".A", "can't be told apart"},
		{agent.SchemaOf[nothing], "nothing", "no JSON Schema"},
		{agent.SchemaOf[liar], "/type", "no JSON Schema"},
		{agent.SchemaOf[struct {
			A string `enum:"a,A"`
		}], ".A", "can't be told apart"},
		{agent.SchemaOf[struct {
			A int `enum:"1,x"`
		}], ".A", `"x" is no number`},
		{agent.SchemaOf[struct {
			A bool `enum:"true"`
		}], ".A", "strings and numbers"},
		{agent.SchemaOf[struct {
			A priority `enum:"P1"`
		}], ".A", "method Enum"},
		{agent.SchemaOf[struct {
			A int `minimum:"one"`
		}], ".A", "JSON number"},
		{agent.SchemaOf[struct {
			A string `maximum:"1"`
		}], ".A", "its field a number"},
	} {
		data, err := c.of()
		var e *agent.ShapeError
		if data != nil || !errors.As(err, &e) || !strings.HasSuffix(e.Place, c.place) || !strings.Contains(e.Why, c.says) {
			t.Errorf("SchemaOf = %s, %v; want a *ShapeError at …%s that says %q", data, err, c.place, c.says)
		}
	}
}

func shapeOf[T any](t *testing.T) *agent.Shape {
	t.Helper()
	s, err := agent.ShapeOf[T]()
	return must(t, s, err)
}

func TestTheShapeOfAGoType(t *testing.T) {
	reads(t, shapeOf[string](t), " any text ", `"any text"`)
	reads(t, shapeOf[bool](t), "Yes.", `true`)
	reads(t, shapeOf[priority](t), "**p2**", `"P2"`)
	reads(t, shapeOf[int8](t), "128", "!128 is not from -128 to 127")
	reads(t, shapeOf[uint](t), "-1", "!-1 is not of at least 0")
	reads(t, shapeOf[float32](t), "0.5", "0.5")
	reads(t, shapeOf[time.Time](t), `{"value":"2026-01-02T03:04:05Z"}`, `"2026-01-02T03:04:05Z"`)
	reads(t, shapeOf[team](t), `"abcd"`, "!maxLength")
	reads(t, shapeOf[*int](t), `{"value":null}`, "null")
	reads(t, shapeOf[[]int](t), "[1,2]", "[1,2]")
	if name := shapeOf[ticket](t).Schema().Name; name != "ticket" {
		t.Errorf("the schema is called %q", name)
	}
	if name := shapeOf[struct{}](t).Schema().Name; name != "answer" {
		t.Errorf("the schema is called %q", name)
	}
	if _, err := agent.ShapeOf[chan int](); err == nil {
		t.Error("a channel has a shape")
	}
}

func TestAnswersAreDecoded(t *testing.T) {
	s := shapeOf[ticket](t)
	const rest = `"id":1,"why":"w","severity":4.0,"level":null,"size":2,"count":3,"pair":[true,false],"owner":null,"from":"::1","parts":[{"n":7}],"note":"n"}`
	v, err := agent.ReadAs[ticket](s, `{"priority":"p1","kind":"Feature-Request","due":"2026-01-02T03:04:05Z",`+rest)
	if err != nil || v.Priority != "P1" || v.Kind != "feature request" || v.ID != 1 || v.Severity != 4 || v.Due.Year() != 2026 || !v.Pair[0] || v.Parts[0].N != 7 || v.Note != "n" || v.hidden != 0 {
		t.Errorf("ReadAs = %+v, %v", v, err)
	}
	if _, err := agent.ReadAs[ticket](s, `{"priority":"P1","kind":"bug","extra":1,`+rest); err == nil || !strings.Contains(err.Error(), "'extra' not allowed") {
		t.Errorf("an unknown member: %v", err)
	}
	open := jsonOf(t, `{"type":"object","properties":{"n":{"type":"integer"}}}`)
	if p, err := agent.ReadAs[part](open, `{"n":1,"more":2}`); err != nil || p.N != 1 {
		t.Errorf("ReadAs = %+v, %v; want the unknown member dropped, as the schema allows it", p, err)
	}
	_, err = agent.ReadAs[part](open, `{"n":99999999999999999999}`)
	if e, ok := errors.AsType[*agent.AnswerError](err); !ok || !strings.Contains(e.Why, "does not fit") {
		t.Errorf("a number that is too large for its field: %v", err)
	}
	if n, err := agent.ReadAs[int](shapeOf[int](t), "Severity: 4.0"); err != nil || n != 4 {
		t.Errorf("ReadAs = %d, %v", n, err)
	}
	if b, err := agent.ReadAs[bool](agent.Boolean(), "No"); err != nil || b {
		t.Errorf("ReadAs = %t, %v", b, err)
	}
}
