package schema

import (
	"fmt"
	"strings"
	"testing"
)

func TestHowManyItemsAListHasAtMost(t *testing.T) {
	field := func(name string) Place { return Place{Name: name} }
	item := func(i int) Place { return Place{Item: true, Index: i} }
	for _, c := range []struct {
		schema string
		at     []Place
		want   string
	}{
		{`{"type":"array","maxItems":3}`, nil, "3"},
		{`{"type":"array"}`, nil, "any"},
		{`true`, nil, "any"},
		{`false`, nil, "0"},
		{`{"properties":{"a":{"maxItems":4}}}`, []Place{field("a")}, "4"},
		{`{"properties":{"a":{"maxItems":4}}}`, []Place{field("b")}, "any"},
		{`{"additionalProperties":{"maxItems":4}}`, []Place{field("b")}, "4"},
		{`{"patternProperties":{"^b":{}},"additionalProperties":{"maxItems":4}}`, []Place{field("b")}, "any"},
		{`{"additionalProperties":false}`, []Place{field("b")}, "0"},
		{`{"properties":{"a":{"items":{"properties":{"b":{"maxItems":2}}}}}}`, []Place{field("a"), item(-1), field("b")}, "2"},
		{`{"items":{"maxItems":2}}`, []Place{item(7)}, "2"},
		{`{"prefixItems":[{"maxItems":1},{"maxItems":9}],"items":{"maxItems":2}}`, []Place{item(0)}, "1"},
		{`{"prefixItems":[{"maxItems":1},{"maxItems":9}],"items":{"maxItems":2}}`, []Place{item(-1)}, "9"},
		{`{"prefixItems":[{"maxItems":1}]}`, []Place{item(-1)}, "any"},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"maxItems":1}],"additionalItems":{"maxItems":5}}`, []Place{item(-1)}, "5"},
		{`{"allOf":[{"maxItems":7},{"maxItems":5}],"maxItems":6}`, nil, "5"},
		{`{"anyOf":[{"maxItems":7},{"maxItems":5}]}`, nil, "7"},
		{`{"anyOf":[{"maxItems":7},{"type":"string"}]}`, nil, "any"},
		{`{"oneOf":[{"maxItems":7},{"const":[1,2]}],"maxItems":8}`, nil, "7"},
		{`{"enum":[[1],[1,2,3],"x"]}`, nil, "3"},
		{`{"$ref":"#/$defs/l","$defs":{"l":{"maxItems":3}}}`, nil, "3"},
		{`{"properties":{"next":{"$ref":"#"},"l":{"maxItems":3}}}`, []Place{field("next"), field("next"), field("l")}, "3"},
		{`{"$ref":"#"}`, nil, "any"},
		{`{"anyOf":[{"$ref":"#"},{"$ref":"#"}],"maxItems":3}`, nil, "any"}, // it can't be looked at whole
		{`{"if":{"maxItems":3},"then":{"maxItems":3}}`, nil, "any"},
		{`{"not":{"maxItems":3}}`, nil, "any"},
	} {
		s, err := Compile([]byte(c.schema))
		if err != nil {
			t.Fatalf("%s: %v", c.schema, err)
		}
		got := "any"
		if n, is := s.MostItems(c.at); is {
			got = fmt.Sprint(n)
		}
		if got != c.want {
			t.Errorf("%s at %v: %s, want %s", c.schema, c.at, got, c.want)
		}
	}
	s, err := Compile([]byte(`{"maxItems":1,"anyOf":[` + strings.Repeat(`{"maxItems":9},`, 2000) + `{}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if n, is := s.MostItems(nil); is {
		t.Errorf("%d of a schema that is too large to be looked at", n)
	}
}
