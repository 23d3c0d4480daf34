package pawl_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

type street struct {
	Street string `json:"street"`
	Note   string `json:"-"`
}

type parcel struct {
	street
	Number  int             `json:"number"`
	Lines   []string        `json:"lines,omitempty"`
	Paid    *bool           `json:"paid"`
	At      time.Time       `json:"at,omitzero"`
	Rest    json.RawMessage `json:"rest"`
	Plain   float64
	private int
}

// shutInput decodes its own JSON, and does not say what that is; shapedInput says it.
type shutInput struct{ A string }

func (*shutInput) UnmarshalJSON([]byte) error { return nil }

type shapedInput struct{ shutInput }

func (shapedInput) JSONType() reflect.Type { return reflect.TypeFor[street]() }

// TestAWorkflowTellsWhatItIsAndTakes, as far as its Go type does.
func TestAWorkflowTellsWhatItIsAndTakes(t *testing.T) {
	e := pawl.New(nil, nil)
	err := e.Register(
		pawl.Define("order", func(*pawl.Context, *parcel) (any, error) { return nil, nil }, pawl.Doc("Sends it."), pawl.Version("v2")),
		pawl.Define("any", func(*pawl.Context, json.RawMessage) (any, error) { return nil, nil }, pawl.Internal()),
		pawl.Define("shut", func(*pawl.Context, shutInput) (any, error) { return nil, nil }),
		pawl.Define("shaped", func(*pawl.Context, shapedInput) (any, error) { return nil, nil }),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []pawl.WorkflowInfo{
		{Name: "order", Version: "v2", Doc: "Sends it.", Fields: []pawl.Field{
			{Name: "street", Kind: "string"}, {Name: "number", Kind: "integer"}, {Name: "lines", Kind: "array", Optional: true}, {Name: "paid", Kind: "boolean"},
			{Name: "at", Kind: "time", Optional: true}, {Name: "rest", Kind: "any"}, {Name: "Plain", Kind: "number"}}},
		{Name: "any", Internal: true}, {Name: "shut"},
		{Name: "shaped", Fields: []pawl.Field{{Name: "street", Kind: "string"}}},
	} {
		got, err := e.Workflow(want.Name)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v (%v), want %+v", want.Name, got, err, want)
		}
	}
	for input, want := range map[string]string{
		`{"number":"x"}`: `pawl: refused: input of order: "number" is of kind string, and should be of kind integer`,
		`[1]`:            `pawl: refused: input of order: it is of kind array, and should be of kind object`,
		`{"x":1}`:        `pawl: refused: input of order: unknown field "x"; there are: street, number, lines, paid, at, rest, Plain`,
	} {
		if err := e.Accepts(t.Context(), "", "order", json.RawMessage(input)); err == nil || err.Error() != want {
			t.Errorf("%s is refused with %v, want %s", input, err, want)
		}
	}
}
