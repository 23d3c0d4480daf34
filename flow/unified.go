package flow

import (
	"fmt"
	"strings"
)

// unchanged is how many lines a unified diff shows before and behind what differs.
const unchanged = 3

// maxTable bounds the work of finding the lines that two texts have in common.
const maxTable = 4_000_000

// unified is the unified diff of two texts, as lines; "" if they are the same.
func unified(old, now []string) string {
	marks := differing(old, now)
	var b strings.Builder
	for i := 0; i < len(marks); {
		if marks[i].sign == ' ' {
			i++
			continue
		}
		from, to := max(i-unchanged, 0), i
		for quiet := 0; to < len(marks) && quiet <= 2*unchanged; to++ {
			if quiet++; marks[to].sign != ' ' {
				quiet = 0
			}
		}
		for to > i && marks[to-1].sign == ' ' {
			to--
		}
		to = min(to+unchanged, len(marks))
		first, lines := marks[from], [2]int{}
		for _, m := range marks[from:to] {
			if m.sign != '+' {
				lines[0]++
			}
			if m.sign != '-' {
				lines[1]++
			}
		}
		fmt.Fprintf(&b, "@@ -%d,%d +%d,%d @@\n", first.old+1, lines[0], first.now+1, lines[1])
		for _, m := range marks[from:to] {
			fmt.Fprintf(&b, "%c%s\n", m.sign, m.line)
		}
		i = to
	}
	return b.String()
}

// mark is a line of both texts, or of one of them, and how many lines of each stand before it.
type mark struct {
	sign     byte // ' ', '-', '+'
	line     string
	old, now int
}

// differing puts two texts side by side.
func differing(old, now []string) (out []mark) {
	i, j := 0, 0
	put := func(sign byte) {
		m := mark{sign: sign, old: i, now: j}
		if sign == '+' {
			m.line = now[j]
		} else {
			m.line = old[i]
		}
		out = append(out, m)
		if sign != '+' {
			i++
		}
		if sign != '-' {
			j++
		}
	}
	for i < len(old) && j < len(now) && old[i] == now[j] {
		put(' ')
	}
	tail := 0
	for i < len(old)-tail && j < len(now)-tail && old[len(old)-1-tail] == now[len(now)-1-tail] {
		tail++
	}
	endOld, endNow := len(old)-tail, len(now)-tail
	common := shared(old[i:endOld], now[j:endNow])
	startOld, startNow := i, j
	for i < endOld || j < endNow {
		switch {
		case i < endOld && j < endNow && old[i] == now[j] && common != nil:
			put(' ')
		case i < endOld && (j == endNow || common == nil || common[i-startOld+1][j-startNow] >= common[i-startOld][j-startNow+1]):
			put('-')
		default:
			put('+')
		}
	}
	for i < len(old) {
		put(' ')
	}
	return out
}

// shared has at [i][j] how many lines the rests of two texts from i and from j on have in common, in order; nil: the texts are
// too long to find out.
func shared(old, now []string) [][]int32 {
	if (len(old)+1)*(len(now)+1) > maxTable {
		return nil
	}
	table := make([][]int32, len(old)+1)
	all := make([]int32, (len(old)+1)*(len(now)+1))
	for i := range table {
		table[i] = all[i*(len(now)+1) : (i+1)*(len(now)+1)]
	}
	for i := len(old) - 1; i >= 0; i-- {
		for j := len(now) - 1; j >= 0; j-- {
			if old[i] == now[j] {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	return table
}
