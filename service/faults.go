package service

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/internal/spelling"
)

// Fault is one thing that is wrong with a description.
type Fault struct {
	Pointer string `json:"pointer"` // RFC 6901: "/actions/create/path"; "" is the whole document
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`        // a sentence
	Hint    string `json:"hint,omitempty"` // what to write instead, where that is known
}

func (f Fault) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", f.Line, f.Column)
	}
	if f.Pointer != "" {
		b.WriteString(f.Pointer + ": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString("; " + f.Hint)
	}
	return b.String()
}

// Faults are all that is wrong with a description, in its order.
type Faults []Fault

func (fs Faults) Error() string {
	if len(fs) == 1 {
		return fs[0].String()
	}
	lines := []string{fmt.Sprintf("%d faults", len(fs))}
	for _, f := range fs {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}

// maxTold bounds what is told of one description.
const maxTold = 100

// findings gathers faults while a description is read.
type findings struct{ list Faults }

// fault adds one, with a hint unless that is "".
func (f *findings) fault(at *node, hint, format string, args ...any) {
	found := Fault{Message: fmt.Sprintf(format, args...), Hint: hint}
	if at != nil {
		found.Pointer, found.Line, found.Column = at.pointer, at.line, at.column
	}
	f.list = append(f.list, found)
}

// err is what was found, in the document's order and each once, or nil.
func (f *findings) err() error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(x, y Fault) int {
		return cmp.Or(cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
	list := slices.Compact(f.list)
	if more := len(list) - maxTold; more > 0 {
		list = append(slices.Clone(list[:maxTold]), Fault{Message: fmt.Sprintf("and %d more", more)})
	}
	return list
}

// fields holds an object against the names and kinds that it may have. It reports whether at is an object at all.
func (f *findings) fields(at *node, allowed map[string]kind, required ...string) bool {
	if !f.is(at, objectKind) {
		return false
	}
	names := sortedNames(allowed)
	for _, field := range at.fields {
		kinds, known := allowed[field.name]
		switch {
		case !known:
			f.fault(field.at, spelling.Choice(field.name, names), "there is no field %q here", field.name)
		default:
			f.is(field.value, kinds)
		}
	}
	for _, name := range required {
		if at.get(name) == nil {
			f.fault(at, "", "the field %q is missing", name)
		}
	}
	return true
}

// is reports whether a value is of one of the kinds, with a fault if not.
func (f *findings) is(at *node, kinds kind) bool {
	if at.is(kinds) {
		return true
	}
	f.fault(at, "", "it is %s, and must be %s", at.kind, kinds)
	return false
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
