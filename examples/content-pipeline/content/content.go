// Package content is a content pipeline as a durable workflow: a model drafts an article,
// a person reviews it within a week, the model revises it at most three times, and it is
// published, once.
//
// While the run waits for the reviewer it is a row in the store: no goroutine, no memory,
// and any number of restarts in between do not matter.
package content

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

const (
	// ReviewTime is how long a reviewer has for each draft.
	ReviewTime = 7 * 24 * time.Hour
	// MaxRevisions is how often a draft is revised before it is given up.
	MaxRevisions = 3
	// DefaultOutbox is where New publishes to if it is told nothing.
	DefaultOutbox Outbox = "outbox.jsonl"

	maxTopic = 200 // bytes: topic and audience are attributes, and those have a limit of 256
)

// Input is what a run is started with.
type Input struct {
	Topic    string `json:"topic"`
	Audience string `json:"audience"`
}

// Validate is called by pawl before a run is stored.
func (in Input) Validate() error {
	for _, f := range []struct{ name, value string }{{"topic", in.Topic}, {"audience", in.Audience}} {
		if strings.TrimSpace(f.value) == "" {
			return fmt.Errorf("%s is empty", f.name)
		}
		if len(f.value) > maxTopic {
			return fmt.Errorf("%s is %d bytes long, the limit is %d", f.name, len(f.value), maxTopic)
		}
	}
	return nil
}

// Article is what the pipeline is about.
type Article struct {
	Title string `json:"title"`
	Body  string `json:"body"` // Markdown
}

// Validate says what no schema does. The model is told, and may mend it.
func (a Article) Validate() error {
	if strings.TrimSpace(a.Title) == "" || strings.TrimSpace(a.Body) == "" {
		return errors.New("title and body must not be empty")
	}
	return nil
}

// Draft is what a run writes to its stream "drafts", for the reviewer.
type Draft struct {
	Number int `json:"number"` // from 1
	Article
}

// Review is the data of the event "review".
//
// Events are buffered: one sent twice, or sent late, would be taken for the verdict on
// the next draft, which the reviewer has never seen. So a review can name its draft.
type Review struct {
	Approved bool   `json:"approved"`
	Comment  string `json:"comment,omitempty"` // what to change; without one, a draft not approved is rejected for good
	Draft    int    `json:"draft,omitempty"`   // its number; 0 means the one under review
}

// How a run can end.
const (
	Published = "published"
	Rejected  = "rejected" // by the reviewer, at once or after the last revision
	Expired   = "expired"  // nobody reviewed it in time; the editor was told
)

// Result is the result of a run.
type Result struct {
	Status  string  `json:"status"`
	Article Article `json:"article"` // as it was last
	Drafts  int     `json:"drafts"`
	Key     string  `json:"key,omitempty"` // of what was put into the outbox
}

// Progress is what a run writes to its stream "progress".
type Progress struct {
	Phase string `json:"phase"`
	Text  string `json:"text"`
}

// New makes the workflow "content-pipeline", which asks the model that models name and
// publishes to outbox; "" means [DefaultOutbox].
func New(models *agent.Models, outbox Outbox) *pawl.Workflow[Input, Result] {
	p := &pipeline{models, cmp.Or(outbox, DefaultOutbox)}
	return pawl.Define("content-pipeline", p.run,
		pawl.Doc("Drafts an article, has it reviewed by a person within a week, and publishes it."))
}

type pipeline struct {
	models *agent.Models
	outbox Outbox
}

func (p *pipeline) run(c *pawl.Context, in Input) (Result, error) {
	if err := c.SetAttributes(map[string]any{"topic": in.Topic, "audience": in.Audience}); err != nil {
		return Result{}, err
	}
	if err := enter(c, "draft", "drafting"); err != nil {
		return Result{}, err
	}
	draft, err := agent.Generate[Article](c, p.models, "draft", draftCall(in))
	if err != nil {
		return Result{}, err
	}
	out := Result{Article: draft, Drafts: 1}

	for {
		review, err := p.review(c, out.Drafts, out.Article)
		switch {
		case errors.Is(err, pawl.ErrTimeout):
			return p.expire(c, in, out)
		case err != nil:
			return Result{}, err
		case review.Approved:
			return p.publish(c, out)
		case review.Comment == "" || out.Drafts > MaxRevisions:
			out.Status = Rejected
			return out, enter(c, "done", "rejected")
		}

		if err := enter(c, "revise", "revising: "+review.Comment); err != nil {
			return Result{}, err
		}
		// The name may be the same each time round: the steps are revise, revise#2, revise#3.
		draft, err := agent.Generate[Article](c, p.models, "revise", reviseCall(in, out.Article, review.Comment))
		if err != nil {
			return Result{}, err
		}
		out.Article, out.Drafts = draft, out.Drafts+1
	}
}

// review shows the draft and waits for the verdict on it. ErrTimeout: there was none.
func (p *pipeline) review(c *pawl.Context, number int, a Article) (Review, error) {
	if err := c.SetAttributes(map[string]any{"draft": number}); err != nil {
		return Review{}, err
	}
	if err := enter(c, "review", fmt.Sprintf("draft %d waits for a review, for up to %d days", number, ReviewTime/(24*time.Hour))); err != nil {
		return Review{}, err
	}
	if err := c.Stream("drafts").Write(Draft{number, a}); err != nil {
		return Review{}, err
	}
	for {
		// As raw JSON: data that does not fit a type is an error of WaitFor, and a typing
		// mistake of the reviewer's is no reason to fail the run.
		data, err := pawl.WaitFor[json.RawMessage](c, "review", pawl.Timeout(ReviewTime))
		if err != nil {
			return Review{}, err
		}
		review, err := parseReview(data)
		if err == nil && (review.Draft == 0 || review.Draft == number) {
			return review, nil
		}
		text := fmt.Sprintf("a review of draft %d came while draft %d is under review: ignored", review.Draft, number)
		if err != nil {
			text = "a review was ignored: " + err.Error()
		}
		if err := c.Stream("progress").Write(Progress{"review", text}); err != nil {
			return Review{}, err
		}
	}
}

func (p *pipeline) publish(c *pawl.Context, out Result) (Result, error) {
	if err := enter(c, "publish", "publishing"); err != nil {
		return Result{}, err
	}
	// The body of a step may run twice: the process can die after the effect and before
	// the record of it. StepID is the same both times, so the outbox can tell.
	key, err := pawl.Step(c, "publish", func(ctx context.Context) (string, error) {
		key := pawl.InfoOf(ctx).StepID
		return key, p.outbox.Put(Message{Key: key, Kind: "article", Title: out.Article.Title, Text: out.Article.Body})
	})
	if err != nil {
		return Result{}, err
	}
	out.Status, out.Key = Published, key
	return out, enter(c, "done", "published as "+key)
}

func (p *pipeline) expire(c *pawl.Context, in Input, out Result) (Result, error) {
	if err := enter(c, "escalate", "nobody reviewed the draft in time: telling the editor"); err != nil {
		return Result{}, err
	}
	key, err := pawl.Step(c, "escalate", func(ctx context.Context) (string, error) {
		key := pawl.InfoOf(ctx).StepID
		return key, p.outbox.Put(Message{Key: key, Kind: "escalation", Title: "Nobody reviewed: " + out.Article.Title,
			Text: fmt.Sprintf("Draft %d about %s has waited for %v.", out.Drafts, in.Topic, ReviewTime)})
	})
	if err != nil {
		return Result{}, err
	}
	out.Status, out.Key = Expired, key
	return out, enter(c, "done", "expired")
}

// parseReview takes nothing for granted: "approved" must be there, and a misspelt field
// is an error rather than a rejection.
func parseReview(data []byte) (Review, error) {
	var v struct {
		Approved *bool  `json:"approved"`
		Comment  string `json:"comment"`
		Draft    int    `json:"draft"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return Review{}, fmt.Errorf("it is not of the form {\"approved\": true, \"comment\": \"…\"}: %w", err)
	}
	if v.Approved == nil {
		return Review{}, errors.New("it does not say whether the draft is approved")
	}
	return Review{Approved: *v.Approved, Comment: strings.TrimSpace(v.Comment), Draft: v.Draft}, nil
}

// enter says to whoever lists runs, or watches this one, what it does now.
func enter(c *pawl.Context, phase, text string) error {
	if err := c.SetAttributes(map[string]any{"phase": phase}); err != nil {
		return err
	}
	return c.Stream("progress").Write(Progress{phase, text})
}
