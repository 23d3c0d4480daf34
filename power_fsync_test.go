package pawl_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFsyncFails lets the n-th sync of every thread of a worker fail, or all from the n-th
// on. After a failed sync of the log nobody knows what the disk has, and a sync tried again
// may lie: so the worker must stop acknowledging and end. Of what it has acknowledged
// nothing may rest on the failed sync, and the next worker must bring every run to its end.
func TestFsyncFails(t *testing.T) {
	t.Parallel()
	outcomes := map[string]int{}
	for n := 1; n <= 25; n++ {
		for i, when := range []string{strconv.Itoa(n), strconv.Itoa(n) + "+"} {
			for _, fresh := range []bool{true, false} {
				if long() || n%5 == 1 && fresh == (n/5%2 == i) {
					outcomes[fsyncFails(t, fresh, when)]++
				}
			}
		}
	}
	t.Logf("outcomes: %v", outcomes)
	if outcomes["ended at work"] < 2 {
		t.Error("nothing happened: hardly a sync of the log has failed")
	}
}

// fsyncFails makes syncs fail, while a file is made or on one that is there, and returns
// what came of it.
func fsyncFails(t *testing.T, fresh bool, when string) (outcome string) {
	t.Helper()
	p := newPowerStory(t, false)
	if !fresh {
		p.cfg.Runs = 5
		if code, stderr, _ := p.rec.trace(t, p.cfg, time.Minute); code != 0 {
			t.Fatalf("the worker ended with %d\n%s", code, stderr)
		}
	}
	p.cfg.Runs = 40
	code, stderr, ended := p.rec.trace(t, p.cfg, 45*time.Second, "-e", "inject=fsync,fdatasync:error=EIO:when="+when)
	fault := func(format string, args ...any) {
		t.Helper()
		t.Errorf("syncs fail when="+when+": "+format, args...)
	}

	// The first sync of the log that had something to bring to the disk. While the store is
	// being opened one may be tried again: the pages are written again too.
	var fatal *faulted
	for i, f := range p.rec.faults {
		if fatal == nil && f.pending > 0 && f.line > p.rec.ready && strings.HasSuffix(f.what, "-wal") {
			fatal = &p.rec.faults[i]
		}
	}
	switch {
	case len(p.rec.faults) == 0:
		outcome = "no thread came so far"
	case fatal == nil && code == 0:
		outcome = "only a checkpoint or a directory" // SQLite tries these again, from data that is in the log
	case fatal == nil:
		outcome = "ended while opening"
	default:
		outcome = "ended at work"
	}
	switch {
	case code < 0:
		fault("the worker did not end\n%s", stderr)
	case len(p.rec.faults) == 0 && code != 0:
		fault("the worker ended with %d without a fault\n%s", code, stderr)
	case fatal != nil && code == 0:
		fault("the worker ended well after a sync of the log had failed")
	case fatal != nil && ended.Sub(fatal.at) > 10*time.Second:
		fault("the worker ended %v after a sync of the log had failed", ended.Sub(fatal.at))
	}
	if fatal != nil {
		for _, l := range p.rec.lines {
			if (l.text[0] == 'R' || l.text[0] == 'S') && l.at.Sub(fatal.at) > time.Second {
				fault("%q was acknowledged %v after a sync of the log had failed", l.text, l.at.Sub(fatal.at))
				break
			}
		}
	}

	// What the disk has, and what the kernel shows.
	d := newDisk(p.rec)
	for i, image := range []map[string][]byte{d.image(p.rec.end, surviveNone, p.random), p.rec.shown()} {
		found := inspect(p.lay(i, image), false, p.rec.lines)
		for _, f := range append(found.lost, found.faults...) {
			fault("%s: %s", [...]string{"on the disk", "in the file"}[i], f)
		}
	}

	// The next worker goes on from what the kernel shows, some of which the disk does not
	// have, and the power goes while it does.
	from := p.rec.end
	if code, stderr, _ := p.rec.trace(t, p.cfg, time.Minute); code != 0 {
		fault("the next worker ended with %d\n%s", code, stderr)
	}
	if err := p.rec.differs(); err != nil {
		t.Fatal(err)
	}
	moments := []int{p.rec.end}
	for range 5 {
		moments = append(moments, from+p.random.IntN(p.rec.end-from))
	}
	slices.Sort(moments)
	for i, moment := range moments {
		lines := p.rec.lines[:countBefore(p.rec.lines, func(l ledgerLine) int { return l.begin }, moment)]
		found := inspect(p.lay(2+i, d.image(moment, surviveNone, p.random)), false, lines)
		for _, f := range append(found.lost, found.faults...) {
			fault("power cut at line %d of %d to %d, in the next worker: %s", moment, from, p.rec.end, f)
		}
	}
	for _, f := range (&story{t: t, cfg: p.cfg}).faults() {
		fault("after the next worker: %s", f)
	}
	t.Logf("fresh=%v when=%s: syncs failed: %v, exit code %d, %s", fresh, when, p.rec.faults, code, outcome)
	return outcome
}
