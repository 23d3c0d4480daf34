// Package spelling finds the name that somebody meant who wrote another one.
package spelling

import (
	"fmt"
	"math"
	"strings"
)

// Hint is `did you mean "…"?` with the [Likely] one of names; "" if none is near.
func Hint(name string, names []string) string {
	if best := Likely(name, names); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// listed is how many names a Choice lists.
const listed = 20

// Choice is Hint, or else what there is to choose from.
func Choice(name string, names []string) string {
	hint := Hint(name, names)
	switch {
	case hint != "":
		return hint
	case len(names) == 0:
		return "there is none at all"
	case len(names) > listed:
		return "there are: " + strings.Join(names[:listed], ", ") + ", …"
	}
	return "there are: " + strings.Join(names, ", ")
}

// Likely returns the one of names that somebody who wrote another one may have meant; "" if none is near: one that has
// nothing in common with it is not. Case and the signs between words tell nothing apart: sendMessage, send-message, send_message.
func Likely(name string, names []string) string {
	best, least := "", 1+max(1, len(name)/3)
	meant := fold(name)
	for _, n := range names {
		is := fold(n)
		if d := distance(meant, is); d < least && d < max(len(meant), len(is), 1) {
			best, least = n, d
		}
	}
	return best
}

func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// far is a distance at which nothing is near.
const far = math.MaxInt

// distance is the number of single changes (an insert, a delete, a change, two neighbours that change places) that make
// b of a: Damerau–Levenshtein, optimal string alignment. Names longer than 64 are told apart by equality: they are far from all others.
func distance(a, b string) int {
	if a == b {
		return 0
	}
	if len(a) > 256 || len(b) > 256 {
		return far
	}
	x, y := []rune(a), []rune(b)
	if len(x) > 64 || len(y) > 64 {
		return far
	}
	var rows [3][]int
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
	}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(x); i++ {
		before, last, row := rows[(i+2)%3], rows[i%3], rows[(i+1)%3]
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return rows[(len(x)+1)%3][len(y)]
}
