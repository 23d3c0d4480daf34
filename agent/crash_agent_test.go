package agent

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
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
			equal(t, "what the agent comes to", s.tell(), want)
			s.check().none(t)
		})
	}
}

// TestCrashNoticesAModelAskedAgain: with a store that acknowledges before it commits, an
// answer from which the agent has gone on can be lost, and the model is asked again.
func TestCrashNoticesAModelAskedAgain(t *testing.T) {
	for n := range uint64(10) {
		s := newSaga(t, filepath.Join(t.TempDir(), "pawl.db"), 6, 1)
		s.random, s.mutant = rand.New(rand.NewPCG(crashSeed(t), n)), "ack before commit"
		s.tell()
		if found := s.check(); len(found) > 0 {
			t.Logf("noticed: %s", found[0])
			return
		}
	}
	t.Error("a store that acknowledges before it commits went unnoticed")
}

// saga is a run of the agent whose process is killed.
type saga struct {
	t      *testing.T
	store  string
	kills  int
	visits int
	mutant string
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
		if n/3%2 == 0 { // three of a kind, or the agent would get too far meanwhile
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
	p := spawn(s.t, workerOf{Work: "saga", Store: s.store, Name: "agent", URL: s.world.url, Mutant: s.mutant})
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
func (s *saga) check() findings {
	found := append(s.world.found, s.reader.found...)
	recorded := s.recorded()
	if all := slices.Compact(slices.Sorted(slices.Values(recorded))); len(all) != len(recorded) {
		found.add("%d steps of %d were recorded twice", len(recorded)-len(all), len(recorded))
	}
	numbers := map[int]bool{}
	for step, number := range s.world.effects {
		numbers[number] = true
		if !slices.Contains(recorded, step) {
			found.add("%s has had an effect and is not in the journal", step)
		}
	}
	found.same("idempotency keys of effects, and calls", fmt.Sprint(len(s.world.effects), len(numbers)), fmt.Sprint(toolCalls, toolCalls))
	found.same("questions to the model", len(s.world.questions), len(plan)+1)
	if s.reader.visited < s.visits {
		found.add("the reader came back %d times, less than %d", s.reader.visited, s.visits)
	}
	var r Result
	look(s.t, s.store, func(e *pawl.Engine) {
		var err error
		if r, err = pawl.Attach[Result](e, sagaID).Result(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	})
	turns := 0
	for _, m := range r.Messages {
		if m.Role == llm.RoleAssistant {
			turns++
			found.same("of step "+turnKey(turns)+" the reader has read", s.reader.texts[turnKey(turns)], m.Content)
		}
	}
	found.same("steps of which the reader has read", len(s.reader.texts), turns)
	return found
}

// turnKey is the key of the step of a turn, counted from 1.
func turnKey(turn int) string {
	if turn == 1 {
		return "model"
	}
	return fmt.Sprintf("model#%d", turn)
}
