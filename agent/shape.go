package agent

import (
	"cmp"
	"encoding/json"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl/llm"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Shape is what a model's answer must be. [Text], [OneOf], [Number], [Boolean], [JSON] and
// [ShapeOf] make one. It does not change, and is safe for concurrent use.
type Shape struct {
	name string // of the schema sent to providers
	want string // in words, after "answer with"
	tail string // more of Words, for those who have not been told yet
	wish object // what providers are asked for; nil: nothing

	read func(text string) (any, string) // of a text that is not empty: a tree, or why there is none

	schema *jsonschema.Schema // JSON only
	spec   spec
}

// Text is any answer that is not empty. It is read as it is, but for white space around it.
func Text() *Shape {
	return &Shape{spec: spec{Kind: "text"}, want: "plain text", read: func(text string) (any, string) { return text, "" }}
}

// Limits of OneOf.
const (
	maxValues   = 1000
	maxValueLen = 256
)

// OneOf is exactly one of the values, spelled as they are here. An answer in another case,
// with other punctuation, or with spaces for _ and -, is read as the value it stands for.
//
// There are 1 to 1,000 values of 1 to 256 bytes. Two that only such things tell apart, as "P1"
// and "p1." are, would be mistaken for each other: a *ShapeError.
func OneOf(values ...string) (*Shape, error) {
	if len(values) == 0 || len(values) > maxValues {
		return nil, badShape("", "there are %d values to choose from, it must be 1 to %d", len(values), maxValues)
	}
	var known []value
	seen := map[string]string{}
	allowed := []any{}
	for _, text := range values {
		if strings.TrimSpace(text) == "" || len(text) > maxValueLen || strings.ToValidUTF8(text, "") != text {
			return nil, badShape("", "the value %s is no text of 1 to %d bytes of UTF-8", excerpt(text, 40), maxValueLen)
		}
		v := newValue(text)
		if other, ok := seen[v.folded]; ok {
			return nil, badShape("", "the values %q and %q can't be told apart in an answer: case, white space, _, - and punctuation around words don't count", other, text)
		}
		seen[v.folded] = text
		known, allowed = append(known, v), append(allowed, text)
	}
	return &Shape{
		spec: spec{Kind: "one of", Values: slices.Clone(values)},
		want: "exactly one of these values: " + quoted(values),
		wish: wrap(object{{"type", "string"}, {"enum", allowed}}),
		read: func(text string) (any, string) { return readValue(text, known) },
	}, nil
}

func quoted(values []string) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteString(", ")
		}
		b.Write(encode(v))
	}
	return b.String()
}

// Range bounds a number. The zero value allows every number.
type Range struct {
	Min     *float64 `json:"min,omitempty"` // nil: none
	Max     *float64 `json:"max,omitempty"` // nil: none
	Integer bool     `json:"integer,omitempty"`
}

// Number is a number within r. An answer is read as one if it is written as JSON writes
// numbers, with nothing around it but quotes, markdown, a full stop, or a label before a
// colon. A bound that is no number, or an empty range, is a *ShapeError.
func Number(r Range) (*Shape, error) {
	for _, bound := range []*float64{r.Min, r.Max} {
		if bound != nil && (math.IsNaN(*bound) || math.IsInf(*bound, 0)) {
			return nil, badShape("", "a bound is %v: leave it out where there is none", *bound)
		}
	}
	if r.Min != nil && r.Max != nil && (*r.Min > *r.Max || r.Integer && math.Ceil(*r.Min) > math.Floor(*r.Max)) {
		return nil, badShape("", "no number is %s", r.words())
	}
	kind := "number"
	if r.Integer {
		kind = "integer"
	}
	return &Shape{
		spec: spec{Kind: "number", Range: &r},
		want: strings.TrimSpace("one "+kind+" "+r.words()) + ", in digits",
		wish: wrap(describe(r.keywords(), object{{"type", kind}})),
		read: func(text string) (any, string) { return readNumber(text, r) },
	}, nil
}

func (r Range) words() string {
	switch {
	case r.Min != nil && r.Max != nil:
		return "from " + decimal(*r.Min) + " to " + decimal(*r.Max)
	case r.Min != nil:
		return "of at least " + decimal(*r.Min)
	case r.Max != nil:
		return "of at most " + decimal(*r.Max)
	}
	return ""
}

func (r Range) keywords() object {
	var o object
	if r.Min != nil {
		o = append(o, member{"minimum", json.Number(decimal(*r.Min))})
	}
	if r.Max != nil {
		o = append(o, member{"maximum", json.Number(decimal(*r.Max))})
	}
	return o
}

// holds reports whether n is within r, exactly.
func (r Range) holds(n json.Number) bool {
	at, _ := new(big.Rat).SetString(string(n))
	beyond := func(bound *float64, side int) bool {
		if bound == nil {
			return false
		}
		b, _ := new(big.Rat).SetString(decimal(*bound)) // as it is written: 0.1 is a tenth
		return at.Cmp(b) == side
	}
	return !beyond(r.Min, -1) && !beyond(r.Max, 1)
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// Boolean is yes or no. An answer is read as true if it is "true" or "yes", as false if it is
// "false" or "no": in any case, with nothing around it but quotes, markdown, a full stop, or
// a label before a colon.
func Boolean() *Shape {
	return &Shape{spec: spec{Kind: "boolean"}, want: "either true or false", wish: wrap(object{{"type", "boolean"}}), read: readBoolean}
}

// JSON is a JSON value that schema, a JSON Schema (draft 2020-12 unless it says otherwise),
// allows. An answer may have a fence, or text without other JSON, around it.
//
// A *ShapeError names the place of what is wrong with a schema. One over 64 KiB or nested
// deeper than 64 is refused too, and references other than those of the form #/path: nothing
// is ever fetched.
func JSON(schema json.RawMessage) (*Shape, error) {
	root, compiled, err := compileSchema(schema)
	if err != nil {
		return nil, err
	}
	s := &Shape{
		want:   "one JSON value that the schema allows",
		tail:   "\n\nThe JSON Schema:\n" + string(encode(root)),
		schema: compiled,
		spec:   spec{Kind: "json", Schema: schema},
	}
	if slices.Equal(kinds(root), []string{"object"}) {
		s.want = "one JSON object that the schema allows"
	}
	wrapped := false
	if wish, wraps, err := wishOf(root); err == nil {
		s.wish, wrapped = wish, wraps
	}
	s.read = func(text string) (any, string) { return s.readJSON(text, root, wrapped) }
	return s, nil
}

// Schema returns what to ask a provider of structured answers for: the part of JSON Schema
// that all of them take, in strict mode. All objects are closed and all properties required;
// one that is optional may be null instead, and Read drops the null. A shape that is no JSON
// object is wrapped into one with the property "value", and Read unwraps it. Bounds and
// patterns become part of descriptions; Read checks them.
//
// It is nil for Text and for a schema that can't be said so, because it has objects with
// members of any name (Go maps), values of any type, or allOf: Words is then all there is.
func (s *Shape) Schema() *llm.Schema {
	if s.wish == nil {
		return nil
	}
	return &llm.Schema{Name: cmp.Or(s.name, "answer"), JSON: encode(s.wish)}
}

// Words returns what to tell a model that is not held to the Schema by its provider, for
// the end of the prompt. It is "" for Text.
func (s *Shape) Words() string {
	if s.wish == nil && s.schema == nil {
		return ""
	}
	return "Answer with " + s.want + ". Write nothing else: no explanation, no code fence." + s.tail
}

// String returns what the answer must be, as the words after "answer with".
func (s *Shape) String() string { return s.want }
