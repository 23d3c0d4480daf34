package main

import (
	"fmt"

	"github.com/pawlrun/pawl/internal/schema"
)

// checkSchema holds the payload of a hook against the JSON Schema that the hook has: see
// pawl.Options.CheckSchema. It says all that is wrong, in one line. What a schema refers to must be in it.
func checkSchema(of, data []byte) error {
	s, err := schema.Compile(of)
	if err != nil {
		return fmt.Errorf("the hook's schema: %w", err)
	}
	return s.CheckJSON(data)
}
