package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// schemaURL is what references in a schema without $id are relative to. Nothing is there.
const schemaURL = "pawl://hook/schema"

// checkSchema holds the payload of a hook against the JSON Schema that the hook has: see
// pawl.Options.CheckSchema. It says all that is wrong, in one line. What a schema refers to must be in it.
func checkSchema(schema, data []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return fmt.Errorf("the hook's schema is no JSON: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nothingElse{})
	c.AssertFormat()
	if err := c.AddResource(schemaURL, doc); err != nil {
		return fmt.Errorf("the hook's schema: %w", err)
	}
	s, err := c.Compile(schemaURL)
	if err != nil {
		return fmt.Errorf("the hook's schema: %s", oneLine(strings.ReplaceAll(err.Error(), schemaURL, "")))
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("it is no JSON: %w", err)
	}
	var invalid *jsonschema.ValidationError
	if err = s.Validate(value); !errors.As(err, &invalid) {
		return err
	}
	return errors.New(strings.Join(leaves(nil, invalid), "; "))
}

// nothingElse stands between a schema and the files and networks that it refers to.
type nothingElse struct{}

func (nothingElse) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is outside of the schema: copy it into $defs", url)
}

var english = message.NewPrinter(language.English)

// leaves says what is wrong, and where.
func leaves(found []string, e *jsonschema.ValidationError) []string {
	for _, cause := range e.Causes {
		found = leaves(found, cause)
	}
	if len(e.Causes) > 0 {
		return found
	}
	text := cut(e.ErrorKind.LocalizedString(english), 200)
	if len(e.InstanceLocation) > 0 {
		text = "/" + strings.Join(e.InstanceLocation, "/") + ": " + text
	}
	return append(found, text)
}
