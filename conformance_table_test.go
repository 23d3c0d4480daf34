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
var row = regexp.MustCompile(`(?m)^\| ((?:B1_|B2_|B3_|D6_|Misuse_|N[0-9]|K[0-9]|A1_)\w*) \| (.+) \| (.+) \|$`)

// named is a test that a row names: of this package, or of one in a folder beside it.
var named = regexp.MustCompile("`(?:([\\w/]+)\\.)?(Test\\w+)`")

// TestConformanceTableIsTrue holds docs/conformance.md against the tests that there are.
func TestConformanceTableIsTrue(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("docs", "conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := slices.DeleteFunc(testsIn(t, "conformance_*_test.go"), func(name string) bool { return name == t.Name() })
	there := map[string][]string{"": testsIn(t, "*_test.go")}
	var cases, mentioned []string
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		id, answer := m[1], m[3]
		if slices.Contains(cases, id) {
			t.Errorf("case %s has two rows", id)
		}
		cases = append(cases, id)
		found := named.FindAllStringSubmatch(answer, -1)
		for _, n := range found {
			folder, name := n[1], n[2]
			if there[folder] == nil {
				there[folder] = testsIn(t, filepath.Join(folder, "*_test.go"))
			}
			if !slices.Contains(there[folder], name) {
				t.Errorf("case %s names %s, which does not exist", id, n[0])
			}
			if folder == "" {
				mentioned = append(mentioned, name)
			}
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

// testsIn lists the tests in the files that match a pattern.
func testsIn(t *testing.T, pattern string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("files like %s: %v, %v", pattern, files, err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}
