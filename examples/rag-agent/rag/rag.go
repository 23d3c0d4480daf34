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
	"github.com/pawlrun/pawl/agent"
)

const (
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
	Answer    string   `json:"answer"`
	Citations []string `json:"citations"` // ids of passages, each of them in Hits
	Supported bool     `json:"supported"` // whether the last answer passed the check: if not, show it with a warning or not at all
	Problems  []string `json:"problems,omitempty"`
	Answers   int      `json:"answers"` // how many were tried
	Hits      []Hit    `json:"hits"`
}

// Progress is what a run writes to its stream "progress".
type Progress struct {
	Phase string `json:"phase"`
	Text  string `json:"text"`
}

// New makes the workflow "rag-agent", which asks the model and the embedder that models name.
func New(models *agent.Models) *pawl.Workflow[Input, Result] {
	l := &librarian{models}
	return pawl.Define("rag-agent", l.run, pawl.Doc("Answers a question out of a small library, and cites it."))
}

type librarian struct{ models *agent.Models }

func (l *librarian) run(c *pawl.Context, in Input) (Result, error) {
	if err := c.SetAttributes(map[string]any{"topic": in.Question}); err != nil {
		return Result{}, err
	}
	if err := enter(c, "embed", fmt.Sprintf("embedding %d passages", len(corpus))); err != nil {
		return Result{}, err
	}
	// The passages are on record too: after a deploy with another corpus, a run under way
	// still knows which vector is whose.
	passages, err := pawl.Step(c, "passages", func(context.Context) ([]Passage, error) { return corpus, nil })
	if err != nil {
		return Result{}, err
	}
	index, err := l.embed(c, passages)
	if err != nil {
		return Result{}, err
	}

	if err := enter(c, "search", "searching"); err != nil {
		return Result{}, err
	}
	question, err := agent.Embed(c, l.models, "embed-question", "", []string{in.Question}, dimensions)
	if err != nil {
		return Result{}, err
	}
	// The search calls nobody, but it is a step: what was found is on record, and better
	// search code in the next deploy does not change it under a run.
	hits, err := pawl.Step(c, "search", func(context.Context) ([]Hit, error) {
		return search(index, question.Vectors[0])
	})
	if err != nil {
		return Result{}, err
	}
	out := Result{Hits: hits}

	for out.Answers < maxAnswers && !out.Supported {
		if err := enter(c, "answer", fmt.Sprintf("answering from %d passages", len(out.Hits))); err != nil {
			return Result{}, err
		}
		// The second time round the steps are known as answer#2 and fact-check#2.
		reply, err := agent.Generate[answer](c, l.models, "answer", answerCall(in.Question, out.Hits, out.Answer, out.Problems))
		if err != nil {
			return Result{}, err
		}
		if err := enter(c, "fact-check", "checking the answer"); err != nil {
			return Result{}, err
		}
		check, err := agent.Generate[verdict](c, l.models, "fact-check", checkCall(in.Question, reply.Answer, out.Hits))
		if err != nil {
			return Result{}, err
		}
		out.Answer, out.Citations = reply.Answer, reply.Citations
		out.Supported, out.Problems = check.Supported, check.Problems
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
	Vector []float32
}

// embed finds the vectors of all passages, a batch per step: embed[0]/batch,
// embed[1]/batch, …
func (l *librarian) embed(c *pawl.Context, all []Passage) ([]embedded, error) {
	batches := slices.Collect(slices.Chunk(all, batchSize))
	done, err := pawl.Map(c, "embed", batches, func(c *pawl.Context, batch []Passage) ([]embedded, error) {
		texts := make([]string, len(batch))
		for i, p := range batch {
			texts[i] = p.Text
		}
		v, err := agent.Embed(c, l.models, "batch", "", texts, dimensions)
		if err != nil {
			return nil, err
		}
		out := make([]embedded, len(batch))
		for i, p := range batch {
			out[i] = embedded{p, v.Vectors[i]}
		}
		return out, nil
	}, pawl.Limit(atATime))
	return slices.Concat(done...), err
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

// enter says to whoever lists runs, or watches this one, what it does now.
func enter(c *pawl.Context, phase, text string) error {
	if err := c.SetAttributes(map[string]any{"phase": phase}); err != nil {
		return err
	}
	return c.Stream("progress").Write(Progress{phase, text})
}
