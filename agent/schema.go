package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Limits of schemas and answers.
const (
	maxSchema      = 64 << 10 // bytes of a schema
	maxSchemaDepth = 64       // how deep its JSON is nested
	maxAnswer      = 1 << 20  // bytes of an answer
	maxAnswerDepth = 64       // how deep its JSON is nested
)

// schemaURL is what references in a schema without $id are relative to. Nothing is there.
const schemaURL = "pawl://schema/root"

// compileSchema makes a schema out of JSON that was given. Everything that it refers to must
// be in it.
func compileSchema(data json.RawMessage) (object, *jsonschema.Schema, error) {
	if len(data) > maxSchema {
		return nil, nil, badShape("", "the JSON Schema is %d bytes, the limit is %d", len(data), maxSchema)
	}
	tree, err := parseWhole(string(data), maxSchemaDepth)
	if err != nil {
		return nil, nil, badShape("", "the JSON Schema is no JSON: %v", err)
	}
	root, ok := tree.(object)
	if !ok {
		return nil, nil, badShape("", "a JSON Schema is an object, this is %s", excerpt(string(data), 40))
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(refuseToLoad{})
	c.AssertFormat()
	if err := c.AddResource(schemaURL, loose(root)); err != nil {
		return nil, nil, badShape("", "%v", err)
	}
	s, err := c.Compile(schemaURL)
	if err != nil {
		return nil, nil, schemaFault(err)
	}
	if at, why := outlandish(root, root, ""); why != "" {
		return nil, nil, badShape(at, "%s", why)
	}
	return root, s, nil
}

// refuseToLoad stands between a schema and the files and networks that it refers to.
type refuseToLoad struct{}

func (refuseToLoad) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is outside of the schema: copy it into $defs", url)
}

// schemaFault says where in a schema its fault is.
func schemaFault(err error) error {
	var load *jsonschema.LoadURLError
	if errors.As(err, &load) {
		return badShape("", "the schema refers to %s, which is not in it and is not fetched: copy it into $defs", load.URL)
	}
	var schema *jsonschema.SchemaValidationError
	if errors.As(err, &schema) {
		err = schema.Err
	}
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		leaf := invalid
		for len(leaf.Causes) > 0 {
			leaf = leaf.Causes[0]
		}
		return badShape(pointer(leaf.InstanceLocation), "this is no JSON Schema: %s", leaf.ErrorKind.LocalizedString(english))
	}
	return badShape("", "%s", strings.ReplaceAll(err.Error(), schemaURL, ""))
}

var english = message.NewPrinter(language.English)

// faults says in one line what is wrong with an answer that does not validate.
func faults(err error) string {
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return err.Error()
	}
	const most = 5
	var found []string
	more := 0
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		for _, c := range e.Causes {
			walk(c)
		}
		if len(e.Causes) > 0 {
			return
		}
		if len(found) == most {
			more++
			return
		}
		s := e.ErrorKind.LocalizedString(english)
		if len(s) > 200 {
			s = excerpt(s, 200)
		}
		if len(e.InstanceLocation) > 0 {
			s = "at " + pointer(e.InstanceLocation) + ": " + s
		}
		found = append(found, s)
	}
	walk(invalid)
	s := strings.Join(found, "; ")
	if more > 0 {
		s += fmt.Sprintf("; and %d more of this", more)
	}
	return s
}

var (
	escapePointer   = strings.NewReplacer("~", "~0", "/", "~1")
	unescapePointer = strings.NewReplacer("~1", "/", "~0", "~")
)

// pointer writes a JSON pointer, "/" for the whole.
func pointer(path []string) string {
	if len(path) == 0 {
		return "/"
	}
	var b strings.Builder
	for _, p := range path {
		b.WriteByte('/')
		b.WriteString(escapePointer.Replace(p))
	}
	if b.Len() > 200 {
		return excerpt(b.String(), 200)
	}
	return b.String()
}

// defined returns the definition that a reference of the form #/$defs/name is to.
func defined(root object, ref string) object {
	name, ok := strings.CutPrefix(ref, "#/$defs/")
	if !ok || strings.ContainsAny(name, "/~%") {
		return nil
	}
	defs, _ := root.get("$defs").(object)
	to, _ := defs.get(name).(object)
	return to
}
