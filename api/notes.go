package api

import (
	"context"
	"encoding/json"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

// noteReader reports whether a caller may read notes of steps, which hold what models were asked and have answered word for word.
func noteReader(ctx context.Context) bool { return allows(callerOf(ctx).scopes, ModelsRead) }

// withoutWords is an entry for who may not read notes: of a request to a model it keeps which model that was, what it cost and how
// long it took, of another note its size alone.
func withoutWords(e pawl.Entry) pawl.Entry {
	if e.Kind != pawl.KindNote {
		return e
	}
	var made agent.Made
	known := json.Unmarshal(e.Data, &made) == nil && made.Hash != ""
	e.Size, e.Data = len(e.Data), nil
	if known {
		if made.Prompt != nil {
			made.Prompt.Hash = "" // it is of the variables too, which may be guessed
		}
		e.Data = marshal(agent.Made{Why: made.Why, Model: made.Model, Prompt: made.Prompt, Kind: made.Kind, RequestID: made.RequestID,
			Usage: made.Usage, Cost: made.Cost, Guess: made.Guess, Cached: made.Cached, Paced: made.Paced, Took: made.Took, At: made.At})
	}
	return e
}
