package service

import (
	"slices"
	"strings"
)

// Where schemas stand in schemas. All other values are data, which may look like schemas.
var (
	schemaMaps  = []string{"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
	schemaLists = []string{"allOf", "anyOf", "oneOf", "prefixItems"}
	schemaOnes  = []string{"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties"}
	schemaNotes = []string{"example", "examples", "xml", "externalDocs", "discriminator", "nullable"}
)

// components is what references to schemas begin with.
const components = "#/components/schemas/"

// Schemas within schemas, those that references lead to included.
const (
	maxSchemas    = 10_000 // of one operation
	maxAllSchemas = 500_000
)

// schema is a schema of OpenAPI as JSON Schema. Those that it refers to come into defs, so that what is recursive stays so.
func (a *openAPI) schema(at *node, defs map[string]any) any {
	if !at.is(objectKind) {
		if at.is(booleanKind) {
			return at.truth
		}
		return map[string]any{}
	}
	if a.here, a.all = a.here+1, a.all+1; a.here > maxSchemas || a.all > maxAllSchemas {
		if a.here == maxSchemas+1 || a.all == maxAllSchemas+1 {
			a.fault(at, "choose operations by DescribeOptions.Actions", "the operation has over %d schemas, or the document over %d", maxSchemas, maxAllSchemas)
		}
		return map[string]any{}
	}
	out := map[string]any{}
	if ref := at.get("$ref"); ref.is(textKind) {
		out["$ref"] = a.reference(ref, defs)
		if a.old {
			return out // 3.0: what stands beside is ignored
		}
	}
	for _, field := range at.fields {
		name, value := field.name, field.value
		switch {
		case name == "$ref", slices.Contains(schemaNotes, name), strings.HasPrefix(name, "x-") && !strings.HasPrefix(name, "x-pawl-"):
		case slices.Contains(schemaMaps, name) && value.is(objectKind):
			all := map[string]any{}
			for _, inner := range value.fields {
				all[inner.name] = a.schema(inner.value, defs)
			}
			out[name] = all
		case slices.Contains(schemaLists, name) && value.is(listKind):
			all := []any{}
			for _, inner := range value.items {
				all = append(all, a.schema(inner, defs))
			}
			out[name] = all
		case slices.Contains(schemaOnes, name):
			out[name] = a.schema(value, defs)
		case name == "required" && value.is(listKind):
			if names := a.written(at, value); len(names) > 0 {
				out[name] = names
			}
		default:
			out[name] = value.value()
		}
	}
	if a.old {
		modern(at, out)
	}
	return out
}

// reference brings a schema of the components into defs, once, and is where it stands there.
func (a *openAPI) reference(ref *node, defs map[string]any) string {
	name, is := strings.CutPrefix(ref.text, components)
	if !is || strings.Contains(name, "/") {
		a.fault(ref, "", "%.100q is no schema of the document's components", ref.text)
		return "#"
	}
	if _, known := defs[name]; !known {
		target, err := a.find(ref.text)
		if err != nil {
			a.fault(ref, "", "%v", err)
			return "#"
		}
		defs[name] = nil // it may refer to itself
		defs[name] = a.schema(target, defs)
	}
	return "#/$defs/" + name
}

// written are the names that must be given, without what only answers have.
func (a *openAPI) written(at, required *node) (names []any) {
	for _, item := range required.items {
		if only := at.get("properties").get(item.str()).get("readOnly"); !only.is(booleanKind) || !only.truth {
			names = append(names, item.value())
		}
	}
	return names
}

// modern writes what only OpenAPI 3.0 has as JSON Schema does.
func modern(at *node, out map[string]any) {
	if n := at.get("nullable"); n.is(booleanKind) && n.truth {
		if kind, is := out["type"].(string); is {
			out["type"] = []any{kind, "null"}
		}
		if values, is := out["enum"].([]any); is && !slices.Contains(values, nil) {
			out["enum"] = append(slices.Clone(values), nil)
		}
	}
	for limit, bound := range map[string]string{"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"} {
		if only := at.get(limit); only.is(booleanKind) {
			delete(out, limit)
			if only.truth {
				out[limit] = out[bound]
				delete(out, bound)
			}
		}
	}
}
