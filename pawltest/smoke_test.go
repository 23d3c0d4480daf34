package pawltest_test

import (
	"context"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/pawltest"
)

var nap = pawl.Define("nap", func(c *pawl.Context, d time.Duration) (string, error) {
	if err := c.Sleep(d); err != nil {
		return "", err
	}
	return pawl.Step(c, "wake", func(context.Context) (string, error) { return "up", nil })
})

func TestYear(t *testing.T) {
	began := time.Now()
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		start := time.Now()
		run := pawltest.Start(h, nap, 365*24*time.Hour)
		if got := pawltest.Result(h, run); got != "up" {
			t.Error(got)
		}
		t.Log(time.Since(start))
	}, nap)
	t.Log(time.Since(began))
}
