package api

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

const httpPage = "../docs/http.md"

// section returns the rows of the table that follows a mark in the page, without its head.
func section(t *testing.T, mark string) []string {
	t.Helper()
	page, err := os.ReadFile(httpPage)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "<!-- "+mark+" -->\n")
	if !ok {
		t.Fatalf("%s has no mark %q", httpPage, mark)
	}
	var rows []string
	for line := range strings.SplitSeq(rest, "\n") {
		if !strings.HasPrefix(line, "|") {
			break
		}
		rows = append(rows, line)
	}
	return rows[2:]
}

func TestThePageHasEveryRoute(t *testing.T) {
	s := New(pawl.New(nil, nil), Options{}).(*server)
	var want []string
	for _, o := range s.operations {
		want = append(want, fmt.Sprintf("| `%s %s` | `%s` | %s |", o.method, strings.ReplaceAll(o.path, "...}", "}"), o.scope, o.summary))
	}
	slices.SortFunc(want, func(a, b string) int { return strings.Compare(pathOf(a), pathOf(b)) })
	if got := section(t, "routes"); !slices.Equal(got, want) {
		t.Errorf("the table of routes in %s is not the document's; it is:\n%s", httpPage, strings.Join(want, "\n"))
	}
}

// pathOf returns a row's path and its method, to sort by.
func pathOf(row string) string {
	method, path, _ := strings.Cut(strings.Split(row, "`")[1], " ")
	return path + " " + method
}

func TestThePageHasEveryCode(t *testing.T) {
	want := map[string]int{}
	for _, row := range table {
		want[row.code] = row.status
	}
	// The codes that no sentinel stands for, with the status that the comment beside each says.
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "code") {
			var code string
			var status int
			if err := json.Unmarshal([]byte(spec.Values[0].(*ast.BasicLit).Value), &code); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Sscanf(spec.Comment.Text(), "%d", &status); err != nil {
				t.Errorf("the comment of %s does not begin with its status", spec.Names[0].Name)
			}
			want[code] = status
		}
		return true
	})
	got := map[string]int{}
	for _, row := range section(t, "codes") {
		cells := strings.Split(row, "|")
		var status int
		if _, err := fmt.Sscan(cells[2], &status); err != nil || strings.TrimSpace(cells[3]) == "" {
			t.Errorf("row %s", row)
		}
		got[strings.Trim(cells[1], " `")] = status
	}
	for _, code := range slices.Sorted(maps.Keys(want)) {
		if got[code] != want[code] {
			t.Errorf("%s says status %d of code %s, want %d", httpPage, got[code], code, want[code])
		}
		delete(got, code)
	}
	if len(got) > 0 {
		t.Errorf("%s has codes that there are not: %v", httpPage, got)
	}
}

// TestTheChecklistNamesTests holds the security checklist against the tests that there are.
func TestTheChecklistNamesTests(t *testing.T) {
	doc, err := os.ReadFile(httpPage)
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(doc), "## Security checklist")
	list, _, _ = strings.Cut(list, "\n## ")
	rows := 0
	for line := range strings.Lines(list) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| attack ") {
			continue
		}
		rows++
		names := regexp.MustCompile("`(?:([\\w/]+)\\.)?((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(line, -1)
		if len(names) == 0 {
			t.Errorf("no test is named in %s", line)
		}
		for _, n := range names {
			folder := filepath.Join("..", n[1])
			switch n[1] {
			case "":
				folder = "."
			case "pawl": // the root
				folder = ".."
			}
			files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(files, func(name string) bool {
				text, err := os.ReadFile(name)
				return err == nil && strings.Contains(string(text), "\nfunc "+n[2]+"(")
			}) {
				t.Errorf("there is no %s", n[0])
			}
		}
	}
	if rows < 20 {
		t.Errorf("the list has %d rows", rows)
	}
}
