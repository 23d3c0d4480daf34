// Package templates holds flows that are complete, to begin with: each with its cases, an input, the services that it
// needs and a page that says what to change.
package templates

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
)

// A folder holds one template: README.md, input.json, flows/NAME.yaml, flows/NAME.test.yaml, and services/ where it needs
// described ones. It is the folder that "pawl init --template" makes.
//
//go:embed */README.md */input.json */flows */services
var embedded embed.FS

// Template is a flow with all that belongs to it.
type Template struct {
	Name  string `json:"name"`
	Title string `json:"title"` // what it is, in some words
	About string `json:"about"` // what it does, in a sentence or two
	Files []File `json:"files"` // sorted by path
}

// File is a file of a template.
type File struct {
	Path string `json:"path"` // with slashes, below the folder of the template
	Data string `json:"data"`
}

// Flow is the flow, as YAML.
func (t Template) Flow() string { return t.file("flows/" + t.Name + ".yaml") }

// Cases are the cases by which "pawl test" tries the flow.
func (t Template) Cases() string { return t.file("flows/" + t.Name + ".test.yaml") }

// Input are variables with which a run can be started, as JSON.
func (t Template) Input() string { return t.file("input.json") }

// Page says what the flow does, what to change and what it needs, as Markdown.
func (t Template) Page() string { return t.file("README.md") }

// Services are the descriptions of services that it needs besides those of pawl, by the service's name.
func (t Template) Services() map[string]string {
	all := map[string]string{}
	for _, f := range t.Files {
		if dir, name := path.Split(f.Path); dir == "services/" {
			all[strings.TrimSuffix(name, ".yaml")] = f.Data
		}
	}
	return all
}

func (t Template) file(path string) string {
	for _, f := range t.Files {
		if f.Path == path {
			return f.Data
		}
	}
	return ""
}

// List returns all templates, by name. The list is the caller's own.
func List() []Template {
	all := slices.Clone(read())
	for i := range all {
		all[i].Files = slices.Clone(all[i].Files)
	}
	return all
}

// Get returns a template by its name, and whether there is one.
func Get(name string) (Template, bool) {
	all := List()
	i := slices.IndexFunc(all, func(t Template) bool { return t.Name == name })
	if i < 0 {
		return Template{}, false
	}
	return all[i], true
}

var read = sync.OnceValue(func() []Template {
	all, err := readAll(embedded)
	if err != nil {
		panic(err) // the files are part of the program, and a test reads them
	}
	return all
})

func readAll(from fs.FS) ([]Template, error) {
	folders, err := fs.ReadDir(from, ".")
	if err != nil {
		return nil, err
	}
	var all []Template
	for _, folder := range folders {
		t := Template{Name: folder.Name()}
		err := fs.WalkDir(from, t.Name, func(at string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(from, at)
			t.Files = append(t.Files, File{strings.TrimPrefix(at, t.Name+"/"), string(data)})
			return err
		})
		if err != nil {
			return nil, err
		}
		slices.SortFunc(t.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
		if t.Title, t.About, err = heading(t.Page()); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		all = append(all, t)
	}
	return all, nil
}

// heading are the title and the first paragraph of a page.
func heading(page string) (title, about string, err error) {
	parts := strings.SplitN(page, "\n\n", 3)
	title, is := strings.CutPrefix(parts[0], "# ")
	if !is || len(parts) < 3 {
		return "", "", fmt.Errorf("the page begins with no title and paragraph")
	}
	return title, strings.ReplaceAll(parts[1], "\n", " "), nil
}
