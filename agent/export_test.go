package agent

import "encoding/json"

// Valid reports whether a schema allows data.
func Valid(schema string, data []byte) bool {
	_, compiled, err := compileSchema(json.RawMessage(schema))
	if err != nil {
		return false
	}
	var v any
	return json.Unmarshal(data, &v) == nil && compiled.Validate(v) == nil
}

// VersionOf is p as Put would store it.
func VersionOf(p Prompt) (PromptVersion, error) { return p.version() }
