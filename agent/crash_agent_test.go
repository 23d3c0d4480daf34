package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// TestCrashAgentMakesNoCallTwice: the process of an agent with 30 tool calls is killed again
// and again, in the middle of tools, of streamed answers and of commits. No call of a model or
// a tool is made again whose result was in the journal when the process was killed; the agent
// comes to what it comes to when nothing happens; and one who reads its answers as they come,
// and goes away and comes back again and again, sees every token once.
func TestCrashAgentMakesNoCallTwice(t *testing.T) {
	kills, visits := 6, 20
	if long() {
		kills, visits = 50, 100
	}
	want := newSaga(t, filepath.Join(t.TempDir(), "quiet.db"), 0, 1).tell()
	for name, store := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "pawl.db") },
		"postgres": func(t *testing.T) string { return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSaga(t, store(t), kills, visits)
			got := s.tell()
			if got != want {
				t.Errorf("the agent came to\n%s\nwithout kills it comes to\n%s", got, want)
			}
			s.check()
		})
	}
}

// saga is a run of the agent whose process is killed.
type saga struct {
	t      *testing.T
	store  string
	kills  int
	visits int
	random *rand.Rand
	world  *world
	reader *reader
	where  map[string]int // what was under way when the process was killed
}

func newSaga(t *testing.T, store string, kills, visits int) *saga {
	seed := crashSeed(t)
	return &saga{
		t: t, store: store, kills: kills, visits: visits, random: rand.New(rand.NewPCG(seed, 3)), world: newWorld(t),
		reader: newReader(rand.New(rand.NewPCG(seed, 4))), where: map[string]int{},
	}
}

// tell lets the agent run, and returns its result.
func (s *saga) tell() string {
	s.t.Helper()
	began := time.Now()
	p := s.begin()
	go s.reader.read(s.t.Context())
	for n := range s.kills {
		of, gap := "effect, approval", 1+pointsOfTools/s.kills
		if n%2 == 0 {
			of, gap = "answer", 1+pointsOfAnswers/s.kills
		}
		counts := func(what string) bool {
			what = what[strings.LastIndex(what, " ")+1:]
			return what == "end" || strings.Contains(of, what)
		}
		at := s.world.await(1+s.random.IntN(gap), counts, s.reader.done)
		if at == nil {
			s.t.Errorf("the agent was done after %d kills of %d", n, s.kills)
			break
		}
		if s.random.IntN(3) == 0 { // a little later, when what was under way is being recorded
			at.letGo()
		}
		time.Sleep(time.Duration(s.random.IntN(40_000)) * time.Microsecond)
		p.kill()
		s.where[at.what]++
		at.letGo()
		s.world.remember(s.recorded())
		p = s.begin()
	}
	select {
	case <-s.reader.done:
	case <-time.After(3 * time.Minute):
		s.t.Fatal("the agent has not ended 3 minutes after the last kill")
	}
	p.end()
	var result string
	look(s.t, s.store, func(e *pawl.Engine) {
		r, err := pawl.Attach[json.RawMessage](e, sagaID).Result(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		result = string(r)
	})
	s.t.Logf("%.1f s; killed %v; %s; %s", time.Since(began).Seconds(), s.where, s.world, s.reader)
	return result
}

func (s *saga) begin() *process {
	p := spawn(s.t, workerOf{Work: "saga", Store: s.store, Name: "agent", URL: s.world.url})
	s.reader.at.Store(&p.said)
	return p
}

// recorded are the steps whose results are in the journals.
func (s *saga) recorded() (steps []string) {
	look(s.t, s.store, func(e *pawl.Engine) {
		runs, err := e.List(s.t.Context(), pawl.Filter{Limit: 1000})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, run := range runs {
			for _, key := range keys(s.t, e, run.ID, pawl.KindStep) {
				steps = append(steps, run.ID+"/"+key)
			}
		}
	})
	return steps
}

// check holds what the world has seen and what the reader has read against the journal.
func (s *saga) check() {
	s.t.Helper()
	recorded := s.recorded()
	if all := slices.Compact(slices.Sorted(slices.Values(recorded))); len(all) != len(recorded) {
		s.t.Errorf("steps were recorded twice: %d of %d", len(recorded)-len(all), len(recorded))
	}
	equal(s.t, "effects", len(s.world.effects), toolCalls)
	numbers := map[int]bool{}
	for step, number := range s.world.effects {
		numbers[number] = true
		if !slices.Contains(recorded, step) {
			s.t.Errorf("%s has had an effect and is not in the journal", step)
		}
	}
	equal(s.t, "effects with numbers of their own", len(numbers), toolCalls)
	equal(s.t, "questions to the model", len(s.world.questions), len(plan)+1)
	for _, fault := range append(s.world.faults, s.reader.faults...) {
		s.t.Error(fault)
	}
	if s.reader.visited < s.visits {
		s.t.Errorf("the reader came back %d times, less than %d", s.reader.visited, s.visits)
	}
	var r Result
	look(s.t, s.store, func(e *pawl.Engine) {
		var err error
		if r, err = pawl.Attach[Result](e, sagaID).Result(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	})
	said := map[string]string{}
	for _, m := range r.Messages {
		if m.Role == "assistant" {
			said[turnKey(len(said)+1)] = m.Content
		}
	}
	if !maps.Equal(said, s.reader.texts) {
		for step := range said {
			if got := s.reader.texts[step]; got != said[step] {
				s.t.Errorf("of step %s the reader has read\n%q\nwant\n%q", step, got, said[step])
			}
		}
		s.t.Errorf("the reader has read of %d steps, want %d", len(s.reader.texts), len(said))
	}
}

// turnKey is the key of the step of a turn, counted from 1.
func turnKey(turn int) string {
	if turn == 1 {
		return "model"
	}
	return fmt.Sprintf("model#%d", turn)
}
