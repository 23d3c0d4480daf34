package summary_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/summarizer/summary"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/pawltest"
)

type (
	input   = machine.Input[summary.Summary]
	summing = machine.Machine[summary.Summary]
)

func machineOf(s *summary.Service) *summing { return s.Definitions()[0].(*summing) }

func TestTheStatesOfASummary(t *testing.T) {
	model := summary.Scripted()
	s := define(t, model)
	m := machineOf(s)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		states := func() (visited []string) {
			t.Helper()
			run := pawltest.Start(h, m.Workflow, input{State: summary.Summary{Text: "rope"}})
			pawltest.Result(h, run)
			for _, e := range h.Journal(run.ID()) {
				if e.Kind == pawl.KindStep && !strings.Contains(e.Key, "/") {
					visited = append(visited, e.Key)
				}
			}
			return visited
		}
		all := []string{"start", "checkCache", "callModel", "cacheAndStore", "store", "finish"}
		hit := []string{"start", "checkCache", "store", "finish"}
		for i, c := range []struct {
			after time.Duration
			want  []string
		}{{0, all}, {0, hit}, {59 * time.Second, hit}, {2 * time.Second, all}} {
			time.Sleep(c.after) // in virtual time
			if got := states(); !slices.Equal(got, c.want) {
				t.Errorf("run %d visited %q, want %q", i, got, c.want)
			}
		}
		if n := len(model.Calls()); n != 2 {
			t.Errorf("the model was asked %d times, want 2", n)
		}
	}, s.Definitions()...)
}

func TestAnEmptyTextFails(t *testing.T) {
	s := define(t, summary.Scripted())
	m := machineOf(s)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		_, err := pawltest.ResultError(h, pawltest.Start(h, m.Workflow, input{State: summary.Summary{Text: " \n"}}))
		if err == nil || !strings.Contains(err.Error(), "text is empty") {
			t.Errorf("it ended with %v", err)
		}
	}, m)
}

// Killed at each of its commits, a run comes to the same summary.
func TestASummarySurvivesCrashes(t *testing.T) {
	m := machineOf(define(t, summary.Scripted()))
	pawltest.CrashEverywhere(t, m.Workflow, input{State: summary.Summary{Text: "rope"}}, pawltest.WithEqual(func(_ string, a, b json.RawMessage) bool {
		return bytes.Equal(timeless(a), timeless(b))
	}))
}

// timeless is a summary without the time of its run.
func timeless(data json.RawMessage) []byte {
	var v summary.Summary
	if err := json.Unmarshal(data, &v); err != nil {
		return data
	}
	v.At = time.Time{}
	b, _ := json.Marshal(v)
	return b
}

// The digest of a day has what was stored since the last one, each summary in one digest only,
// and a day whose digest fails leaves its summaries to the next.
func TestEachSummaryIsInOneDigest(t *testing.T) {
	var down atomic.Bool // a run reads it while the test writes
	model := llmtest.Script(
		llmtest.Rule{When: func(r *llm.Request) bool { return strings.Contains(r.System, "digest") }, Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			if down.Load() {
				return nil, &llm.Error{Kind: llm.Auth, Message: "the key has expired"}
			}
			return &llm.Response{Text: fmt.Sprint(strings.Count(r.Messages[0].Content, "- "), " summaries")}, nil
		}},
		llmtest.Rule{Text: "short"},
	)
	s := define(t, model)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		ctx, e := h.Context(), h.Engine()
		for range 3 { // as many programs start
			if _, err := s.StartDaily(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
		summarise := func(from, to int) {
			t.Helper()
			for i := from; i < to; i++ {
				pawltest.Result(h, pawltest.Start(h, machineOf(s).Workflow, input{State: summary.Summary{Text: fmt.Sprint("text ", i)}}, pawl.ID(fmt.Sprint("s", i))))
			}
		}
		untilNine := func() { // and a minute more
			now := time.Now().UTC()
			nine := time.Date(now.Year(), now.Month(), now.Day(), 9, 1, 0, 0, time.UTC)
			if !nine.After(now) {
				nine = nine.AddDate(0, 0, 1)
			}
			time.Sleep(nine.Sub(now)) // in virtual time
		}
		digests := func() (texts []string, ids map[string]int) {
			t.Helper()
			ids = map[string]int{}
			records, err := e.Records(ctx, "summarizer.digests", "", "", 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				var d summary.Digest
				if err := json.Unmarshal(r.Data, &d); err != nil {
					t.Fatal(err)
				}
				texts = append(texts, d.Digest)
				for _, id := range d.Summaries {
					ids[id]++
				}
				if at := d.At.UTC(); at.Hour() != 9 || at.Minute() != 0 {
					t.Errorf("a digest was made for %v, want nine o'clock", at)
				}
			}
			return texts, ids
		}
		summarise(0, 3)
		untilNine()
		untilNine() // nothing new: no digest, and nobody is asked
		down.Store(true)
		summarise(3, 5)
		untilNine()
		if texts, _ := digests(); !slices.Equal(texts, []string{"3 summaries"}) {
			t.Errorf("the digests are %q", texts)
		}
		down.Store(false)
		summarise(5, 60)
		untilNine()
		texts, ids := digests()
		slices.Sort(texts)
		if !slices.Equal(texts, []string{"3 summaries", "50 summaries", "7 summaries"}) || len(ids) != 60 {
			t.Errorf("the digests are %q, of %d summaries", texts, len(ids))
		}
		for id, n := range ids {
			if n != 1 {
				t.Errorf("summary %s is in %d digests", id, n)
			}
		}
		live, err := e.List(ctx, pawl.Filter{Workflow: summary.DailyName, States: []pawl.State{pawl.Waiting}})
		if err != nil || len(live) != 1 {
			t.Errorf("%d daily runs wait, %v; want 1", len(live), err)
		}
	}, s.Definitions()...)
}

// Killed while it makes a digest, the daily run makes it, and once.
func TestADigestSurvivesCrashes(t *testing.T) {
	for _, at := range []string{"when", "collect", "digest", "file"} {
		t.Run(at, func(t *testing.T) {
			s := define(t, summary.Scripted())
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				if _, err := s.StartDaily(h.Context(), h.Engine()); err != nil {
					t.Fatal(err)
				}
				pawltest.Result(h, pawltest.Start(h, machineOf(s).Workflow, input{State: summary.Summary{Text: "rope"}}, pawl.ID("rope")))
				h.AwaitEntry(summary.DailyName, pawl.KindStep, at)
				h.Crash()
				time.Sleep(48 * time.Hour) // in virtual time
				records, err := h.Engine().Records(h.Context(), "summarizer.digests", "", "", 100)
				if err != nil || len(records) != 1 || !strings.Contains(string(records[0].Data), `"summaries":["rope"]`) {
					t.Errorf("the digests are %+v, %v", records, err)
				}
			}, s.Definitions()...)
		})
	}
}

// What a worker wrote before it died, and could not record, is not written a second time: a
// summary that a digest has already taken is no news again, and a digest is filed once.
func TestBodiesThatRunTwiceFileOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took atomic.Int64
		s := define(t, summary.Scripted())
		opt := pawl.Options{Intercept: func(ctx context.Context, body func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
			step, e := pawl.InfoOf(ctx).Step, pawl.EngineOf(ctx)
			if step == "store" || step == "file" {
				if _, err := body(ctx); err != nil {
					return nil, err
				}
			}
			if step == "store" && took.Load() == 0 { // as a digest would
				notes, err := e.Records(ctx, "summarizer.notes", "", "", 10)
				if err != nil {
					return nil, err
				}
				for _, note := range notes {
					if _, err := e.Write(ctx, pawl.Put{Space: "summarizer.notes", Key: note.Key, If: note.Version}); err != nil {
						return nil, err
					}
				}
				took.Store(int64(len(notes)))
			}
			return body(ctx)
		}}
		h := pawltest.NewWith(t, opt, s.Definitions()...)
		for _, id := range []string{"taken", "new"} {
			pawltest.Result(h, pawltest.Start(h, machineOf(s).Workflow, input{State: summary.Summary{Text: id}}, pawl.ID(id)))
		}
		if _, err := s.StartDaily(h.Context(), h.Engine()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(48 * time.Hour) // in virtual time
		for space, want := range map[string]int{"summarizer.summaries": 2, "summarizer.digests": 1, "summarizer.notes": 0} {
			records, err := h.Engine().Records(h.Context(), space, "", "", 100)
			if err != nil || len(records) != want {
				t.Errorf("%s has %d records, %v; want %d", space, len(records), err, want)
			}
			if space == "summarizer.digests" && len(records) == 1 && !strings.Contains(string(records[0].Data), `"summaries":["new"]`) {
				t.Errorf("the digest is %s", records[0].Data)
			}
		}
		live, err := h.Engine().List(h.Context(), pawl.Filter{Workflow: summary.DailyName, States: []pawl.State{pawl.Waiting}})
		if err != nil || len(live) != 1 || took.Load() != 1 {
			t.Fatalf("%d daily runs wait, %v, and %d notes were taken; want one each", len(live), err, took.Load())
		}
		// A filing that is not the first is no failure: the next day does not hear of one.
		for _, e := range h.Journal(live[0].ID) {
			if strings.Contains(string(e.Data), "failed") {
				t.Errorf("the day after knows of a failure: %s", e.Data)
			}
		}
		for _, e := range h.Journal(summary.DailyName) {
			if e.Failed || e.Kind == pawl.KindAttempt {
				t.Errorf("%s failed: %s", e.Key, e.Data)
			}
		}
	})
}
