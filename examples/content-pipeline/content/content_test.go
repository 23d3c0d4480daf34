package content_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/content-pipeline/content"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/pawltest"
)

var input = content.Input{Topic: "rope", Audience: "sailors"}

func pipeline(t *testing.T) (*pawl.Workflow[content.Input, content.Result], content.Outbox) {
	outbox := content.Outbox(filepath.Join(t.TempDir(), "outbox.jsonl"))
	return content.New(demo.Scripted(demo.Model()), outbox), outbox
}

func messages(t *testing.T, o content.Outbox) []content.Message {
	t.Helper()
	all, err := o.Messages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestHowAReviewEnds(t *testing.T) {
	change := content.Review{Comment: "shorter"}
	yes, no := content.Review{Approved: true}, content.Review{}
	for _, c := range []struct {
		name    string
		reviews []any
		status  string
		steps   string
	}{
		{"approved at once", []any{yes}, content.Published, "draft publish"},
		{"approved with a comment", []any{content.Review{Approved: true, Comment: "nice"}}, content.Published, "draft publish"},
		{"rejected at once", []any{no}, content.Rejected, "draft"},
		{"revised, then approved", []any{change, yes}, content.Published, "draft revise publish"},
		{"revised, then rejected", []any{change, no}, content.Rejected, "draft revise"},
		{"approved at the last revision", []any{change, change, change, yes}, content.Published, "draft revise revise#2 revise#3 publish"},
		{"never good enough", []any{change, change, change, change}, content.Rejected, "draft revise revise#2 revise#3"},
		{"a word for a yes", []any{map[string]any{"approved": "yes"}, yes}, content.Published, "draft publish"},
		{"a misspelt field", []any{map[string]any{"aproved": false}, yes}, content.Published, "draft publish"},
		{"nothing said", []any{nil, yes}, content.Published, "draft publish"},
		{"the same review twice", []any{
			content.Review{Comment: "shorter", Draft: 1}, content.Review{Comment: "shorter", Draft: 1}, content.Review{Approved: true, Draft: 2},
		}, content.Published, "draft revise publish"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, outbox := pipeline(t)
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				run := pawltest.Start(h, w, input)
				for _, r := range c.reviews {
					h.AwaitEvent(run.ID(), "review")
					h.Signal(run.ID(), "review", r)
				}
				result := pawltest.Result(h, run)
				if result.Status != c.status {
					t.Errorf("the run ended as %q, want %q", result.Status, c.status)
				}
				if got := strings.Join(h.Keys(run.ID()), " "); got != c.steps {
					t.Errorf("the steps are %q, want %q", got, c.steps)
				}
				if want := 1 + strings.Count(c.steps, "revise"); result.Drafts != want {
					t.Errorf("%d drafts, want %d", result.Drafts, want)
				}
				sent := messages(t, outbox)
				if published := len(sent) == 1 && sent[0].Kind == "article" && sent[0].Key == run.ID()+"/publish"; published != (c.status == content.Published) || len(sent) > 1 {
					t.Errorf("%s, and the outbox holds %+v", c.status, sent)
				}
			}, w)
		})
	}
}

// In virtual time: the run waits for a week, in which its worker dies twice.
func TestNobodyReviewsForAWeek(t *testing.T) {
	w, outbox := pipeline(t)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		began := time.Now()
		run := pawltest.Start(h, w, input)
		h.AwaitEvent(run.ID(), "review")
		for range 2 {
			time.Sleep(3 * 24 * time.Hour)
			if info := h.Info(run.ID()); info.State != pawl.Waiting || info.Attrs["phase"] != "review" || info.Attrs["draft"] != "1" {
				t.Errorf("after %v the run is %v, %v", time.Since(began), info.State, info.Attrs)
			}
			h.Crash()
		}
		run = pawl.Attach[content.Result](h.Engine(), run.ID())
		result := pawltest.Result(h, run)
		took := time.Since(began)
		if result.Status != content.Expired || took < content.ReviewTime || took > content.ReviewTime+time.Minute {
			t.Errorf("the run ended as %q after %v", result.Status, took)
		}
		sent := messages(t, outbox)
		if len(sent) != 1 || sent[0].Kind != "escalation" || sent[0].Key != run.ID()+"/escalate" {
			t.Errorf("the outbox holds %+v", sent)
		}
	}, w)
}

func TestAReviewAtTheLastMinuteCounts(t *testing.T) {
	w, _ := pipeline(t)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, input)
		h.AwaitEvent(run.ID(), "review")
		time.Sleep(content.ReviewTime - time.Minute)
		h.Signal(run.ID(), "review", content.Review{Approved: true})
		if result := pawltest.Result(h, run); result.Status != content.Published {
			t.Errorf("the run ended as %q", result.Status)
		}
	}, w)
}

// One outbox for all crashes: what is published twice would be there twice under one key,
// or make the outbox unreadable.
func TestEveryCrashIsSurvived(t *testing.T) {
	review := func(h *pawltest.Harness, runID string) {
		h.AwaitEvent(runID, "review")
		h.Signal(runID, "review", content.Review{Comment: "shorter", Draft: 1})
		h.AwaitEntry(runID, pawl.KindStep, "revise")
		h.AwaitEvent(runID, "review")
		h.Signal(runID, "review", content.Review{Approved: true, Draft: 2})
	}
	w, outbox := pipeline(t)
	pawltest.CrashEverywhere(t, w, input, pawltest.WithDriver(review))
	onlyOnce(t, outbox, "article")
}

func TestEveryCrashWhileNobodyReviewsIsSurvived(t *testing.T) {
	w, outbox := pipeline(t)
	pawltest.CrashEverywhere(t, w, input)
	onlyOnce(t, outbox, "escalation")
}

func onlyOnce(t *testing.T, o content.Outbox, kind string) {
	t.Helper()
	sent := messages(t, o)
	seen := map[string]bool{}
	for _, m := range sent {
		if m.Kind != kind || seen[m.Key] {
			t.Errorf("the outbox holds a second or a wrong message: %+v", m)
		}
		seen[m.Key] = true
	}
	if len(sent) == 0 {
		t.Error("nothing was put into the outbox")
	}
}

// The process dies after the effect and before its record: the body runs again, with the
// same key.
func TestPublishingTwiceIsPublishingOnce(t *testing.T) {
	w, outbox := pipeline(t)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		var keys []string
		h.MockStep("publish", func(ctx context.Context) (any, error) {
			key := pawl.InfoOf(ctx).StepID
			keys = append(keys, key)
			if err := outbox.Put(content.Message{Key: key, Kind: "article"}); err != nil {
				return nil, err
			}
			if len(keys) == 1 {
				return nil, fmt.Errorf("the connection broke after the message was sent")
			}
			return key, nil
		})
		run := pawltest.Start(h, w, input)
		h.AwaitEvent(run.ID(), "review")
		h.Signal(run.ID(), "review", content.Review{Approved: true})
		pawltest.Result(h, run)
		if len(keys) != 2 || keys[0] != keys[1] {
			t.Errorf("the attempts had the keys %q", keys)
		}
		if sent := messages(t, outbox); len(sent) != 1 {
			t.Errorf("the outbox holds %+v", sent)
		}
	}, w)
}

func TestInputIsChecked(t *testing.T) {
	long := strings.Repeat("x", 201)
	for _, in := range []content.Input{{}, {Topic: "rope"}, {Audience: "sailors"}, {Topic: " ", Audience: "sailors"}, {Topic: long, Audience: "sailors"}, {Topic: "rope", Audience: long}} {
		if in.Validate() == nil {
			t.Errorf("%.20q for %.20q is accepted", in.Topic, in.Audience)
		}
	}
	if err := input.Validate(); err != nil {
		t.Error(err)
	}
}

func TestWorkflowsCanBeRegistered(t *testing.T) {
	t.Chdir(t.TempDir()) // the default outbox is in the current folder
	model := demo.Model()
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, err := h.Engine().StartRun(h.Context(), "content-pipeline", []byte(`{"topic": "rope", "audience": "sailors"}`))
		if err != nil {
			t.Fatal(err)
		}
		h.AwaitEvent(run.ID, "review")
		h.Signal(run.ID, "review", map[string]any{"approved": true, "comment": "fine"})
		if info := h.AwaitState(run.ID, pawl.Completed, pawl.Failed); info.State != pawl.Completed {
			t.Errorf("the run is %v: %s", info.State, info.Reason)
		}
		if sent := messages(t, content.DefaultOutbox); !slices.ContainsFunc(sent, func(m content.Message) bool { return m.Key == run.ID+"/publish" }) {
			t.Errorf("the outbox holds %+v", sent)
		}
	}, content.New(demo.Scripted(model), ""))
}
