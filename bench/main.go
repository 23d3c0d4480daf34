// Command bench measures pawl: steps per second, latency, fan-out, waiting runs, recovery.
//
// Each workload is repeated and printed as median (min–max), beside what one fsync costs on
// the disk in the same process. Figures of shared machines drift: compare what one run of
// this program printed, not two.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

var (
	storeFlag = flag.String("store", "sqlite", "sqlite; postgres, for a server that is started for it; or a postgres:// URL")
	only      = flag.String("only", "", "workloads to run, by name, with commas; empty: all")
	repeat    = flag.Int("n", 3, "repetitions")
	dir       = flag.String("dir", "", "where database files go; empty: a temporary folder")
	bare      = flag.Bool("bare", false, "the store alone under the load of ten, without the engine")
	profile   = flag.String("cpuprofile", "", "write a CPU profile to this file")
	scale     = flag.Float64("scale", 1, "multiplies the sizes of workloads")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "pawl-bench"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(*dir)) }()
	}
	if *storeFlag != "sqlite" {
		var stop func() error
		if stop, err = startServer(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	p50, p99, err := fsyncTime(*dir)
	if err != nil {
		return err
	}
	fmt.Printf("%s, %d CPUs, store %s; fdatasync of 4 KiB in place: p50 %v, p99 %v\n", runtime.Version(), runtime.NumCPU(), kind(), p50, p99)
	if *bare {
		return repeated("bare store, 1,000 writers", func() (figures, error) { return bareStore(1000, n(20_000)) })
	}
	for _, w := range workloads {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), w.name) {
			continue
		}
		if err := repeated(w.name+": "+w.what, w.run); err != nil {
			return err
		}
	}
	return nil
}

func n(size int) int { return max(int(float64(size)*(*scale)), 1) }

func kind() string {
	if *storeFlag == "sqlite" {
		return "sqlite (WAL, synchronous=FULL)"
	}
	return "postgres (fsync on, defaults otherwise)"
}

// figures are what one repetition measured: names and values in the order of printing.
type figures []figure

type figure struct {
	name  string
	value float64
	unit  string
}

func repeated(title string, f func() (figures, error)) error {
	var all []figures
	for range *repeat {
		runtime.GC()
		one, err := f()
		if err != nil {
			return fmt.Errorf("%s: %w", title, err)
		}
		all = append(all, one)
	}
	fmt.Println(title)
	for i, fig := range all[0] {
		var vs []float64
		for _, one := range all {
			vs = append(vs, one[i].value)
		}
		slices.Sort(vs)
		fmt.Printf("  %-34s %12.2f  (%.2f–%.2f) %s\n", fig.name, vs[len(vs)/2], vs[0], vs[len(vs)-1], fig.unit)
	}
	return nil
}

// fsyncTime writes and syncs 4 KiB in place, in a file whose blocks exist.
func fsyncTime(dir string) (p50, p99 time.Duration, err error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err = f.Write(make([]byte, 1<<20)); err == nil {
		err = f.Sync()
	}
	var all []time.Duration
	for i := 0; i < 1000 && err == nil; i++ {
		start := time.Now()
		if _, err = f.WriteAt(make([]byte, 4096), int64(i%256)*4096); err == nil {
			err = f.Sync()
		}
		all = append(all, time.Since(start))
	}
	if err != nil {
		return 0, 0, err
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100], nil
}

// bench is an engine at work on a fresh store.
type bench struct {
	*pawl.Engine
	store pawl.Store
	path  string
	stop  func() error
}

// removeFiles removes what a store in a file may have left.
func removeFiles(path string) error {
	var errs []error
	for _, end := range []string{"", "-wal", "-shm", ".lock"} {
		if err := os.Remove(path + end); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

var files int

func open(path string) (pawl.Store, error) {
	if *storeFlag == "sqlite" {
		return sqlite.Open(path, nil)
	}
	return openPostgres(path)
}

func newPath() string {
	files++
	return filepath.Join(*dir, fmt.Sprintf("bench%d.db", files))
}

func begin(opt *pawl.Options, defs ...pawl.Definition) (*bench, error) {
	path := newPath()
	store, err := open(path)
	if err != nil {
		return nil, err
	}
	return work(store, path, opt, defs...)
}

func work(store pawl.Store, path string, opt *pawl.Options, defs ...pawl.Definition) (*bench, error) {
	var o pawl.Options
	if opt != nil {
		o = *opt
	}
	o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	e := pawl.New(store, &o)
	if err := e.Register(defs...); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for !e.Working() {
		time.Sleep(time.Millisecond)
	}
	return &bench{Engine: e, store: store, path: path, stop: func() error {
		cancel()
		return errors.Join(<-done, store.Close(), removeFiles(path))
	}}, nil
}
