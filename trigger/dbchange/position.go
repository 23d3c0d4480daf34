package dbchange

import (
	"math/big"
	"strconv"
	"strings"
)

// position is a value of a cursor column, as text that its database takes back and that Go can compare: digits, or
// text in the order of its bytes.
type position struct {
	Text   string `json:"v"`
	Number bool   `json:"n,omitempty"`
}

// lowest is below every position of a column that is of no known kind yet.
var lowest = position{}

func (p position) zero() bool { return p == lowest }

// compare orders positions as their database does.
func (p position) compare(o position) int {
	if p.Number != o.Number { // SQLite's order; lowest is text, but before all
		switch {
		case p.zero():
			return -1
		case o.zero():
			return 1
		case p.Number:
			return -1
		}
		return 1
	}
	if !p.Number {
		return strings.Compare(p.Text, o.Text)
	}
	a, err := strconv.ParseInt(p.Text, 10, 64)
	b, err2 := strconv.ParseInt(o.Text, 10, 64)
	if err == nil && err2 == nil {
		switch {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	}
	x, ok := new(big.Rat).SetString(p.Text)
	y, ok2 := new(big.Rat).SetString(o.Text)
	if !ok || !ok2 {
		return strings.Compare(p.Text, o.Text)
	}
	return x.Cmp(y)
}
