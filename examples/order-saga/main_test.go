package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/demo/demotest"
	"github.com/pawlrun/pawl/examples/order-saga/saga"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(m.Run())
}

// The program is killed while it waits for its payment, and then paid, or not.
func TestAKilledOrderGoesOn(t *testing.T) {
	program, nobody := demotest.Program(t), demotest.Serve(t, demo.Model())
	for _, c := range []struct {
		args  []string
		code  int
		out   string
		deeds []string
	}{
		{[]string{"-pay", "yes"}, 0, "book is on its way, parcel #3\n", []string{"reserve book", "charge 12.90", "ship book"}},
		{[]string{"-pay", "no"}, 1, "", []string{"reserve book", "charge 12.90", "refund #2", "release #1"}},
	} {
		dir := t.TempDir()
		p := demotest.Start(t, program, dir, nobody, "-pay", "nothing", "-patience", "1h")
		p.KillAt(t, p.Says("✓ charge"))
		for range 2 { // the second time it is only read
			if out := demotest.Start(t, program, dir, nobody, append(c.args, "-patience", "1h")...).Exits(t, c.code); out != c.out {
				t.Errorf("%v: it printed %q", c.args, out)
			}
		}
		ledger := saga.Ledger{File: filepath.Join(dir, "ledger.txt")}
		if deeds, err := ledger.Deeds(); err != nil || !slices.Equal(deeds, c.deeds) {
			t.Errorf("%v: done was %q, %v; want %q", c.args, deeds, err, c.deeds)
		}
	}
}
