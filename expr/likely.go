package expr

import "strings"

// Likely returns the one of names that somebody who wrote another one may have meant; "" if none is near: one that has
// nothing in common with it is not. Case and the signs between words tell nothing apart: sendMessage, send-message, send_message.
func Likely(name string, names []string) string {
	best, least := "", 1+max(1, len(name)/3)
	for _, n := range names {
		if d := distance(fold(name), fold(n)); d < least && d < max(len(fold(name)), len(fold(n)), 1) {
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

// distance is the number of single changes (an insert, a delete, a change, two neighbours that change places) that make
// b of a: Damerau–Levenshtein, optimal string alignment. Names longer than 64 are told apart by equality.
func distance(a, b string) int {
	if a == b {
		return 0
	}
	if len(a) > 256 || len(b) > 256 {
		return 64
	}
	x, y := []rune(a), []rune(b)
	if len(x) > 64 || len(y) > 64 {
		return 64
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
