package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/spf13/cobra"
)

type benchOptions struct {
	runs, steps, rounds int
	dir                 string
}

// spread is the middle of several measurements, and how far they lie apart.
type spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

type benchReport struct {
	Runs          int    `json:"runs"`
	Steps         int    `json:"steps"`
	Rounds        int    `json:"rounds"`
	StepsPerSec   spread `json:"stepsPerSecond"`
	AloneMs       spread `json:"stepAloneMs"` // what a step takes in a run that is alone
	FsyncMs       spread `json:"fsyncMs"`
	StepsPerFsync spread `json:"stepsPerFsyncTime"` // steps done in the time that one fsync takes
}

func (a *app) benchCommand() *cobra.Command {
	o := benchOptions{}
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure how fast this machine's disk lets pawl be",
		Long: `Measure steps per second on a SQLite store that is made for it and taken away again, beside the
time that the disk takes for an fsync, by turns. Each step is a commit that survives a power cut;
many runs share commits, so their steps per second can be many times what the disk alone allows.
Compare the ratio, not the speed: other work on the machine slows both.`,
		Example: a.examples("bench", "bench --runs 200 --rounds 9 --dir /var/lib/pawl -o json"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.IntVar(&o.runs, "runs", 64, "how many runs go on at once")
	flags.IntVar(&o.steps, "steps", 50, "how many steps each of them has")
	flags.IntVar(&o.rounds, "rounds", 5, "how often it is measured")
	flags.StringVar(&o.dir, "dir", "", "directory on the disk that is meant (default the one for temporary files)")
	return cmd
}

func (a *app) bench(ctx context.Context, o benchOptions) error {
	if o.runs < 1 || o.steps < 1 || o.rounds < 1 {
		return a.usage("--runs, --steps and --rounds are 1 or more")
	}
	dir, err := os.MkdirTemp(o.dir, "pawl-bench-")
	if err != nil {
		return a.usage("--dir: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left of it harms nobody
	bar := a.bar(o.rounds)
	var speed, alone, fsync, ratio []float64
	err = withEngine(ctx, filepath.Join(dir, "pawl.db"), func(e *pawl.Engine) error {
		if _, err := race(ctx, e, o.runs, 1); err != nil { // the first round pays for files that grow
			return err
		}
		for round := range o.rounds {
			f, err := fsyncTimes(dir, 20)
			if err != nil {
				return err
			}
			d, err := race(ctx, e, o.runs, o.steps)
			if err != nil {
				return err
			}
			one, err := race(ctx, e, 1, o.steps)
			if err != nil {
				return err
			}
			perSec := float64(o.runs*o.steps) / d.Seconds()
			speed, fsync = append(speed, perSec), append(fsync, ms(f))
			alone, ratio = append(alone, ms(one)/float64(o.steps)), append(ratio, perSec*f.Seconds())
			bar.show(round+1, 0)
		}
		return nil
	})
	bar.end()
	if err != nil {
		return err
	}
	report := benchReport{o.runs, o.steps, o.rounds, spreadOf(speed), spreadOf(alone), spreadOf(fsync), spreadOf(ratio)}
	body, err := json.Marshal(report)
	if err != nil {
		return err
	}
	return a.show(view{body: body, of: report, table: func() {
		row := func(what, format string, s spread) []any {
			return []any{what, fmt.Sprintf(format, s.Median), fmt.Sprintf(format, s.Least), fmt.Sprintf(format, s.Most)}
		}
		a.table(columns{fmt.Sprintf("%d RUNS OF %d STEPS, %d ROUNDS", o.runs, o.steps, o.rounds), "MEDIAN", "LEAST", "MOST"}, [][]any{
			row("steps per second", "%.0f", report.StepsPerSec),
			row("one step of a run alone", "%.2fms", report.AloneMs),
			row("fsync of the disk", "%.2fms", report.FsyncMs),
			row("steps in the time of one fsync", "%.1f", report.StepsPerFsync),
		})
	}})
}

// withEngine runs an engine on a new store for as long as use takes.
func withEngine(ctx context.Context, file string, use func(*pawl.Engine) error) error {
	store, err := sqlite.Open(file, nil)
	if err != nil {
		return err
	}
	e := pawl.New(store, &pawl.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), MaxRunning: 10_000})
	err = e.Register(stepper)
	if err == nil {
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		err = use(e)
		stop()
		err = errors.Join(err, <-ended)
	}
	return errors.Join(err, e.Close(), store.Close())
}

var stepper = pawl.Define("bench", func(c *pawl.Context, steps int) (int, error) {
	for range steps {
		if err := pawl.Do(c, "step", func(context.Context) error { return nil }); err != nil {
			return 0, err
		}
	}
	return steps, nil
})

// race starts runs at once and returns when all have ended, and how long they took.
func race(ctx context.Context, e *pawl.Engine, runs, steps int) (time.Duration, error) {
	began := time.Now()
	started := make([]*pawl.Run[int], runs)
	for i := range started {
		var err error
		if started[i], err = stepper.Start(ctx, e, steps); err != nil {
			return 0, err
		}
	}
	for _, run := range started {
		if _, err := run.Result(ctx); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// fsyncTimes writes 4 KiB n times to a file in dir, each time to the disk, and returns what
// the middle one took.
func fsyncTimes(dir string, n int) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".pawl-fsync-*")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it is empty of meaning
	defer f.Close()
	page := make([]byte, 4096)
	var all []time.Duration
	for range n {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return all[n/2], nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func spreadOf(all []float64) spread {
	slices.Sort(all)
	return spread{all[len(all)/2], all[0], all[len(all)-1]}
}
