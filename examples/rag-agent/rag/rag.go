// Package rag answers questions from a small corpus as a durable workflow: it embeds the
// corpus and the question, searches, lets a model answer with citations, and has the
// answer checked against what was found before anybody sees it.
//
// Every call to a provider is a step of its own, so a run that is killed while it checks
// the answer does not embed the corpus again.
package rag

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/ask"
	"github.com/pawlrun/pawl/llm"
)

const (
	// DefaultEmbedder is the embedding model that is asked if Config names none.
	DefaultEmbedder = "text-embedding-3-small"

	maxQuestion = 240 // bytes: the question is an attribute, and those have a limit of 256
	batchSize   = 8   // passages per call to the embedder
	atATime     = 2   // calls to the embedder at the same time
	dimensions  = 256 // of the vectors, which go into the journal: long ones make it large
	nearest     = 4   // passages that the model gets to see
	maxAnswers  = 2   // the first, and one more after a failed check
)

// Input is what a run is started with.
type Input struct {
	Question string `json:"question"`
}

// Validate is called by pawl before a run is stored.
func (in Input) Validate() error {
	if strings.TrimSpace(in.Question) == "" {
		return errors.New("question is empty")
	}
	if len(in.Question) > maxQuestion {
		return fmt.Errorf("question is %d bytes long, the limit is %d", len(in.Question), maxQuestion)
	}
	return nil
}

// Hit is a passage that the search found.
type Hit struct {
	Passage
	Score float64 `json:"score"` // cosine of the angle between question and passage
}

// Result is the result of a run.
type Result struct {
	Answer    string    `json:"answer"`
	Citations []string  `json:"citations"` // ids of passages, each of them in Hits
	Supported bool      `json:"supported"` // whether the last answer passed the check: if not, show it with a warning or not at all
	Problems  []string  `json:"problems,omitempty"`
	Answers   int       `json:"answers"` // how many were tried
	Hits      []Hit     `json:"hits"`
	Usage     llm.Usage `json:"usage"` // of all recorded calls
}

// Progress is what a run writes to its stream "progress".
type Progress struct {
	Phase string `json:"phase"`
	Text  string `json:"text"`
}

// Config says whom the agent asks.
type Config struct {
	Model        llm.Model
	Embedder     llm.Embedder
	Name         string // of the model, as the provider calls it
	EmbedderName string // of the embedding model; empty means DefaultEmbedder
}

// New makes the workflow "rag-agent".
func New(cfg Config) *pawl.Workflow[Input, Result] {
	cfg.EmbedderName = cmp.Or(cfg.EmbedderName, DefaultEmbedder)
	a := &agent{cfg}
	return pawl.Define("rag-agent", a.run)
}

// Workflows returns all that this package defines, for an engine's Register.
func Workflows(m llm.Model, emb llm.Embedder, model string) []pawl.Definition {
	return []pawl.Definition{New(Config{Model: m, Embedder: emb, Name: model})}
}

type agent struct{ Config }

func (a *agent) run(c *pawl.Context, in Input) (Result, error) {
	if err := c.SetAttributes(map[string]any{"topic": in.Question}); err != nil {
		return Result{}, err
	}
	if err := enter(c, "embed", fmt.Sprintf("embedding %d passages", len(corpus))); err != nil {
		return Result{}, err
	}
	index, err := a.embed(c, corpus)
	if err != nil {
		return Result{}, err
	}

	if err := enter(c, "search", "searching"); err != nil {
		return Result{}, err
	}
	question, err := pawl.Step(c, "embed-question", func(ctx context.Context) (ask.Answer[[]embedded], error) {
		return a.vectors(ctx, []Passage{{Text: in.Question}})
	}, pawl.AttemptTimeout(ask.Patience))
	if err != nil {
		return Result{}, err
	}
	// The search calls nobody, but it is a step: what was found is on record, and better
	// search code in the next deploy does not change it under a run.
	hits, err := pawl.Step(c, "search", func(context.Context) ([]Hit, error) {
		return search(index.Value, question.Value[0].Vector)
	})
	if err != nil {
		return Result{}, err
	}
	out := Result{Hits: hits, Usage: index.Usage.Add(question.Usage)}

	for out.Answers < maxAnswers && !out.Supported {
		if err := enter(c, "answer", fmt.Sprintf("answering from %d passages", len(out.Hits))); err != nil {
			return Result{}, err
		}
		// The second time round the steps are known as answer#2 and fact-check#2.
		reply, err := ask.JSON(c, a.Model, "answer", a.answerRequest(in.Question, out.Hits, out.Answer, out.Problems), checkCitations(out.Hits))
		if err != nil {
			return Result{}, err
		}
		if err := enter(c, "fact-check", "checking the answer"); err != nil {
			return Result{}, err
		}
		check, err := ask.JSON(c, a.Model, "fact-check", a.checkRequest(in.Question, reply.Value.Answer, out.Hits), checkVerdict)
		if err != nil {
			return Result{}, err
		}
		out.Answer, out.Citations = reply.Value.Answer, reply.Value.Citations
		out.Supported, out.Problems = check.Value.Supported, check.Value.Problems
		out.Usage = out.Usage.Add(reply.Usage).Add(check.Usage)
		out.Answers++
	}
	if out.Supported {
		return out, enter(c, "done", "the answer is supported by the passages")
	}
	return out, enter(c, "done", "the answer did not pass the check: "+strings.Join(out.Problems, "; "))
}

// embedded is a passage and where it lies.
type embedded struct {
	Passage
	Vector []float32 `json:"vector"`
}

// embed finds the vectors of all passages, a batch per step: embed[0]/batch,
// embed[1]/batch, … A batch is recorded with its passages: after a deploy with another
// corpus, a run under way still knows which vector is whose.
func (a *agent) embed(c *pawl.Context, all []Passage) (ask.Answer[[]embedded], error) {
	batches := slices.Collect(slices.Chunk(all, batchSize))
	done, err := pawl.Map(c, "embed", batches, func(c *pawl.Context, batch []Passage) (ask.Answer[[]embedded], error) {
		return pawl.Step(c, "batch", func(ctx context.Context) (ask.Answer[[]embedded], error) {
			return a.vectors(ctx, batch)
		}, pawl.AttemptTimeout(ask.Patience))
	}, pawl.Limit(atATime))
	var index ask.Answer[[]embedded]
	for _, batch := range done {
		index.Value = append(index.Value, batch.Value...)
		index.Usage = index.Usage.Add(batch.Usage)
	}
	return index, err
}

// vectors calls the embedder. It is for the body of a step.
func (a *agent) vectors(ctx context.Context, batch []Passage) (ask.Answer[[]embedded], error) {
	texts := make([]string, len(batch))
	for i, p := range batch {
		texts[i] = p.Text
	}
	res, err := a.Embedder.Embed(ctx, &llm.EmbedRequest{Model: a.EmbedderName, Input: texts, Dimensions: dimensions})
	if err != nil {
		return ask.Answer[[]embedded]{}, err
	}
	out := ask.Answer[[]embedded]{Usage: res.Usage}
	for i, p := range batch {
		out.Value = append(out.Value, embedded{p, res.Vectors[i]})
	}
	return out, nil
}

// search returns the passages nearest to the question, nearest first.
func search(index []embedded, question []float32) ([]Hit, error) {
	var hits []Hit
	for _, e := range index {
		if len(e.Vector) != len(question) {
			return nil, pawl.Fatal(fmt.Errorf("passage %s has %d dimensions, the question %d: the embedding model was changed in the middle of the run; start it again",
				e.ID, len(e.Vector), len(question)))
		}
		hits = append(hits, Hit{e.Passage, cosine(e.Vector, question)})
	}
	slices.SortStableFunc(hits, func(a, b Hit) int { return cmp.Compare(b.Score, a.Score) })
	return hits[:min(nearest, len(hits))], nil
}

func cosine(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb = dot+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return dot / math.Sqrt(aa*bb)
}

// said and verdict are what the model is asked to write.
type said struct {
	Answer    string   `json:"answer"`
	Citations []string `json:"citations"`
}

type verdict struct {
	Supported bool     `json:"supported"`
	Problems  []string `json:"problems"`
}

// checkCitations refuses an answer that cites what it was not shown.
func checkCitations(hits []Hit) func(said) error {
	return func(s said) error {
		if strings.TrimSpace(s.Answer) == "" {
			return errors.New("the answer is empty")
		}
		for _, id := range s.Citations {
			if !slices.ContainsFunc(hits, func(h Hit) bool { return h.ID == id }) {
				return fmt.Errorf("it cites %q, which is none of the passages", id)
			}
		}
		return nil
	}
}

func checkVerdict(v verdict) error {
	if v.Supported != (len(v.Problems) == 0) {
		return fmt.Errorf("supported is %v, but there are %d problems", v.Supported, len(v.Problems))
	}
	return nil
}

// enter says to whoever lists runs, or watches this one, what it does now.
func enter(c *pawl.Context, phase, text string) error {
	if err := c.SetAttributes(map[string]any{"phase": phase}); err != nil {
		return err
	}
	return c.Stream("progress").Write(Progress{phase, text})
}
