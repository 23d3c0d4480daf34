package main

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl/bench/peers/load"
)

const (
	reference      = "pawl, SQLite" // the side that the others are compared with
	onPostgres     = "pawl, PostgreSQL"
	peerOnPostgres = "pg-workflows, 200 workers"
)

var columns = []struct{ title, figure string }{
	{"ten steps: steps/s", load.StepsPerSecond},
	{"run p50, ms", load.RunP50},
	{"run p99, ms", load.RunP99},
	{"one run alone: ms per step", load.AlonePerStep},
	{"event to end p50, ms", load.EventP50},
	{"p99, ms", load.EventP99},
}

func printTable(all map[string][]load.Report, began time.Time) {
	var synced []load.Report
	for _, reports := range all {
		synced = append(synced, reports...)
	}
	fmt.Printf("%s, %d CPUs, all sides in turn, rounds: %d, minutes: %.0f; median (least–greatest)", began.Format(time.DateOnly), runtime.NumCPU(), *rounds, time.Since(began).Minutes())
	if f := spread(synced, fsyncP50); f != "" {
		fmt.Printf("; fdatasync of 4 KiB in place, p50 at the start of each measurement of pawl: %s ms", f)
	}
	fmt.Print("\n\n| side | in flight |")
	for _, c := range columns {
		fmt.Printf(" %s |", c.title)
		if c.figure == load.StepsPerSecond {
			fmt.Printf(" pawl on SQLite ÷ side |")
		}
	}
	fmt.Println("\n|---|" + strings.Repeat("---|", len(columns)+2))
	for _, s := range sides {
		reports := all[s.name]
		if len(reports) == 0 {
			continue
		}
		fmt.Printf("| %s | %s |", s.name, grouped(float64(reports[0].InFlight)))
		for _, c := range columns {
			fmt.Printf(" %s |", spread(reports, c.figure))
			if c.figure == load.StepsPerSecond {
				fmt.Printf(" %s |", ratio(all[reference], reports))
			}
		}
		fmt.Println()
	}
	if a, b := all[onPostgres], all[peerOnPostgres]; len(a) > 0 && len(b) > 0 {
		fmt.Printf("\n%s ÷ %s: %s.\n", onPostgres, peerOnPostgres, ratio(a, b))
	}
	fmt.Println("\nDurability, as read from the settings in force:")
	fmt.Println()
	for _, s := range sides {
		if reports := all[s.name]; len(reports) > 0 {
			fmt.Printf("- %s (%s): %s\n", s.name, reports[0].Version, reports[0].Durability)
		}
	}
}

// ratio divides the medians of steps per second.
func ratio(ours, theirs []load.Report) string {
	a, b := values(ours, load.StepsPerSecond), values(theirs, load.StepsPerSecond)
	if len(a) == 0 || len(b) == 0 {
		return ""
	}
	return number(median(a) / median(b))
}

// spread is a figure's median with the least and the greatest, or nothing where it was not measured.
func spread(reports []load.Report, figure string) string {
	vs := values(reports, figure)
	if len(vs) == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(vs)), number(vs[0]), number(vs[len(vs)-1]))
}

func values(reports []load.Report, figure string) (vs []float64) {
	for _, r := range reports {
		if v, ok := r.Figures[figure]; ok {
			vs = append(vs, v)
		}
	}
	slices.Sort(vs)
	return vs
}

// median is the middle value, or the mean of the two in the middle.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// number shows three digits at least, no decimals from a hundred up.
func number(v float64) string {
	switch {
	case v >= 100:
		return grouped(v)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func grouped(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
