package agent

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// ideal is what a pacer could reach at best that knows all and takes no time: calls go at
// exactly the rate while any may go, a fifth is refused and may come again after a second.
// It returns the rate from the first call to the last, and while there were new ones, as
// shares of what is allowed.
func ideal(r *rand.Rand, calls int, rate float64, againFirst bool) (whole, busy float64) {
	step := time.Duration(float64(time.Second) / rate)
	var again []time.Duration // when a refused call may come, soonest first
	fresh, let := calls, 0
	var now, last, lastNew time.Duration
	letByNew := 0
	for fresh+len(again) > 0 {
		ready := len(again) > 0 && again[0] <= now
		switch {
		case ready && (againFirst || fresh == 0):
			again = again[1:]
		case fresh > 0:
			if fresh--; fresh == 0 {
				lastNew, letByNew = now, let+1
			}
		default:
			now = again[0]
			continue
		}
		let++
		last = now
		if r.Float64() < 0.2 {
			again = append(again, now+time.Second)
		}
		now += step
	}
	return float64(let-1) / last.Seconds() / rate, float64(letByNew-1) / lastNew.Seconds() / rate
}

// What the acceptance tests are measured against: no pacer does better than this from the
// first call to the last, as calls that are refused near the end must wait, and may be refused
// again. See [TestRunsFinishAtTheAllowedRate].
func TestTheBestRateThereIs(t *testing.T) {
	for _, calls := range []int{120, 1000, 10000} {
		for _, againFirst := range []bool{true, false} {
			r := rand.New(rand.NewPCG(uint64(calls), 1))
			var wholes []float64
			var sum float64
			const games = 2000
			for range games {
				whole, busy := ideal(r, calls, 50, againFirst)
				wholes = append(wholes, whole)
				if sum += whole; againFirst && (busy < 0.9999 || busy > 1.0001) {
					t.Fatalf("%d calls: %.4f of the rate while there were new ones", calls, busy)
				}
			}
			slices.Sort(wholes)
			t.Logf("%5d calls, refused ones first %-5v: from first to last %.1f %% of the rate, from %.1f to %.1f in nine games of ten, %.1f at best",
				calls, againFirst, 100*sum/games, 100*wholes[games/20], 100*wholes[games-games/20], 100*wholes[games-1])
		}
	}
}
