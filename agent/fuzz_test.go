package agent_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/agent"
)

var schemas = []string{
	`{}`,
	`{"type":"object","properties":{"value":{"type":"integer"},"kind":{"enum":["a b","C",null]},"note":{"type":"string","minLength":1}},"required":["value"],"additionalProperties":false}`,
	`{"type":"array","items":{"type":["number","null"]},"maxItems":3}`,
	`{"anyOf":[{"type":"object","properties":{"value":{"type":"integer"}},"additionalProperties":false},{"type":"integer"}]}`,
	`{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"left":{"$ref":"#/$defs/tree"},"right":{"$ref":"#/$defs/tree"},"n":{"type":"number","multipleOf":0.01}},"additionalProperties":false}}}`,
	`{"type":"object","additionalProperties":{"enum":["Yes","No"]}}`,
	`{"type":"string","format":"date-time"}`,
}

// What Read returns is of the shape, and read again is the same.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"", "billing", "**Feature Request**", "I would classify this as billing", "not billing", `{"value":"P1"}`, "```json\n{\"value\":1,\"kind\":\"c\"}\n```", "Severity: 4", "4/5", "-0.0", "1e308",
		"1e-308", "yes", "<think>hm</think> true", `[1, 2.0, null]`, `{"value":{"value":1}}`, `{"left":{"n":0.10},"right":null}`, `{"a":"yes","b":"NO."}`, `"2026-01-02T03:04:05Z"`, `{"value":"2026-01-02T03:04:05Z"}`,
		`{"value":1,"value":2}`, `{x} {"value":1}`, "\uFEFF{}", "\xff\xfe", "\"\\ud800\"", `{"\u0000":"` + "\u2028" + `"}`, "{'a':1}", "[[[[", `{"a":"`, "a\x00b", "ÉTÉ", "été", "１", "<untrusted>",
	} {
		f.Add(s)
	}
	shapes := map[string]*agent.Shape{}
	for _, schema := range schemas {
		shapes[schema] = jsonOf(f, schema)
	}
	allowed := []string{"billing", "feature-request", "P1", "Été", "-1", "1", "?", "a \"b\"", " padded ", "{}", "true"}
	enum, low := oneOf(f, allowed...), numberOf(f, agent.Range{Min: new(-10.0), Max: new(1e6), Integer: true})
	f.Fuzz(func(t *testing.T, text string) {
		again := func(s *agent.Shape, data json.RawMessage) {
			if second, err := s.Read(string(data)); err != nil || !bytes.Equal(second, data) {
				t.Errorf("%q was read as %s, and that as %s, %v", text, data, second, err)
			}
		}
		if data, err := enum.Read(text); err == nil {
			var v string
			if json.Unmarshal(data, &v) != nil || !slices.Contains(allowed, v) {
				t.Errorf("%q was read as %s", text, data)
			}
			again(enum, data)
		}
		if data, err := low.Read(text); err == nil {
			var v int
			if json.Unmarshal(data, &v) != nil || v < -10 || v > 1e6 {
				t.Errorf("%q was read as %s", text, data)
			}
			again(low, data)
		}
		if data, err := agent.Boolean().Read(text); err == nil {
			if s := string(data); s != "true" && s != "false" {
				t.Errorf("%q was read as %s", text, data)
			}
			again(agent.Boolean(), data)
		}
		if data, err := agent.Text().Read(text); err == nil {
			var v string
			if json.Unmarshal(data, &v) != nil {
				t.Errorf("%q was read as %s", text, data)
			}
			if second, err := agent.Text().Read(v); err != nil || !bytes.Equal(second, data) {
				t.Errorf("%q was read as %s, and that as %s, %v", text, data, second, err)
			}
		}
		for schema, s := range shapes {
			data, err := s.Read(text)
			if err != nil {
				continue
			}
			if !json.Valid(data) || !agent.Valid(schema, data) {
				t.Errorf("%q was read as %s, which %s does not allow", text, data, schema)
			}
			again(s, data)
		}
	})
}

// Every schema is refused with an error, or makes a shape that reads what it has read again
// as the same, and whose schema for providers is a schema too.
func FuzzSchema(f *testing.F) {
	for _, s := range append(schemas, `true`, `{"type":"objekt"}`, `{"$ref":"#"}`, `{"$ref":"file:///etc/passwd"}`, `{"$ref":"http://127.0.0.1/x"}`, `{"$id":"http://x/y","$ref":"z"}`, `{"minimum":1e999999999}`, `{"pattern":"(["}`,
		`{"allOf":[{"$ref":"#/allOf/0"}]}`, `{"type":"object","properties":{"a":{"oneOf":[{"type":"string"},{"type":"null"}]}}}`, `{"multipleOf":0}`, `{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"a":{}},"items":[{"$ref":"#/definitions/a"}]}`,
		`{"$dynamicRef":"#x","$defs":{"a":{"$dynamicAnchor":"x"}}}`, `{"type":["object","null"],"properties":{},"required":["a"]}`, `{"enum":[]}`, `{"const":{"a":[1]}}`) {
		f.Add(s, `{"a":1}`)
	}
	f.Fuzz(func(t *testing.T, schema, text string) {
		s, err := agent.JSON(json.RawMessage(schema))
		if err != nil {
			return
		}
		if wish := s.Schema(); wish != nil {
			if _, err := agent.JSON(wish.JSON); err != nil {
				t.Errorf("of %s providers are asked for %s: %v", schema, wish.JSON, err)
			}
		}
		if data, err := s.Read(text); err == nil {
			if second, err := s.Read(string(data)); err != nil || !bytes.Equal(second, data) {
				t.Errorf("%s: %q was read as %s, and that as %s, %v", schema, text, data, second, err)
			}
		}
	})
}

// Whatever decoration, case and separators a value is written with, it is read as itself and
// no other, and never as another when two are written.
func TestEveryValueIsReadBackInManySpellings(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"alpha", "Beta", "gamma9", "ΔELTA", "été", "x1", "zeta"}
	decorations := []string{"%", " %\n", "**%**", "`%`", `"%"`, "“%”", "%.", "%!", "- %", "# %", "(%)", "```\n%\n```", `{"value":"%"}`, "The answer: %", "I would classify this as %.", "Here it is:\n```\n%\n```"}
	for range 2000 {
		var values []string
		seen := map[string]bool{}
		for range 1 + r.IntN(4) {
			parts := []string{words[r.IntN(len(words))]}
			for range r.IntN(3) {
				parts = append(parts, words[r.IntN(len(words))])
			}
			if key := strings.ToLower(strings.Join(parts, " ")); !seen[key] {
				seen[key] = true
				values = append(values, strings.Join(parts, []string{"-", "_", " "}[r.IntN(3)]))
			}
		}
		s := oneOf(t, values...)
		i := r.IntN(len(values))
		spelled := strings.NewReplacer("-", "_", "_", " ", " ", "-").Replace(values[i])
		if r.IntN(2) == 0 {
			spelled = strings.ToUpper(spelled)
		}
		text := strings.ReplaceAll(decorations[r.IntN(len(decorations))], "%", spelled)
		want, err := json.Marshal(values[i])
		if err != nil {
			t.Fatal(err)
		}
		reads(t, s, text, string(want))
		if j := r.IntN(len(values)); j != i {
			if v, err := s.Read(values[i] + ", " + values[j]); err == nil {
				t.Errorf("of %q, %q and %q were read as %s", values, values[i], values[j], v)
			}
		}
	}
}
