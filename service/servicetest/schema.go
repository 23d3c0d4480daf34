package servicetest

import (
	"encoding/json"

	"github.com/pawlrun/pawl/internal/schema"
)

// fits holds a result against a schema, if there is one.
func fits(of json.RawMessage, result any) error {
	if len(of) == 0 {
		return nil
	}
	s, err := schema.Compile(of)
	if err != nil {
		return err
	}
	return s.Check(result)
}
