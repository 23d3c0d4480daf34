package llm

import "context"

// Model answers requests. Implementations are safe for concurrent use, make at most one
// call to their provider per Generate and do not retry.
type Model interface {
	// Generate asks req and returns the whole answer. It does not change or keep req.
	//
	// The answer is complete: it has a reason why it ended, or Generate returns an error
	// of kind [Truncated]. An answer cut short by MaxTokens is complete in that sense and
	// has [FinishLength].
	//
	// How long the call may take is ctx's affair: there is no time limit of its own. When
	// ctx is cancelled the error satisfies errors.Is(err, context.Canceled) and is no
	// *Error, as nothing is wrong with the call; when ctx's deadline passes, the error is
	// an *Error of kind [Timeout] that wraps context.DeadlineExceeded. All other errors
	// are an *Error.
	Generate(ctx context.Context, req *Request) (*Response, error)
}

// Streamer is a Model that can hand out its answer while it is being written. Not every
// model is one: ask with a type assertion.
type Streamer interface {
	Model

	// Stream is Generate with a view of the work: it calls each with every piece of the
	// answer as it comes, in order, from the calling goroutine, and returns the same
	// Response that Generate would have. What each has seen before an error is not an
	// answer. If each returns an error, Stream abandons the call and returns that error,
	// wrapped.
	Stream(ctx context.Context, req *Request, each func(Delta) error) (*Response, error)
}

// Delta is one piece of an answer that is being written. Either field may be empty.
type Delta struct {
	Text     string         `json:"text,omitempty"`
	ToolCall *ToolCallDelta `json:"toolCall,omitempty"`
}

// ToolCallDelta is one piece of a tool call. The first piece of a call has its ID and
// Name; Arguments are to be joined in the order in which they come.
type ToolCallDelta struct {
	Index     int    `json:"index"` // which call of the answer this belongs to, from 0
	ID        string `json:"id,omitempty"`
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments,omitempty"`
}

// Embedder turns texts into vectors whose nearness is nearness of meaning. The rules of
// [Model] about concurrency, retries, time and errors hold for it too.
type Embedder interface {
	Embed(ctx context.Context, req *EmbedRequest) (*EmbedResponse, error)
}

// EmbedRequest asks for one vector per input.
type EmbedRequest struct {
	Model      string   `json:"model"`
	Input      []string `json:"input"`                // at least one text, none empty
	Dimensions int      `json:"dimensions,omitempty"` // length of the vectors; 0 means the model's own
}

// EmbedResponse holds the vectors in the order of the inputs, exactly one for each.
type EmbedResponse struct {
	Vectors   [][]float32 `json:"vectors"`
	Usage     Usage       `json:"usage"`
	Provider  string      `json:"provider"`
	Model     string      `json:"model"` // the model that answered, as the provider names it
	RequestID string      `json:"requestId,omitempty"`
	Limits    Limits      `json:"limits,omitzero"`
}
