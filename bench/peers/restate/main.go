// Command restate measures Restate's server with its Go SDK under pawl's load: handlers of ten restate.Run steps.
//
// It starts the server itself, with the server's defaults, and prints one line of JSON (load.Report).
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pawlrun/pawl/bench/peers/load"
	restate "github.com/restatedev/sdk-go"
	"github.com/restatedev/sdk-go/ingress"
	"github.com/restatedev/sdk-go/server"
)

var (
	program  = flag.String("server", "", "path of restate-server")
	runs     = flag.Int("runs", 5000, "runs of ten steps")
	inFlight = flag.Int("inflight", 1000, "runs in flight")
	alone    = flag.Int("alone", 500, "runs of ten steps, one in flight")
	events   = flag.Int("events", 200, "runs that wait for an event")
	workflow = flag.Bool("workflow", false, "workflows, each under a key of its own, instead of calls of a service")
)

// Ten is the workload: a handler of ten steps, each journaled before the next begins.
type Ten struct{}

// Run is the handler.
func (Ten) Run(ctx restate.Context, n int) (int, error) { return tenSteps(ctx, n) }

// TenFlow is the same as a workflow.
type TenFlow struct{}

// Run is the handler.
func (TenFlow) Run(ctx restate.WorkflowContext, n int) (int, error) { return tenSteps(ctx, n) }

func tenSteps(ctx restate.Context, n int) (int, error) {
	for range load.Steps {
		a, err := restate.Run(ctx, func(restate.RunContext) (load.Answer, error) {
			return load.Answer{N: n + 1, Text: load.HundredBytes}, nil
		}, restate.WithName("step"))
		if err != nil {
			return 0, err
		}
		n = a.N
	}
	return n, nil
}

// Wait is the run that an event completes.
type Wait struct{ ids chan string }

// Run is the handler.
func (w Wait) Run(ctx restate.Context, n int) (int, error) {
	a := restate.Awakeable[int](ctx)
	select {
	case w.ids <- a.Id():
	default: // a replay
	}
	v, err := a.Result()
	return n + v, err
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "restate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	ports, err := load.FreePorts(4)
	if err != nil {
		return err
	}
	fabric, admin, public, handlers := strconv.Itoa(ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1]), fmt.Sprintf("http://127.0.0.1:%d", ports[2]), fmt.Sprintf("127.0.0.1:%d", ports[3])
	s, err := load.NewDir("restate")
	if err != nil {
		return err
	}
	defer s.Stop()
	env := []string{
		"RESTATE_BASE_DIR=" + filepath.Join(s.Dir, "data"),
		"RESTATE_BIND_IP=127.0.0.1",
		"RESTATE_ADVERTISED_HOST=127.0.0.1",
		"RESTATE_BIND_PORT=" + fabric,
		"RESTATE_ADMIN__BIND_PORT=" + strconv.Itoa(ports[1]),
		"RESTATE_INGRESS__BIND_PORT=" + strconv.Itoa(ports[2]),
		"RESTATE_DISABLE_TELEMETRY=true",
	}
	var r load.Report
	if r.Version, r.Durability, err = settings(env); err != nil {
		return err
	}
	if err := s.Start(ctx, env, *program); err != nil {
		return err
	}
	wait := Wait{ids: make(chan string, 1)}
	endpoint := server.NewRestate().WithLogger(slog.DiscardHandler, true).Bind(restate.Reflect(Ten{})).Bind(restate.Reflect(TenFlow{})).Bind(restate.Reflect(wait))
	ended := make(chan error, 1)
	go func() { ended <- endpoint.Start(ctx, handlers) }()
	if err := s.Ready(func() error { return ok(http.Get(admin + "/health")) }); err != nil {
		return err
	}
	if err := s.Ready(func() error { return ok(http.Get(public + "/restate/health")) }); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"uri": "http://" + handlers})
	if err != nil {
		return err
	}
	if err := s.Ready(func() error {
		return ok(http.Post(admin+"/deployments", "application/json", bytes.NewReader(body)))
	}); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return fmt.Errorf("serve the handlers on %s: %w", handlers, err)
	default:
	}
	// As many connections as runs in flight, kept: the default transport keeps two.
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *inFlight}}
	c := ingress.NewClient(public, ingress.WithHttpClient(hc))
	var keys atomic.Int64
	ten := func(i int) (int, error) {
		if *workflow {
			return ingress.Workflow[int, int](c, "TenFlow", strconv.FormatInt(keys.Add(1), 10), "Run").Request(ctx, i)
		}
		return ingress.Service[int, int](c, "Ten", "Run").Request(ctx, i)
	}
	if err := new(load.Report).Ten(100, 200, ten); err != nil { // to warm it up
		return err
	}
	if err := r.Ten(*inFlight, *runs, ten); err != nil {
		return err
	}
	if *alone > 0 {
		if err := r.Alone(*alone, ten); err != nil {
			return err
		}
	}
	if *events > 0 {
		if err := r.Event(*events, func(i int) (time.Duration, error) { return event(ctx, hc, c, public, wait, i) }); err != nil {
			return err
		}
	}
	return r.Print()
}

func event(ctx context.Context, hc *http.Client, c *ingress.Client, public string, wait Wait, n int) (time.Duration, error) {
	type answer struct {
		n   int
		err error
	}
	done := make(chan answer, 1)
	go func() {
		out, err := ingress.Service[int, int](c, "Wait", "Run").Request(ctx, n)
		done <- answer{out, err}
	}()
	var id string
	select {
	case id = <-wait.ids:
	case a := <-done:
		return 0, errors.Join(errors.New("the run ended before its event"), a.err)
	}
	time.Sleep(20 * time.Millisecond) // for the server to have journaled that the run waits; not measured
	began := time.Now()
	if err := ok(hc.Post(public+"/restate/awakeables/"+id+"/resolve", "application/json", strings.NewReader("1"))); err != nil {
		return 0, err
	}
	a := <-done
	if a.err == nil && a.n != n+1 {
		a.err = fmt.Errorf("the run returned %d", a.n)
	}
	return time.Since(began), a.err
}

// settings asks the server's program what it is and which settings it will run with.
func settings(env []string) (version, durability string, err error) {
	out, err := exec.Command(*program, "--version").Output()
	if err != nil {
		return "", "", fmt.Errorf("%s --version: %w", *program, err)
	}
	version = strings.TrimSpace(string(out))
	cmd := exec.Command(*program, "--dump-config")
	cmd.Env = append(os.Environ(), env...)
	if out, err = cmd.Output(); err != nil {
		return "", "", fmt.Errorf("%s --dump-config: %w", *program, err)
	}
	section := ""
	var found []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
		}
		if strings.HasPrefix(line, "rocksdb-disable-wal-fsync") && section == "log-server" || strings.HasPrefix(line, "default-provider") && section == "bifrost" || strings.HasPrefix(line, "default-replication") {
			found = append(found, strings.TrimPrefix(section+": ", ": ")+line)
		}
	}
	return version, strings.Join(found, "; "), nil
}

func ok(r *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode/100 != 2 {
		err = fmt.Errorf("%s answered %s: %.300s", r.Request.URL, r.Status, body)
	}
	return err
}
