package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// slotsFlow comes each second and calls the test's server with its slot.
const slotsFlow = `{
  "id": %q,
  "trigger": {"type": "schedule", "cron": "* * * * * *", "overlap": %q, "catchUp": "all"},
  "steps": [{"id": "tell", "type": "service", "next": "end",
    "config": {"service": "http", "url": %q, "method": "POST", "body": {"flow": "{{workflowId}}", "slot": "{{trigger.slot}}"}}}]
}`

// Two servers on one PostgreSQL fire each slot of schedules exactly once, while one of them after the other is killed and started
// again. A slot has one run, and that run completes; its call is made under one key, though who was killed may have made it before.
func TestJ43_N20_CrashEachSlotIsFiredOnce(t *testing.T) {
	t.Parallel()
	flows, length, every := 12, 13*time.Second, 2*time.Second
	if os.Getenv("PAWL_CRASH") == "long" {
		flows, length, every = 16, 75*time.Second, 10*time.Second
	}
	told := &slotCalls{keys: map[string]map[string]int{}}
	outside := httptest.NewServer(told)
	defer outside.Close()
	p := newPair(t, "--http-allow", outside.Listener.Addr().String())
	for i := range flows {
		doc := fmt.Sprintf(slotsFlow, fmt.Sprintf("f%d", i), []string{"allow", "queue"}[i%2], outside.URL)
		if _, err := p.client().Deploy(t.Context(), []byte(doc), api.DeployOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	from := time.Now().Truncate(time.Second).Add(2 * time.Second)
	to := from.Add(length)
	kills := p.killUntil(to, every)
	slots := map[string]bool{}
	for i := range flows {
		for at := from; at.Before(to); at = at.Add(time.Second) {
			slots[fmt.Sprintf("f%d %s", i, at.UTC().Format(time.RFC3339))] = true
		}
	}
	fired := map[string][]pawl.RunInfo{}
	eventually(t, func() bool { // all of them have come, and what was begun has ended
		fired = p.fired(t)
		for slot := range slots {
			if runs := fired[slot]; len(runs) == 0 || !runs[0].State.Terminal() {
				return false
			}
		}
		return true
	}, shown(func() string { return missing(slots, fired) }))
	for _, runs := range fired {
		if runs[0].State == pawl.Failed {
			run, err := p.client().Run(t.Context(), runs[0].ID, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Fatalf("run %s has failed: %s", run.ID, run.Error.Message)
		}
	}
	for i := range flows { // else those of the next second are under way
		if _, err := p.client().DeactivateWorkflow(t.Context(), fmt.Sprintf("f%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	p.stop()
	tally(t, slots, fired, told, kills)
}

// tally counts what came of each slot.
func tally(t *testing.T, slots map[string]bool, fired map[string][]pawl.RunInfo, told *slotCalls, kills int) {
	t.Helper()
	doubled, repeated := 0, 0
	var late []time.Duration
	for slot, runs := range fired { // those before and behind the counted ones too
		if len(runs) != 1 {
			doubled++
			t.Errorf("slot %s has %d runs", slot, len(runs))
		}
		if !slots[slot] {
			continue
		}
		at, err := time.Parse(time.RFC3339, runs[0].Attrs["slot"])
		if err != nil {
			t.Fatal(err)
		}
		if late = append(late, runs[0].Created.Sub(at)); late[len(late)-1] < 0 {
			t.Errorf("slot %s was fired %v before its time", slot, -late[len(late)-1])
		}
		calls := told.of(slot)
		if runs[0].State != pawl.Completed || len(calls) != 1 {
			t.Errorf("slot %s: its run is %s, and has called under the keys %v", slot, runs[0].State, slices.Collect(maps.Keys(calls)))
		}
		for _, n := range calls {
			repeated += n - 1
		}
	}
	if missed := missing(slots, fired); missed != "" {
		t.Error(missed)
	}
	slices.Sort(late)
	t.Logf("%d slots, %d fired, %d doubled, %d kills, %d calls repeated under the same key; late by %v in the median, %v at most", len(slots), len(late), doubled, kills, repeated,
		late[len(late)/2].Round(time.Millisecond), late[len(late)-1].Round(time.Millisecond))
	if kills < 4 {
		t.Errorf("there were %d kills", kills)
	}
}

func missing(slots map[string]bool, fired map[string][]pawl.RunInfo) string {
	var out []string
	for slot := range slots {
		switch runs := fired[slot]; {
		case len(runs) == 0:
			out = append(out, slot+" was not fired")
		case !runs[0].State.Terminal():
			out = append(out, slot+" is "+string(runs[0].State))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// shown is a text that is made when it is needed.
type shown func() string

func (s shown) String() string { return s() }

// slotCalls is where the flows call, and counts by slot the keys under which they did.
type slotCalls struct {
	mu   sync.Mutex
	keys map[string]map[string]int
}

func (c *slotCalls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // whoever called was killed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys[string(body)] == nil {
		c.keys[string(body)] = map[string]int{}
	}
	c.keys[string(body)][r.Header.Get("Idempotency-Key")]++
	w.WriteHeader(http.StatusNoContent)
}

func (c *slotCalls) of(slot string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	flow, at, _ := strings.Cut(slot, " ")
	return c.keys[fmt.Sprintf(`{"flow":%q,"slot":%q}`, flow, at)]
}

// pair is two servers on one database.
type pair struct {
	t       *testing.T
	dir     string
	args    []string
	key     string
	listens [2]string
	servers [2]*serverProcess
}

type serverProcess struct {
	cmd    *exec.Cmd
	stderr lockedBuffer
	ended  chan struct{}
}

func newPair(t *testing.T, args ...string) *pair {
	t.Helper()
	p := &pair{t: t, dir: t.TempDir(), args: append(args, "--workflows", "flows", "--store", pgtest.URL(t), "--admin-key-file", "admin.key"), listens: [2]string{freeAddress(t), freeAddress(t)}}
	t.Cleanup(p.stop)
	for i := range p.servers { // the first makes the key
		p.start(i)
		p.ready(i)
	}
	key, err := os.ReadFile(filepath.Join(p.dir, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	p.key = strings.TrimSpace(string(key))
	return p
}

func (p *pair) start(i int) {
	p.t.Helper()
	s := &serverProcess{ended: make(chan struct{})}
	s.cmd = exec.Command(binary, append([]string{"serve", "--listen", p.listens[i]}, p.args...)...)
	s.cmd.Dir, s.cmd.Stderr = p.dir, &s.stderr
	s.cmd.Env = []string{"PAWL_SECRET=" + strings.Repeat("s", 32), "PATH=" + os.Getenv("PATH")}
	if err := s.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait() // it is killed
		close(s.ended)
	}()
	p.servers[i] = s
}

func (p *pair) ready(i int) {
	p.t.Helper()
	s := p.servers[i]
	c, err := api.NewClient("http://"+p.listens[i], nil)
	if err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, func() bool {
		select {
		case <-s.ended:
			p.t.Fatalf("a server has ended: %s", &s.stderr)
		default:
		}
		_, err := c.Ready(p.t.Context())
		return err == nil
	}, &s.stderr)
}

func (p *pair) kill(i int) {
	s := p.servers[i]
	if s == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
	<-s.ended
}

func (p *pair) stop() {
	for i := range p.servers {
		p.kill(i)
	}
}

// killUntil kills one server after the other and starts it again, until a time, and returns how often: in the moment when slots
// are fired.
func (p *pair) killUntil(end time.Time, every time.Duration) (kills int) {
	p.t.Helper()
	for i := 0; time.Until(end) > every; i = 1 - i {
		at := time.Now().Add(every - time.Second/2).Truncate(time.Second).Add(time.Second)
		time.Sleep(time.Until(at) + rand.N(60*time.Millisecond))
		p.kill(i)
		kills++
		p.start(i)
		p.ready(i)
	}
	time.Sleep(time.Until(end))
	return kills
}

// client asks the second server, which the test never finds killed: kills end before.
func (p *pair) client() *api.Client {
	p.t.Helper()
	c, err := api.NewClient("http://"+p.listens[1], &api.ClientOptions{Key: p.key})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// fired are all runs by flow and slot.
func (p *pair) fired(t *testing.T) map[string][]pawl.RunInfo {
	t.Helper()
	out := map[string][]pawl.RunInfo{}
	for q := (api.RunQuery{Limit: 500}); ; {
		page, err := p.client().Runs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range page.Items {
			slot := run.Workflow + " " + run.Attrs["slot"]
			out[slot] = append(out[slot], run)
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return out
		}
	}
}
