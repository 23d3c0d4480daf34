package agent_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/llm"
)

// J6: a schema is checked when it is given, and the error has the place.
func TestJ6_badSchemasAreRefusedWithTheirPlace(t *testing.T) {
	deep := `{}`
	for range 70 {
		deep = `{"not":` + deep + `}`
	}
	for _, c := range []struct{ schema, place, says string }{
		{``, "", "no JSON"},
		{`{`, "", "no JSON"},
		{`[]`, "", "is an object"},
		{`true`, "", "is an object"},
		{`{"type":"string","type":"number"}`, "", `two members called "type"`},
		{`{"type":"objekt"}`, "/type", "no JSON Schema"},
		{`{"type":"object","properties":{"a":{"minimum":"1"}}}`, "/properties/a/minimum", "want number"},
		{`{"type":"object","required":"a"}`, "/required", "want array"},
		{`{"properties":{"a/b":{"pattern":"(["}}}`, "/properties/a~1b/pattern", "(["},
		{`{"$ref":"#/$defs/none"}`, "", "none"},
		{`{"$ref":"https://example.com/schema.json"}`, "", "https://example.com/schema.json, which is not in it"},
		{`{"$ref":"file:///etc/passwd"}`, "", "file:///etc/passwd, which is not in it"},
		{`{"$ref":"other.json"}`, "", "which is not in it"},
		{`{"$id":"http://127.0.0.1:1/a","properties":{"x":{"$ref":"b"}}}`, "", "http://127.0.0.1:1/b, which is not in it"},
		{`{"$schema":"http://127.0.0.1:1/meta"}`, "", "http://127.0.0.1:1/meta, which is not in it"},
		{`{"minimum":1e999999999}`, "", "out of range"},
		{deep, "", "too deep"},
		{`{"description":"` + strings.Repeat("x", 64<<10) + `"}`, "", "the limit is 65536"},
		{`{"$defs":{"a":{"$anchor":"x"}},"items":{"$ref":"#x"}}`, "/items/$ref", "not of the form"},
		{`{"$defs":{"a":{"$dynamicAnchor":"x"}},"items":{"$dynamicRef":"#x"}}`, "/items/$dynamicRef", "not of the form"},
		{`{"$defs":{"a":{"$id":"http://x/y"}}}`, "/$defs/a/$id", "$defs instead"},
	} {
		_, err := agent.JSON(json.RawMessage(c.schema))
		var e *agent.ShapeError
		if !errors.As(err, &e) || e.Place != c.place || !strings.Contains(e.Why, c.says) || !errors.Is(err, pawl.ErrInput) || !pawl.IsFatal(err) {
			t.Errorf("JSON(%.100s) = %v; want a fatal *ShapeError at %q that says %q", c.schema, err, c.place, c.says)
		}
	}
}

// A file that is a schema is not read either.
func TestJ6_schemasDoNotReachFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.json")
	if err := os.WriteFile(path, []byte(`{"type":"string"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := agent.JSON(json.RawMessage(`{"$ref":"file://` + filepath.ToSlash(path) + `"}`))
	if err == nil || !strings.Contains(err.Error(), "other.json, which is not in it") {
		t.Errorf("a reference to a file: %v", err)
	}
}

// asked checks what a provider is asked for.
func asked(t *testing.T, s *agent.Shape, want string) {
	t.Helper()
	got := s.Schema()
	if got == nil {
		if want != "" {
			t.Errorf("providers are asked for nothing; want %s", want)
		}
		return
	}
	if string(got.JSON) != want {
		t.Errorf("providers are asked for\n%s\nwant\n%s", got.JSON, want)
	}
	if err := (&llm.Request{Model: "m", Messages: []llm.Message{llm.User("?")}, Schema: got}).Validate(); err != nil {
		t.Errorf("a request with %s: %v", got.JSON, err)
	}
}

func TestProvidersAreAskedForWhatAllOfThemTake(t *testing.T) {
	wrapped := func(inner string) string {
		return `{"type":"object","properties":{"value":` + inner + `},"required":["value"],"additionalProperties":false}`
	}
	asked(t, agent.Text(), "")
	asked(t, agent.Boolean(), wrapped(`{"type":"boolean"}`))
	asked(t, oneOf(t, "b", "a"), wrapped(`{"type":"string","enum":["b","a"]}`))
	asked(t, numberOf(t, agent.Range{Min: new(1.0), Max: new(5.0), Integer: true}), wrapped(`{"type":"integer","description":"(minimum 1, maximum 5)"}`))
	for schema, want := range map[string]string{
		// The order stays: reasons before the verdict.
		`{"type":"object","properties":{"z":{"type":"string","minLength":1,"description":"why"},"a":{"type":"integer"}},"required":["z"]}`:                                                            `{"type":"object","properties":{"z":{"type":"string","description":"why (minLength 1)"},"a":{"type":["integer","null"]}},"required":["z","a"],"additionalProperties":false}`,
		`{"type":"array","items":{"enum":["x"]},"minItems":1}`:                                                                                                                                        wrapped(`{"type":"array","items":{"type":"string","enum":["x"]},"description":"(minItems 1)"}`),
		`{"type":"object","properties":{"at":{"type":"string","format":"date-time"},"re":{"type":"string","format":"regex"},"e":{"enum":["x"]}},"required":["at","re"],"additionalProperties":false}`: `{"type":"object","properties":{"at":{"type":"string","format":"date-time"},"re":{"type":"string","description":"(format regex)"},"e":{"anyOf":[{"type":"string","enum":["x"]},{"type":"null"}]}},"required":["at","re","e"],"additionalProperties":false}`,
		`{"oneOf":[{"type":"string"},{"$ref":"#/$defs/n"}],"$defs":{"n":{"type":"number"},"unused":{"allOf":[]}}}`:                                                                                    "", // allOf of nothing is no schema
		`{"oneOf":[{"type":"string"},{"$ref":"#/$defs/n"}],"$defs":{"n":{"type":"number"},"unused":true}}`:                                                                                            strings.TrimSuffix(wrapped(`{"anyOf":[{"type":"string"},{"$ref":"#/$defs/n"}]}`), "}") + `,"$defs":{"n":{"type":"number"}}}`,
		`{"type":"object","additionalProperties":{"type":"string"}}`:                                                                                                                                  "",
		`{"type":"object"}`:             "",
		`{}`:                            "",
		`{"type":"array"}`:              "",
		`{"allOf":[{"type":"object"}]}`: "",
		`{"type":"object","properties":{"a":true}}`:                               "",
		`{"type":"object","properties":{"a":{}}}`:                                 "",
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["b"]}`: "",
		`{"$ref":"#"}`: "",
	} {
		s, err := agent.JSON(json.RawMessage(schema))
		if err != nil {
			if want != "" {
				t.Errorf("%s: %v", schema, err)
			}
			continue
		}
		asked(t, s, want)
	}
}

// What a provider was made to write is what was meant: null for absent, the wrapper.
func TestWhatProvidersAddIsTakenAway(t *testing.T) {
	s := jsonOf(t, `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":["string","null"]},"c":{"type":"array","items":{"type":"object","properties":{"d":{"enum":["Big Deal"]}},"required":[]}}},"required":["b"]}`)
	reads(t, s, `{"a":null,"b":null,"c":[{"d":null},{"d":"big-deal"}]}`, `{"b":null,"c":[{},{"d":"Big Deal"}]}`)
	reads(t, s, `{"a":"x","b":null,"c":null}`, `{"a":"x","b":null}`)
	reads(t, s, `{"a":1,"b":null}`, "!at /a: got number, want string")
	reads(t, s, `{"a":"x"}`, "!missing property 'b'")
	reads(t, s, `{"b":"x","more":1.0}`, `{"b":"x","more":1}`)
	l := jsonOf(t, `{"type":"array","items":{"type":"integer"}}`)
	for _, text := range []string{`{"value":[1,2]}`, `[1,2]`, "```json\n[1, 2]\n```", "The list is [1, 2.0].", `Here: {"value":[1,2]}`} {
		reads(t, l, text, "[1,2]")
	}
	reads(t, l, "[1] and [2]", "!more than one")
	reads(t, l, `{"values":[1,2]}`, "!want array")
	d := jsonOf(t, `{"type":"string","format":"date"}`)
	reads(t, d, `{"value":"2026-02-28"}`, `"2026-02-28"`)
	reads(t, d, `"2026-02-30"`, "!not valid date")
	either := jsonOf(t, `{"anyOf":[{"type":"null"},{"type":"object","properties":{"kind":{"enum":["A"]}},"required":["kind"],"additionalProperties":false}]}`)
	reads(t, either, `{"value":{"kind":"a"}}`, `{"kind":"A"}`)
	reads(t, either, `{"value":null}`, `null`)
}

// Where alternatives double the work at each level, an answer is read quickly or refused.
func TestSchemasThatTakeForEverAreNotValidated(t *testing.T) {
	doubling := `"a0":{"type":"string"}`
	for i := range 20 {
		a, b := string(rune('a'+i)), string(rune('a'+i+1))
		doubling += `,"` + b + `0":{"anyOf":[{"$ref":"#/$defs/` + a + `0"},{"$ref":"#/$defs/` + a + `0"}]}`
	}
	recursive := jsonOf(t, `{"$ref":"#/$defs/e","$defs":{"e":{"anyOf":[{"type":"object","properties":{"and":{"$ref":"#/$defs/e"}},"required":["and"]},{"type":"object","properties":{"and":{"$ref":"#/$defs/e"},"x":{"type":"integer"}},"required":["and"]},{"type":"boolean"}]}}}`)
	reads(t, recursive, `{"and":{"and":true}}`, `{"and":{"and":true}}`)
	reads(t, recursive, strings.Repeat(`{"and":`, 10)+"1"+strings.Repeat("}", 10), "!not what the schema allows")
	reads(t, recursive, strings.Repeat(`{"and":`, 60)+"1"+strings.Repeat("}", 60), "!nested too deep for the alternatives")
	reads(t, recursive, strings.Repeat(`{"and":`, 65)+"1"+strings.Repeat("}", 65), "!too deep")
	doubled := jsonOf(t, `{"$ref":"#/$defs/u0","$defs":{`+doubling+`}}`)
	reads(t, doubled, "1", "!nested too deep for the alternatives")
	list := jsonOf(t, `{"type":"array","items":{"anyOf":[{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":false},{"type":"null"}]}}`)
	if _, err := list.Read("[" + strings.Repeat(`{"a":1},`, 20_000) + "null]"); err != nil {
		t.Errorf("a long answer was refused: %v", err)
	}
}

// N14, what is read: fences and preambles parse, a violation is an error to repair by.
func TestN14_jsonOutputIsParsedOrRepaired(t *testing.T) {
	s := jsonOf(t, `{"type":"object","properties":{"score":{"type":"integer","minimum":1,"maximum":5}},"required":["score"]}`)
	for _, text := range []string{"{\"score\":4}", "```json\n{\"score\":4}\n```", "Sure, here is the JSON:\n{\"score\": 4}"} {
		reads(t, s, text, `{"score":4}`)
	}
	_, err := s.Read(`{"score":9}`)
	var e *agent.AnswerError
	if !errors.As(err, &e) || !strings.Contains(e.Repair(), "at /score: maximum: got 9, want 5") || !strings.Contains(e.Repair(), "Answer again with one JSON object") {
		t.Errorf("the repair turn for %v is %q", err, e.Repair())
	}
}
