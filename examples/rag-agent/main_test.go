package main

import (
	"testing"

	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/demo/demotest"
)

func TestAKilledProcessGoesOnWithTheCallsThatAreMissing(t *testing.T) {
	demotest.KilledAtEveryCall(t, demotest.Serve(t, demo.Model()), []string{"passages", "search"}, "-question", "Who can join?")
}
