package pawl_test

import (
	"fmt"
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
var row = regexp.MustCompile(`(?m)^\| ((?:B1_|B2_|B3_|D6_|Misuse_|N[0-9]|K[0-9]|A1_|A4_|V[0-9]|J[0-9])\w*) \| (.+) \| (.+) \|$`)

// named is a test that a row names: of this package, or of one in a folder beside it.
var named = regexp.MustCompile("`(?:([\\w/]+)\\.)?(Test\\w+)`")

// ofCase is a test that is named for its case.
var ofCase = regexp.MustCompile(`^Test(A4|B[123]|D6|Misuse|V\d)`)

// onOneStore are those of them that do not run on each store; the page says why.
var onOneStore = []string{"TestB3_DEF_typesAreChecked", "TestB1_010_sleepingLong", "TestB1_143_retentionByTheEngine", "TestD6_03_costOfTenThousandSteps"}

// TestConformanceTableIsTrue holds docs/conformance.md against the tests that there are.
func TestConformanceTableIsTrue(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("docs", "conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string][]string{"": testsIn(t, "*_test.go")}
	mentioned, answers := map[string][]string{}, map[string][][2]string{} // by folder; by case, with the folder
	var cases []string
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
			mentioned[folder] = append(mentioned[folder], name)
			answers[id] = append(answers[id], [2]string{folder, name})
		}
		_, reason, _ := strings.Cut(answer, ": ")
		open := strings.HasPrefix(answer, "not applicable: ") || strings.HasPrefix(answer, "later: ")
		if len(found) == 0 && (!open || reason == "") {
			t.Errorf("case %s has neither a test nor a reason: %s", id, answer)
		}
	}
	for n := 1; n <= 54; n++ {
		id := fmt.Sprintf("J%d", n)
		if !slices.ContainsFunc(answers[id], func(a [2]string) bool { return namedFor(a[1], id) }) {
			t.Errorf("case %s has no row with a test that is named after it", id)
		}
	}
	for _, id := range []string{"N14", "N15", "N19", "N20"} { // of flows
		if !slices.ContainsFunc(answers[id], func(a [2]string) bool {
			return namedFor(a[1], id) && reachesStores(t, filepath.Join(a[0], "*_test.go"))[a[1]]
		}) {
			t.Errorf("case %s has no test that is named after it and runs on each store", id)
		}
	}
	for _, folder := range []string{"", "api", "cmd/pawl"} {
		for _, name := range testsIn(t, filepath.Join(folder, "conformance_*_test.go")) {
			if !slices.Contains(mentioned[folder], name) && name != t.Name() {
				t.Errorf("%s of folder %q is not in the table", name, folder)
			}
		}
		onBoth := reachesStores(t, filepath.Join(folder, "*_test.go"))
		for _, name := range mentioned[folder] {
			if ofCase.MatchString(name) && onBoth[name] == slices.Contains(onOneStore, name) {
				t.Errorf("%s of folder %q runs on each store: %v; the page says otherwise", name, folder, onBoth[name])
			}
		}
	}
	if lines := strings.Count(string(doc), "\n| ") - strings.Count(string(doc), "\n| case |"); lines != len(cases) {
		t.Errorf("%d rows of the table have a form that this test does not read", lines-len(cases))
	}
	if len(cases) < 200 {
		t.Errorf("the table has %d cases only", len(cases))
	}
}

// namedFor reports whether a test is named after a case of the article, alone or with others: TestJ7_…, TestJ43_N20_….
func namedFor(test, id string) bool {
	return regexp.MustCompile(`^Test([JN]\d+_)*` + id + `_`).MatchString(test)
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

// reachesStores tells which functions in the files that match a pattern go through the stores, by
// themselves or by functions that they name.
func reachesStores(t *testing.T, pattern string) map[string]bool {
	t.Helper()
	names := map[string][]string{} // of what a function mentions
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
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				ast.Inspect(fn.Body, func(n ast.Node) bool {
					if id, ok := n.(*ast.Ident); ok {
						names[fn.Name.Name] = append(names[fn.Name.Name], id.Name)
					}
					return true
				})
			}
		}
	}
	reaches := map[string]bool{"eachStore": true, "eachOperator": true, "eachHouse": true, "stores": true}
	for grown := true; grown; {
		grown = false
		for name, all := range names {
			if !reaches[name] && slices.ContainsFunc(all, func(s string) bool { return reaches[s] }) {
				reaches[name], grown = true, true
			}
		}
	}
	return reaches
}
