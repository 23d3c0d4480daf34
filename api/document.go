package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// newDocument prepares the OpenAPI document that the operations are added to, and huma, of
// which nothing is used but that: no pages, no links to schemas in answers.
func (s *server) newDocument() {
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	registry.RegisterTypeAlias(reflect.TypeFor[pawl.State](), reflect.TypeFor[stateName]())
	s.problems = &huma.Response{
		Description: "A problem: what was asked was not done, but for code unknown_outcome, which may have been.",
		Content:     map[string]*huma.MediaType{problemType: {Schema: registry.Schema(reflect.TypeFor[Problem](), true, "Problem")}},
	}
	s.api = huma.NewAPI(huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "pawl", Version: apiVersion,
				Description: "Runs of durable workflows: start, look at, follow, operate. Times are RFC 3339. Names in paths are escaped, slashes too. " +
					"Errors are problem documents (RFC 9457) with a stable code.",
				License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Components: &huma.Components{Schemas: registry, SecuritySchemes: map[string]*huma.SecurityScheme{
				"key":         {Type: "http", Scheme: "bearer", BearerFormat: "pawl_<id>_<secret>", Description: "A key of the tenant whose runs are meant, with the scope that the operation names."},
				"session":     {Type: "apiKey", In: "cookie", Name: sessionCookie, Description: "A person's session, where the server has a provider to log in with."},
				"streamToken": {Type: "apiKey", In: "query", Name: streamTokenParam, Description: "A token of createStreamToken, for web pages that follow a run."},
			}},
		},
		Formats: map[string]huma.Format{"application/json": jsonFormat, problemType: jsonFormat}, DefaultFormat: "application/json",
		Transformers: []huma.Transformer{ours},
	}, adapter{s})
}

// schemaName is what a type is called in the document. Types of flows have the names of others, which tell of runs.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	name := huma.DefaultSchemaNamer(t, hint)
	if t.PkgPath() == reflect.TypeFor[flow.Flow]().PkgPath() && !strings.HasPrefix(name, "Flow") {
		name = "Flow" + name
	}
	return name
}

// schemaOf is the document's schema of a value's type.
func (s *server) schemaOf(v any) *huma.Schema {
	return s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(v), true, "")
}

// apiVersion is the version of the API, which is not the program's.
const apiVersion = "1"

// stateName is a state as the document describes it.
type stateName string

// Schema lists the names.
func (stateName) Schema(huma.Registry) *huma.Schema {
	schema := &huma.Schema{Type: huma.TypeString}
	for state := pawl.Pending; ; state++ {
		if _, err := pawl.ParseState(state.String()); err != nil {
			return schema
		}
		schema.Enum = append(schema.Enum, state.String())
	}
}

// finish takes out of the document what huma has put in and the server does not do: its
// own form of errors, and lists that may be null.
func (s *server) finish() {
	schemas := s.api.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	asking := schemas["Asking"].Properties // a request that was too large to keep is null
	asking["request"] = &huma.Schema{AnyOf: []*huma.Schema{asking["request"], {Type: "null"}}}
	seen := map[*huma.Schema]bool{}
	var walk func(schema *huma.Schema)
	walk = func(schema *huma.Schema) {
		if schema == nil || seen[schema] {
			return
		}
		seen[schema] = true
		if schema.Type == huma.TypeArray {
			schema.Nullable = false
		}
		walk(schema.Items)
		for _, p := range schema.Properties {
			walk(p)
		}
		if more, ok := schema.AdditionalProperties.(*huma.Schema); ok {
			walk(more)
		}
	}
	for _, schema := range schemas {
		walk(schema)
	}
	for _, o := range s.operations {
		path := s.api.OpenAPI().Paths[strings.ReplaceAll(o.path, "...}", "}")]
		for _, op := range []*huma.Operation{path.Get, path.Post, path.Put, path.Delete} {
			if op == nil {
				continue
			}
			for _, p := range op.Parameters {
				walk(p.Schema)
			}
			if op.RequestBody != nil {
				for _, media := range op.RequestBody.Content {
					walk(media.Schema)
				}
			}
			for _, answer := range op.Responses {
				for _, media := range answer.Content {
					walk(media.Schema)
				}
			}
		}
	}
	// To write it takes longer than all else that makes a server, and few ask for it. Nothing changes it any more.
	s.document = sync.OnceValues(func() ([]byte, error) { return json.Marshal(s.api.OpenAPI()) })
}

type documentOutput struct{ Body json.RawMessage }

func (s *server) documentRoutes() {
	add(s, route{id: "openAPI", method: http.MethodGet, path: "/openapi.json", scope: public, summary: "This document, in OpenAPI 3.1"},
		func(context.Context, *struct{}) (*documentOutput, error) {
			document, err := s.document()
			return &documentOutput{document}, err
		})
}
