package flow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	Pointer string `json:"pointer"` // RFC 6901: "/steps/2/config/prompt"; "" is the whole document
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`           // a sentence
	Hint    string `json:"hint,omitempty"`    // what to write instead, where that is known
	Warning bool   `json:"warning,omitempty"` // it does not stop a deployment
}

func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", p.Line, p.Column)
	}
	if p.Pointer != "" {
		fmt.Fprintf(&b, "%s: ", p.Pointer)
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		fmt.Fprintf(&b, "; %s", p.Hint)
	}
	return b.String()
}

// Problems are all that is wrong with a document, in its order. As an error they are a [pawl.ErrInput].
type Problems []Problem

// maxProblems bounds what is told of one document.
const maxProblems = 200

func (ps Problems) Error() string {
	faults := ps.Faults()
	if len(faults) == 1 {
		return faults[0].String()
	}
	lines := []string{fmt.Sprintf("%d problems", len(faults))}
	for _, p := range faults {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// Is reports that they are a pawl.ErrInput.
func (ps Problems) Is(target error) bool { return target == pawl.ErrInput }

// Fatal reports true: the same document has the same problems.
func (ps Problems) Fatal() bool { return true }

// Faults are those that stop a deployment.
func (ps Problems) Faults() Problems {
	return slices.DeleteFunc(slices.Clone(ps), func(p Problem) bool { return p.Warning })
}

// err is the faults as an error, or nil.
func (ps Problems) err() error {
	if faults := ps.Faults(); len(faults) > 0 {
		return faults
	}
	return nil
}

// findings gathers problems while a document is looked at.
type findings struct{ list Problems }

func (f *findings) add(at *node, message, hint string, warning bool) {
	p := Problem{Message: message, Hint: hint, Warning: warning}
	if at != nil {
		p.Pointer, p.Line, p.Column = at.pointer, at.line, at.column
	}
	f.list = append(f.list, p)
}

// fault adds a fault, with a hint unless that is "".
func (f *findings) fault(at *node, hint, format string, args ...any) {
	f.add(at, fmt.Sprintf(format, args...), hint, false)
}

func (f *findings) warn(at *node, hint, format string, args ...any) {
	f.add(at, fmt.Sprintf(format, args...), hint, true)
}

// sorted are the findings in the document's order, each once, and not too many.
func (f *findings) sorted() Problems {
	slices.SortStableFunc(f.list, func(x, y Problem) int {
		return cmp.Or(cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
	list := slices.CompactFunc(f.list, func(x, y Problem) bool { return x.Pointer == y.Pointer && x.Message == y.Message })
	if more := len(list) - maxProblems; more > 0 {
		list = append(slices.Clone(list[:maxProblems]), Problem{Message: fmt.Sprintf("and %d more problems", more)})
	}
	return list
}

// did returns `did you mean "…"?` for the name most like one that is not there, or "".
func did(name string, names []string) string {
	best, least := "", 1+max(1, len(name)/3)
	for _, n := range names {
		if d := distance(fold(name), fold(n)); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// fold makes names alike that people take for the same: sendMessage, send-message, send_message.
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
