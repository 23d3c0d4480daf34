package main

import (
	"os"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/demo/demotest"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(m.Run())
}

func TestItSaysWhatTheNumberIsAndHow(t *testing.T) {
	program, dir, nobody := demotest.Program(t), t.TempDir(), demotest.Serve(t, demo.Model())
	first := demotest.Start(t, program, dir, nobody, "-number", "7").Result(t)
	if !strings.HasPrefix(first, "7 is odd\nstateDiagram-v2\n") || !strings.Contains(first, "s2 --> s4 : goto 1×") {
		t.Errorf("it printed %s", first)
	}
	if again := demotest.Start(t, program, dir, nobody, "-number", "7").Result(t); again != first {
		t.Errorf("the second time it printed %s", again)
	}
}
