package pawl_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What README shows is compiled and run: example_readme_test.go, word for word, but for the
// package's name.
func TestREADMEShowsTheExampleThatRuns(t *testing.T) {
	source, err := os.ReadFile("example_readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```go\n")
	shown, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("README.md shows no Go code")
	}
	if want := strings.Replace(string(source), "package pawl_test", "package main", 1); shown != want {
		t.Errorf("README.md shows\n%s\nbut example_readme_test.go is\n%s", shown, want)
	}
}

var (
	linked = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	quoted = regexp.MustCompile("`[^`]*`") // code, which may look like a link
)

// Links between the documents lead to files that are there.
func TestREADMEAndDocsLinkToWhatIsThere(t *testing.T) {
	files := map[string]string{"README.md": ".", "CONTRIBUTING.md": ".", "CHANGELOG.md": "."}
	for _, dir := range []string{"docs", "docs/decisions"} {
		all, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if strings.HasSuffix(f.Name(), ".md") {
				files[dir+"/"+f.Name()] = dir
			}
		}
	}
	links := 0
	for file, dir := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range linked.FindAllStringSubmatch(quoted.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			if _, err := os.Stat(dir + "/" + m[1]); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
		}
	}
	if links < 10 {
		t.Errorf("%d links were found: this test looks for something else than the documents have", links)
	}
}

// The example keeps its file in the current folder.
func Example_readme() {
	back, err := os.Getwd()
	check(err)
	dir, err := os.MkdirTemp("", "pawl-readme")
	check(err)
	defer func() { check(os.RemoveAll(dir)) }()
	check(os.Chdir(dir))
	main()
	check(os.Chdir(back))
	// Output: Dear Ada <nil>
}
