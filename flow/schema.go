package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/approval"
)

// compile reports why JSON is no JSON Schema, or none that may be used here: it refers to nothing outside of itself.
func compile(schema json.RawMessage) error {
	_, err := agent.JSON(schema)
	return err
}

// conform holds an object against a schema. The error says what does not fit and where.
func conform(schema, object json.RawMessage) error {
	_, err := approval.CheckForm(schema, object)
	return err
}

// fits holds any value against a schema that refers to nothing.
func fits(schema json.RawMessage, v any) error {
	within, err := json.Marshal(map[string]any{"type": "object", "properties": map[string]any{"value": schema}})
	if err != nil {
		return err
	}
	data, err := json.Marshal(map[string]any{"value": v})
	if err != nil {
		return err
	}
	var form *approval.FormError
	if err = conform(within, data); errors.As(err, &form) && len(form.Faults) > 0 {
		return fmt.Errorf("%s", form.Faults[0].Why)
	}
	return err
}

// schemaText is a schema of the document as JSON, or nil.
func schemaText(n *node) json.RawMessage {
	if !n.is(objectKind) {
		return nil
	}
	var b bytes.Buffer
	n.canonical(&b)
	return b.Bytes()
}
