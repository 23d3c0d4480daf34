package schema_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/internal/schema"
)

func list(n int, item string) string {
	return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
}

// doubled is a schema in which each definition leads to the next by two ways.
func doubled(keyword string, deep int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"$ref": "#/$defs/a0", "$defs": {`)
	for i := range deep {
		fmt.Fprintf(&b, `"a%d": {%q: [{"$ref": "#/$defs/a%d"}, {"$ref": "#/$defs/a%d"}]}, `, i, keyword, i+1, i+1)
	}
	fmt.Fprintf(&b, `"a%d": {"type": "string"}}}`, deep)
	return b.String()
}

// What would take for ever is refused before it is begun, and what is only large is not.
func TestCheckJSONIsBounded(t *testing.T) {
	nested := func(deep int) string { return strings.Repeat("[", deep) + strings.Repeat("]", deep) }
	patterns := make([]string, 500)
	for i := range patterns {
		patterns[i] = fmt.Sprintf(`"^%d": {}`, i)
	}
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprintf(`"n%d": 1`, i)
	}
	object := "{" + strings.Join(names, ",") + "}"
	for name, test := range map[string]struct {
		schema, value string
		refused       bool
	}{
		"anyOf doubled":    {doubled("anyOf", 40), `1`, true},
		"allOf doubled":    {doubled("allOf", 40), `"a"`, true},
		"oneOf doubled":    {doubled("oneOf", 60), `1`, true},
		"doubled a little": {doubled("anyOf", 8), `"a"`, false},
		"doubled by the depth of the value": {
			`{"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"items": {"$ref": "#/$defs/n"}, "maxItems": 0}, {"items": {"$ref": "#/$defs/n"}}]}}}`, nested(60), true},
		"by names":            {`{"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"a": {"allOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}]}}}}}`, strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), true},
		"dynamic references":  {`{"$dynamicAnchor": "n", "properties": {"a": {"allOf": [{"$dynamicRef": "#n"}, {"$dynamicRef": "#n"}, {"$dynamicRef": "#n"}]}}}`, strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), true},
		"long numbers":        {`{"items": {"minimum": 0}}`, list(1000, "1e999999"), true},
		"a long number":       {`{"type": "integer"}`, "1e99999999999999999999", true},
		"great exponents":     {`{"items": {"multipleOf": 3}}`, list(200_000, "1e9999"), true},
		"a long pattern":      {`{"items": {"pattern": "^((a{100}){9}|b{900})*$"}}`, list(1000, `"`+strings.Repeat("a", 1000)+`"`), true},
		"many patterns":       {`{"patternProperties": {` + strings.Join(patterns, ",") + `}}`, object, true},
		"unique items nested": {`{"$ref": "#/$defs/n", "$defs": {"n": {"uniqueItems": true, "items": {"$ref": "#/$defs/n"}}}}`, strings.Repeat("[1,", 9000) + "2" + strings.Repeat("]", 9000), true},
		"a huge enum":         {`{"items": {"enum": ` + list(9999, `"x"`) + `}}`, list(10_000, `"y"`), true},
		"a large list":        {`{"items": {"type": "integer", "minimum": 0}}`, list(100_000, "17"), false},
		"a large object":      {`{"additionalProperties": {"type": "integer"}, "maxProperties": 100000}`, object, false},
		"a long text":         {`{"pattern": "^[a-z]*$", "maxLength": 2000000}`, `"` + strings.Repeat("a", 2_000_000) + `"`, false},
		"a schema of itself":  {`{"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}}`, strings.Repeat(`{"next":`, 5000) + "1" + strings.Repeat("}", 5000), false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := schema.Compile([]byte(test.schema))
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			err = s.CheckJSON([]byte(test.value))
			if is := err != nil && strings.Contains(err.Error(), "1000000 steps"); is != test.refused || !is && err != nil {
				t.Errorf("%.300v, want it refused: %v", err, test.refused)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			} else if took > time.Second/4 {
				t.Log(took)
			}
		})
	}
}
