package pawl_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// row is a line of the table in docs/conformance.md that has a case.
var row = regexp.MustCompile(`(?m)^\| ((?:B1|B3|D6|Misuse)_\w+) \| (.+) \| (.+) \|$`)

var named = regexp.MustCompile("`(Test\\w+)`")

// TestConformanceTableIsTrue holds docs/conformance.md against the tests that there are.
func TestConformanceTableIsTrue(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("docs", "conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("conformance_*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests []string
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && fn.Name.Name != t.Name() {
				tests = append(tests, fn.Name.Name)
			}
		}
	}
	var cases, mentioned []string
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		id, answer := m[1], m[3]
		if slices.Contains(cases, id) {
			t.Errorf("case %s has two rows", id)
		}
		cases = append(cases, id)
		found := named.FindAllStringSubmatch(answer, -1)
		for _, n := range found {
			if !slices.Contains(tests, n[1]) {
				t.Errorf("case %s names %s, which does not exist", id, n[1])
			}
			mentioned = append(mentioned, n[1])
		}
		_, reason, _ := strings.Cut(answer, ": ")
		open := strings.HasPrefix(answer, "not applicable: ") || strings.HasPrefix(answer, "later: ")
		if len(found) == 0 && (!open || reason == "") {
			t.Errorf("case %s has neither a test nor a reason: %s", id, answer)
		}
	}
	for _, name := range tests {
		if !slices.Contains(mentioned, name) {
			t.Errorf("%s is not in the table", name)
		}
	}
	if lines := strings.Count(string(doc), "\n| ") - strings.Count(string(doc), "\n| case |"); lines != len(cases) {
		t.Errorf("%d rows of the table have a form that this test does not read", lines-len(cases))
	}
	if len(cases) < 200 {
		t.Errorf("the table has %d cases only", len(cases))
	}
}
