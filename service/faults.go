package service

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
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
			f.fault(field.at, cmp.Or(likely(field.name, names), "there are "+strings.Join(names, ", ")), "there is no field %q here", field.name)
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

// likely is `did you mean "…"?` with the one of names that who wrote got may have meant, or "".
func likely(got string, names []string) string {
	best, least := "", len(got)/3+2
	for _, name := range names {
		if d := changes(plainName(got), plainName(name)); d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// plainName makes names alike that people take for the same: baseURL, base-url, base_url.
func plainName(s string) string {
	return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s))
}

// changes counts the signs that must be put in, taken out, replaced, or swapped with the next to make b of a. Long names are near to none.
func changes(a, b string) int {
	x, y := []rune(a), []rune(b)
	if len(x) > 64 || len(y) > 64 {
		return 64
	}
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			differs := 1
			if x[i-1] == y[j-1] {
				differs = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+differs)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
