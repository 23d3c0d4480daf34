package flow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/expr"
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
	if best := expr.Likely(name, names); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}
