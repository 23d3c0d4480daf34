package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Vectors is what a model made of texts. It is the step's result.
type Vectors struct {
	Vectors [][]float32 `json:"vectors"` // one per text, in their order
	Model   string      `json:"model"`   // as provider/model
	Usage   llm.Usage   `json:"usage"`
	Cost    int64       `json:"cost"` // in millionths of a US dollar
	Guess   bool        `json:"guess,omitempty"`
}

// Embed turns texts into vectors, as one step of the run: paced, paid and recorded as [Ask]
// is. model is named as provider/model; "" means Options.Embedder. dimensions 0 means the model's own.
func Embed(c *pawl.Context, m *Models, name, model string, texts []string, dimensions int, opts ...pawl.StepOption) (*Vectors, error) {
	return pawl.Step(c, name, func(ctx context.Context) (*Vectors, error) {
		return m.embed(ctx, cmp.Or(model, m.opt.Embedder), texts, dimensions)
	}, withDefaults(opts)...)
}

func (m *Models) embed(ctx context.Context, model string, texts []string, dimensions int) (*Vectors, error) {
	r, err := m.route(model)
	if err != nil {
		return nil, err
	}
	embedder, ok := r.asks.(llm.Embedder)
	if !ok {
		return nil, pawl.Fatal(fmt.Errorf("%w: the provider of %s makes no vectors; name another model", pawl.ErrInput, r.name))
	}
	req := &llm.EmbedRequest{Model: r.model, Input: texts, Dimensions: dimensions}
	var res *llm.EmbedResponse
	input := llm.EstimateEmbedInput(req)
	b, err := m.pay(ctx, r, input, 0, func(ctx context.Context) (u llm.Usage, l llm.Limits, id string, err error) {
		if res, err = embedder.Embed(ctx, req); err != nil {
			return u, l, id, err
		}
		return res.Usage, llm.Limits{}, res.RequestID, nil
	})
	if err != nil {
		return nil, err
	}
	if len(res.Vectors) != len(texts) {
		return nil, errors.New("the provider gave " + fmt.Sprint(len(res.Vectors)) + " vectors for " + fmt.Sprint(len(texts)) + " texts")
	}
	return &Vectors{Vectors: res.Vectors, Model: r.name, Usage: b.usage, Cost: b.cost, Guess: b.guess}, nil
}

// bill is what one call of a provider came to.
type bill struct {
	usage     llm.Usage
	cost      int64
	guess     bool
	requestID string
	paced     time.Duration // waited for its turn
	took      time.Duration
}
