package flow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/expr"
	"github.com/pawlrun/pawl/internal/spelling"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	Pointer string `json:"pointer"` // RFC 6901: "/steps/2/config/prompt"; "" is the whole document
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`           // a sentence
	Hint    string `json:"hint,omitempty"`    // what to write instead, where that is known
	Caret   string `json:"caret,omitempty"`   // of an expression: the line that is wrong, and below it a ^ under the place
	Warning bool   `json:"warning,omitempty"` // it does not stop a deployment
	Note    bool   `json:"note,omitempty"`    // a warning of what could not be checked here; see service.Note
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
	if p.Caret != "" {
		b.WriteString("\n    " + strings.ReplaceAll(p.Caret, "\n", "\n    "))
	}
	return b.String()
}

// Problems are all that is wrong with a document, in its order. As an error they are a [pawl.ErrInput].
type Problems []Problem

// maxProblems bounds what is told of one document.
const maxProblems = 200

func (ps Problems) Error() string {
	list, what := ps.Faults(), "problems"
	if len(list) == 0 {
		list, what = ps, "warnings"
	}
	if len(list) == 1 {
		return list[0].String()
	}
	lines := []string{fmt.Sprintf("%d %s", len(list), what)}
	for _, p := range list {
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
type findings struct {
	list []finding
	more [2]int // how many faults and warnings there are, with those that are not in it

	schemas map[string]*paramSchema // of actions, by their text
	noted   map[string]bool
}

// finding is a problem whose pointer is made when it is told.
type finding struct {
	Problem
	at *node
}

// maxFindings bounds how many faults, and how many warnings, are kept before the first are chosen.
const maxFindings = 10 * maxProblems

func (f *findings) add(at *node, message, hint string, warning bool) {
	n := &f.more[0]
	if warning {
		n = &f.more[1]
	}
	if *n++; *n > maxFindings {
		return
	}
	p := Problem{Message: message, Hint: hint, Warning: warning}
	if at != nil {
		p.Line, p.Column = at.line, at.column
	}
	f.list = append(f.list, finding{p, at})
}

// fault adds a fault, with a hint unless that is "".
func (f *findings) fault(at *node, hint, format string, args ...any) {
	f.add(at, fmt.Sprintf(format, args...), hint, false)
}

func (f *findings) warn(at *node, hint, format string, args ...any) {
	f.add(at, fmt.Sprintf(format, args...), hint, true)
}

// note warns, once in a document, of what could not be checked.
func (f *findings) note(at *node, text string) {
	if f.noted[text] {
		return
	}
	if f.noted == nil {
		f.noted = map[string]bool{}
	}
	f.noted[text] = true
	before := len(f.list)
	if f.add(at, text, "", true); len(f.list) > before {
		f.list[before].Note = true
	}
}

// faultIn adds a fault of an expression, with the place in it.
func (f *findings) faultIn(at *node, e *expr.Error) {
	before := len(f.list)
	if f.add(at, e.Message, e.Hint, false); len(f.list) > before {
		f.list[before].Caret = e.Caret()
	}
}

// did is [spelling.Hint] where there is a document: who has a thousand faults is not told what each might have meant.
func (f *findings) did(name string, names []string) string {
	if len(f.list) > maxProblems {
		return ""
	}
	return spelling.Hint(name, names)
}

// sorted are the findings in the document's order, each once, and not too many.
func (f *findings) sorted() Problems {
	slices.SortStableFunc(f.list, func(x, y finding) int {
		return cmp.Or(cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
	list := slices.CompactFunc(f.list, func(x, y finding) bool {
		return x.Message == y.Message && x.Line == y.Line && x.Column == y.Column && (x.at == y.at || x.at != nil && y.at != nil && x.at.pointer() == y.at.pointer())
	})
	more := max(f.more[0]-maxFindings, 0) + max(f.more[1]-maxFindings, 0)
	grave := false
	if cut := len(list) - maxProblems; cut > 0 {
		grave = slices.ContainsFunc(list[maxProblems:], func(p finding) bool { return !p.Warning })
		more, list = more+cut, list[:maxProblems]
	}
	out := make(Problems, len(list))
	for i, p := range list {
		if out[i] = p.Problem; p.at != nil {
			out[i].Pointer = p.at.pointer()
		}
	}
	if more > 0 {
		out = append(out, Problem{Message: fmt.Sprintf("and %d more problems", more), Warning: !grave})
	}
	return out
}
