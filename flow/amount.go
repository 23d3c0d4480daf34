package flow

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// What is counted. Each is a sum over the steps of a run.
const (
	ofSteps = iota
	ofCalls
	ofTokens
	ofServices
	ofAnswers // micro-USD
	amountKinds
)

// amounts are what something takes, by what is counted. endless is more than can be said.
type amounts [amountKinds]int64

const endless = math.MaxInt64

func plus(a, b int64) int64 {
	if a > endless-b {
		return endless
	}
	return a + b
}

// times is a product; nothing times endless is nothing.
func times(a, b int64) int64 {
	high, low := bits.Mul64(uint64(a), uint64(b))
	if high != 0 || low > endless {
		return endless
	}
	return int64(low)
}

func (a amounts) plus(b amounts) amounts {
	for i := range a {
		a[i] = plus(a[i], b[i])
	}
	return a
}

func (a amounts) times(n int64) amounts {
	for i := range a {
		a[i] = times(a[i], n)
	}
	return a
}

// or is the most of both, each count by itself.
func (a amounts) or(b amounts) amounts {
	for i := range a {
		a[i] = max(a[i], b[i])
	}
	return a
}

// share is steps of which each den bring at most num, and of which there are up to count.
type share struct{ num, den, count int64 }

// richer orders shares: those that bring more for a step come first.
func richer(a, b share) int {
	aHigh, aLow := bits.Mul64(uint64(a.num), uint64(b.den))
	bHigh, bLow := bits.Mul64(uint64(b.num), uint64(a.den))
	return -cmp.Or(cmp.Compare(aHigh, bHigh), cmp.Compare(aLow, bLow))
}

// brings is what so many of the share's steps bring at most.
func (s share) brings(steps int64) int64 {
	high, low := bits.Mul64(uint64(s.num), uint64(steps))
	low, carry := bits.Add64(low, uint64(s.den)-1, 0)
	if high += carry; high >= uint64(s.den) {
		return endless
	}
	out, _ := bits.Div64(high, low, uint64(s.den))
	return int64(min(out, endless))
}

// fill is the most that so many steps bring, if they are chosen freely of the shares.
func fill(shares []share, steps int64) (sum int64) {
	slices.SortFunc(shares, richer)
	for _, s := range shares {
		n := min(steps, s.count)
		sum = plus(sum, s.brings(n))
		steps -= n
	}
	return sum
}

// perItem makes one share of the steps of an item, which are gone through for as many items as there are steps left: the
// most that a part of an item's way brings for each of its steps. Each way has at least idle steps before the first that
// brings something.
func perItem(shares []share, idle, most, count int64) share {
	slices.SortFunc(shares, richer)
	best := share{0, 1, count}
	steps, sum := idle, int64(0)
	for _, s := range shares {
		if s.count >= endless-steps {
			best = slices.MinFunc([]share{best, {s.num, s.den, count}}, richer)
			break
		}
		steps += s.count
		sum = min(plus(sum, s.brings(s.count)), most)
		best = slices.MinFunc([]share{best, {sum, max(steps, 1), count}}, richer)
	}
	return best
}
