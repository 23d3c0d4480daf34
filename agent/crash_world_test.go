package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// This file is the agent that a crash test kills, its model, and the world in which its
// tools have their effects.

const (
	sagaID    = "saga"
	toolCalls = 30

	// So many points, or a few more, an undisturbed run comes to.
	pointsOfTools   = 60
	pointsOfAnswers = 100
)

// plan is which tools the model asks for in each turn, before its last.
var plan = []string{
	"note note note", "note", "note note note note", "note note", "note pay note", "note", "lookup note", "note note note note note", "note",
	"note lookup note pay", "note note", "note note",
}

type item struct {
	N int `json:"n"`
}

// effect has an effect in the world, under the step's idempotency key.
func effect(ctx context.Context, world string, in item) (string, error) {
	where := fmt.Sprintf("%s/effect?step=%s&n=%d", world, url.QueryEscape(pawl.InfoOf(ctx).StepID), in.N)
	req, err := http.NewRequestWithContext(ctx, "POST", where, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

func sagaWorker(ctx context.Context, w workerOf, store pawl.Store) error {
	lookup := pawl.Define("lookup", func(c *pawl.Context, in item) (string, error) {
		return pawl.Step(c, "fetch", func(ctx context.Context) (string, error) { return effect(ctx, w.URL, in) })
	})
	act := func(ctx context.Context, in item) (string, error) { return effect(ctx, w.URL, in) }
	a, err := NewAgent("saga", Config{Models: pricedAt(w.URL, w.Name), Stream: "answers", Tools: []Tool{
		Func("note", "", act), Func("pay", "", act).WithApproval(Approval{Approvers: []string{"ann"}}), Child(lookup, ""),
	}})
	if err != nil {
		return err
	}
	e := pawl.New(store, killable(&pawl.Options{}))
	if err := e.Register(a, lookup); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var parts sync.WaitGroup
	fails := make(chan error, 3)
	parts.Go(func() { fails <- e.Run(ctx) })
	parts.Go(func() { fails <- approve(ctx, e, w.URL) })
	if _, err := a.Start(ctx, e, Task{Prompt: "Begin."}, pawl.ID(sagaID)); err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveStream(e, w, r) })}
	parts.Go(func() {
		<-ctx.Done()
		fails <- server.Close()
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	parts.Wait()
	return errors.Join(<-fails, <-fails, <-fails)
}

// approve gives consent to each call that needs it.
func approve(ctx context.Context, e *pawl.Engine, world string) error {
	given := map[string]bool{}
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		list, err := approval.List(ctx, e, approval.Filter{Run: sagaID})
		if err != nil {
			continue // the run is about to start, or the process to end
		}
		for _, a := range list.Items {
			if given[a.ID] {
				continue
			}
			given[a.ID] = true
			if err := consent(ctx, e, a, world); err != nil {
				return err
			}
		}
	}
}

func consent(ctx context.Context, e *pawl.Engine, a approval.Approval, world string) error {
	come := func(when string) error { // here too the process can be killed
		resp, err := http.Get(world + "/approval?" + when)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	if err := come("before"); err != nil {
		return err
	}
	_, err := approval.Decide(ctx, e, pawl.Ref{ID: a.ID}, approval.Answer{Approved: true, By: "ann", Shown: a.Shown})
	if err != nil && !errors.Is(err, approval.ErrDecided) && !errors.Is(err, pawl.ErrEnded) { // the process before has done it
		return err
	}
	return come("after")
}

// world is where the agent's tools have their effects, and its model.
type world struct {
	points
	url   string
	model *llmtest.Mock

	mu        sync.Mutex
	recorded  map[string]bool // steps that must not come again
	effects   map[string]int  // idempotency key → number of the call
	questions map[int]string  // turn → hash of the request
	asked     int             // of the model
	done      int             // of tools
	found     findings
}

func newWorld(t *testing.T) *world {
	w := &world{recorded: map[string]bool{}, effects: map[string]int{}, questions: map[int]string{}}
	var err error
	if w.model, err = llmtest.NewMock(llmtest.Script(llmtest.Rule{Answer: w.answer}), llmtest.MockOptions{Prices: testPrices}); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/approval", func(_ http.ResponseWriter, r *http.Request) { w.pass(r.URL.RawQuery+" an approval", "") })
	mux.HandleFunc("/effect", w.effect)
	mux.HandleFunc("/", func(out http.ResponseWriter, r *http.Request) {
		w.pass("before an answer", "")
		w.model.ServeHTTP(&watched{ResponseWriter: out, before: func(piece int) {
			time.Sleep(2 * time.Millisecond)
			switch {
			case piece%10 != 5:
			case piece < 50:
				w.pass("in an answer", "")
			default: // only the last one is so long. Here is room for the kills that are left
				w.pass("near the end", "")
			}
		}}, r)
	})
	w.url = w.serve(t, mux)
	return w
}

// remember takes down which results were in the journals when the process was killed.
func (w *world) remember(steps []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, step := range steps {
		w.recorded[step] = true
	}
}

// again takes down a fault if a step comes that must not. Caller holds mu.
func (w *world) again(step string) {
	if w.recorded[step] {
		w.found.add("%s is made again, and its result was recorded", step)
	}
}

func (w *world) effect(out http.ResponseWriter, r *http.Request) {
	step := r.URL.Query().Get("step")
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	w.pass("before an effect", "")
	w.mu.Lock()
	w.again(step)
	if before, ok := w.effects[step]; ok && before != n {
		w.found.add("%s came for call %d, and for call %d", step, before, n)
	}
	w.effects[step] = n
	w.done++
	turn := 1
	for last := callsOf(turn); last < n; turn++ {
		last += callsOf(turn + 1)
	}
	w.recorded[sagaID+"/"+turnKey(turn)] = true // or the tool would not have been called
	w.mu.Unlock()
	w.pass("after an effect", "")
	fmt.Fprint(out, "effect of ", n)
}

func callsOf(turn int) int { return len(strings.Fields(plan[turn-1])) }

// answer is the model: what it says follows from the conversation alone.
func (w *world) answer(_ context.Context, r *llm.Request) (*llm.Response, error) {
	turn, number, results := 1, 1, []string{}
	for _, m := range r.Messages {
		switch m.Role {
		case llm.RoleAssistant:
			turn++
			number += len(m.ToolCalls)
		case llm.RoleTool:
			results = append(results, m.Content)
		}
	}
	w.mu.Lock()
	w.asked++
	w.again(sagaID + "/" + turnKey(turn))
	for step, n := range w.effects {
		if n < number {
			w.recorded[step] = true // or the model would not have been asked
		}
	}
	hash := hashOf(r)
	if before, ok := w.questions[turn]; ok && before != hash {
		w.found.add("turn %d asks something else than before", turn)
	}
	w.questions[turn] = hash
	w.mu.Unlock()
	res, words := &llm.Response{}, 40
	if turn > len(plan) {
		words = 400
		res.Text = strings.Join(results, ", ") + ". "
	} else {
		for _, tool := range strings.Fields(plan[turn-1]) {
			res.ToolCalls = append(res.ToolCalls, llm.ToolCall{ID: fmt.Sprint("call-", number), Name: tool, Arguments: fmt.Sprintf(`{"n":%d}`, number)})
			number++
		}
	}
	for i := range words {
		res.Text += fmt.Sprintf("word-%d-%d ", turn, i)
	}
	return res, nil
}

func (w *world) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("%d questions to the model, %d of them again; %d effects of tools, %d of them again", w.asked, w.asked-len(w.questions), w.done, w.done-len(w.effects))
}
