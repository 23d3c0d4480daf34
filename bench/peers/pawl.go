package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl/bench/peers/load"
)

// fsyncP50 is the figure that pawl's own program adds: what one fdatasync cost at its start, in milliseconds.
const fsyncP50 = "fdatasync_p50_ms"

var (
	firstLine  = regexp.MustCompile(`^(go\S+), .*store (.*); fdatasync of 4 KiB in place: p50 (\S+), p99`)
	figureLine = regexp.MustCompile(`^  (\S.*?) +([\d.]+)  \(`)
)

// ours runs pawl's own benchmark, one repetition, and reads the lines that it prints for people.
func ours(ctx context.Context, args ...string) (load.Report, error) {
	out, err := output(ctx, nil, ".install/pawl", append(args, "-n", "1")...)
	if err != nil {
		return load.Report{}, err
	}
	r := load.Report{InFlight: 1000, Figures: map[string]float64{}}
	workload := ""
	for line := range strings.Lines(string(out)) {
		if m := firstLine.FindStringSubmatch(line); m != nil {
			d, err := time.ParseDuration(m[3])
			if err != nil {
				return r, fmt.Errorf("read the benchmark's fdatasync time: %w", err)
			}
			r.Version, r.Durability = m[1], m[2]
			r.Figures[fsyncP50] = float64(d.Nanoseconds()) / 1e6
		} else if m := figureLine.FindStringSubmatch(line); m != nil {
			v, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				return r, fmt.Errorf("read the benchmark's %q: %w", line, err)
			}
			switch workload + "/" + m[1] {
			case "ten/steps/s", "bare store/steps/s":
				r.Figures[load.StepsPerSecond] = v
			case "ten/run p50":
				r.Figures[load.RunP50] = v
			case "ten/run p99":
				r.Figures[load.RunP99] = v
			case "alone/run p50":
				r.Figures[load.AlonePerStep] = v / load.Steps
			case "event/event to end p50":
				r.Figures[load.EventP50] = v
			case "event/event to end p99":
				r.Figures[load.EventP99] = v
			}
		} else {
			workload, _, _ = strings.Cut(strings.TrimSpace(line), ":")
			workload, _, _ = strings.Cut(workload, ",")
		}
	}
	if r.Figures[load.StepsPerSecond] == 0 || r.Version == "" {
		return r, fmt.Errorf("the benchmark's output is not as this program knows it: adapt ours\n%.500s", out)
	}
	return r, nil
}
