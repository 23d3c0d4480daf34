package pawl_test

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

// A branch that somebody may still ask for its result holds that, and not what its steps have returned. It runs beside no other test.
func TestABranchHoldsNoResultsOfItsSteps(t *testing.T) {
	const branches, each = 40, 1 << 20
	held := make(chan uint64, 1)
	w := pawl.Define("wide", func(c *pawl.Context, _ struct{}) (int, error) {
		var all []*pawl.Future[int]
		for range branches {
			all = append(all, pawl.Go(c, "b", func(c *pawl.Context) (int, error) {
				text, err := pawl.Step(c, "large", func(context.Context) (string, error) { return strings.Repeat("x", each), nil })
				return len(text), err
			}))
		}
		_, err := pawl.All(c, all...)
		held <- heapInUse()
		runtime.KeepAlive(all)
		return 0, err
	})
	n := boot(t, openSQLite(t), nil, w)
	before := heapInUse()
	result(n, start(n, w, struct{}{}))
	if more := int64(<-held) - int64(before); more > branches*each/4 {
		t.Errorf("after %d steps of %d bytes %d bytes more are in use", branches, each, more)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what a sync.Pool keeps goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
