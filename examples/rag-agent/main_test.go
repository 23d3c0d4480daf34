package main

import (
	"os"
	"testing"

	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/demo/demotest"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(m.Run())
}

func TestAKilledProcessGoesOnWithTheCallsThatAreMissing(t *testing.T) {
	demotest.KilledAtEveryCall(t, demotest.Serve(t, demo.Model()), []string{"passages", "search"}, "-question", "Who can join?")
}
