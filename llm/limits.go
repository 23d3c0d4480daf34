package llm

import "time"

// Limits is what a provider says of its rate limits along with an answer or an error. It
// is for pacing: who knows that 3 requests remain for the next 20 seconds need not make a
// fourth to learn that it is refused. All zero means that the provider did not say.
//
// The numbers are those of the moment of the answer, and of the whole account, which
// others may use at the same time.
type Limits struct {
	Requests     Limit `json:"requests,omitzero"`
	Tokens       Limit `json:"tokens,omitzero"`       // input and output together
	InputTokens  Limit `json:"inputTokens,omitzero"`  // where the provider limits it by itself
	OutputTokens Limit `json:"outputTokens,omitzero"` // where the provider limits it by itself
}

// Limit is one limit of a provider.
type Limit struct {
	Limit     int `json:"limit"`     // how many there are in a period, of a length the provider does not say; 0 means that it did not say this either
	Remaining int `json:"remaining"` // how many are left of them

	// Reset is how long it takes until all are there again, in nanoseconds, from when the
	// answer came; 0 if they are there or the provider did not say. It is at most a day.
	Reset time.Duration `json:"reset,omitempty"`
}
