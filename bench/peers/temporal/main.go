// Command temporal measures Temporal's server on SQLite with its Go SDK under pawl's load: workflows of ten activities.
//
// It starts the server itself, with the configuration that the server's module brings for SQLite in a file, and prints one
// line of JSON (load.Report).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pawlrun/pawl/bench/peers/load"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/durationpb"
)

var (
	program  = flag.String("server", "", "path of temporal-server")
	module   = flag.String("module", "", "folder of the module go.temporal.io/server, for its configuration")
	local    = flag.Bool("local", false, "local activities: journaled with the workflow task, not one by one")
	runs     = flag.Int("runs", 300, "runs of ten steps")
	inFlight = flag.Int("inflight", 1000, "runs in flight")
	alone    = flag.Int("alone", 20, "runs of ten steps, one in flight")
	events   = flag.Int("events", 50, "runs that wait for an event")
)

const queue = "bench"

// Step is the activity.
func Step(_ context.Context, n int) (load.Answer, error) {
	return load.Answer{N: n + 1, Text: load.HundredBytes}, nil
}

// Ten is the workflow of ten activities.
func Ten(ctx workflow.Context, n int) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute})
	for range load.Steps {
		var a load.Answer
		var f workflow.Future
		if *local {
			f = workflow.ExecuteLocalActivity(ctx, Step, n)
		} else {
			f = workflow.ExecuteActivity(ctx, Step, n)
		}
		if err := f.Get(ctx, &a); err != nil {
			return 0, err
		}
		n = a.N
	}
	return n, nil
}

// Wait is the workflow that a signal completes.
func Wait(ctx workflow.Context, n int) (int, error) {
	var v int
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, &v)
	return n + v, nil
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "temporal:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	s, err := load.NewDir("temporal")
	if err != nil {
		return err
	}
	defer s.Stop()
	var r load.Report
	config, address, err := configure(s.Dir, &r)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, *program, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s --version: %w", *program, err)
	}
	r.Version = strings.TrimSpace(string(out))
	if err := s.Start(ctx, nil, *program, "--config-file", config, "--allow-no-auth", "start"); err != nil {
		return err
	}
	c, err := client.NewLazyClient(client.Options{HostPort: address, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := s.Ready(func() error { return register(ctx, c) }); err != nil {
		return err
	}
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(Ten)
	w.RegisterWorkflow(Wait)
	w.RegisterActivity(Step)
	ten := func(i int) (n int, err error) {
		run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: queue}, Ten, i)
		if err == nil {
			err = run.Get(ctx, &n)
		}
		return n, err
	}
	// A namespace is known to all of the server some seconds after it was registered.
	if err := s.Ready(w.Start); err != nil {
		return err
	}
	defer w.Stop()
	if err := s.Ready(func() error { _, err := ten(0); return err }); err != nil {
		return err
	}
	if err := new(load.Report).Ten(10, 20, ten); err != nil { // to warm it up
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
		if err := r.Event(*events, func(i int) (time.Duration, error) { return event(ctx, c, i) }); err != nil {
			return err
		}
	}
	return r.Print()
}

// register makes the namespace that the SDK uses unless told otherwise.
func register(ctx context.Context, c client.Client) error {
	_, err := c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: client.DefaultNamespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	return err
}

func event(ctx context.Context, c client.Client, n int) (time.Duration, error) {
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: queue}, Wait, n)
	if err != nil {
		return 0, err
	}
	// It waits once its first workflow task is complete, its fourth entry: started, task scheduled, task started, task completed.
	for {
		d, err := c.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
		if err != nil {
			return 0, err
		}
		if d.WorkflowExecutionInfo.HistoryLength >= 4 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	began := time.Now()
	if err := c.SignalWorkflow(ctx, run.GetID(), run.GetRunID(), "go", 1); err != nil {
		return 0, err
	}
	var out int
	if err := run.Get(ctx, &out); err != nil || out != n+1 {
		return 0, errors.Join(err, fmt.Errorf("the run returned %d", out))
	}
	return time.Since(began), nil
}

var (
	ports     = regexp.MustCompile(`\b(7233|7234|7235|7239|7243|6933|6934|6935|6939|7936|8000)\b`)
	database  = regexp.MustCompile(`databaseName: "default"`)
	dynamic   = regexp.MustCompile(`filepath: "config/`)
	durable   = regexp.MustCompile(`(?m)^ *((?:journal_mode|synchronous): .*?) *$`)
	databases = 2 // workflows and visibility
)

// configure writes the server's own configuration for SQLite in a file, with free ports and dir for its files.
func configure(dir string, r *load.Report) (path, address string, err error) {
	shipped := filepath.Join(*module, "config", "development-sqlite-file.yaml")
	b, err := os.ReadFile(shipped)
	if err != nil {
		return "", "", err
	}
	text := string(b)
	if n := len(database.FindAllString(text, -1)); n != databases || !dynamic.MatchString(text) {
		return "", "", fmt.Errorf("%s is not as this program knows it: adapt configure", shipped)
	}
	free, err := load.FreePorts(11)
	if err != nil {
		return "", "", err
	}
	given := map[string]int{}
	text = ports.ReplaceAllStringFunc(text, func(p string) string {
		if given[p] == 0 {
			given[p] = free[len(given)]
		}
		return strconv.Itoa(given[p])
	})
	text = database.ReplaceAllLiteralString(text, fmt.Sprintf("databaseName: %q", filepath.Join(dir, "temporal.db")))
	text = dynamic.ReplaceAllLiteralString(text, `filepath: "`+filepath.ToSlash(*module)+"/config/")
	var settings []string
	for _, m := range durable.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(settings, m[1]) {
			settings = append(settings, m[1])
		}
	}
	r.Durability = "SQLite, " + strings.Join(settings, ", ")
	path = filepath.Join(dir, "config.yaml")
	return path, fmt.Sprintf("127.0.0.1:%d", given["7233"]), os.WriteFile(path, []byte(text), 0o600)
}
