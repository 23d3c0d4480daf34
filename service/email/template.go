package email

import (
	"encoding/json"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	texttemplate "text/template"
)

// template is one name's two forms, of which one may be missing.
type template struct {
	text *texttemplate.Template
	html *htmltemplate.Template
}

var templateFile = regexp.MustCompile(`^([a-z0-9][a-z0-9_-]{0,63})\.(html|txt)$`)

const maxTemplate = 1 << 20 // bytes of a file

func readTemplates(files fs.FS) (map[string]*template, error) {
	found := map[string]*template{}
	if files == nil {
		return found, nil
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("read the templates: %w", err)
	}
	for _, entry := range entries {
		name := templateFile.FindStringSubmatch(entry.Name())
		if name == nil || entry.IsDir() {
			return nil, fmt.Errorf("the template %q has no name such as ticket-received.html or ticket-received.txt (small letters, digits, - and _)", entry.Name())
		}
		info, err := entry.Info()
		if err != nil {
			return nil, fmt.Errorf("read the template %s: %w", entry.Name(), err)
		}
		if info.Size() > maxTemplate {
			return nil, fmt.Errorf("the template %s has %d bytes; %d are allowed", entry.Name(), info.Size(), maxTemplate)
		}
		text, err := fs.ReadFile(files, entry.Name())
		if err != nil {
			return nil, fmt.Errorf("read the template %s: %w", entry.Name(), err)
		}
		t := found[name[1]]
		if t == nil {
			t = &template{}
			found[name[1]] = t
		}
		if name[2] == "html" {
			t.html, err = htmltemplate.New(entry.Name()).Option("missingkey=error").Parse(string(text))
		} else {
			t.text, err = texttemplate.New(entry.Name()).Option("missingkey=error").Parse(string(text))
		}
		if err != nil {
			return nil, fmt.Errorf("the template %s: %w", entry.Name(), err)
		}
	}
	return found, nil
}

// fill makes the text and the HTML of a message, of which one may be empty.
func (s *Service) fill(name string, data map[string]any) (text, html string, err error) {
	t := s.templates[name]
	switch {
	case len(s.templates) == 0:
		return "", "", invalid("there is no template %q, nor any other", name)
	case t == nil:
		return "", "", invalid("there is no template %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(s.templates)), ", "))
	}
	if data == nil {
		data = map[string]any{}
	}
	values := plain(data)
	into := &limited{left: s.opt.MaxBytes}
	if t.text != nil {
		if err = t.text.Execute(into, values); err == nil {
			text = into.b.String()
		}
	}
	into.b.Reset()
	if t.html != nil && err == nil {
		if err = t.html.Execute(into, values); err == nil {
			html = into.b.String()
		}
	}
	switch {
	case errors.Is(err, errFull):
		return "", "", forbidden("the template %s makes more than %d bytes of this data", name, s.opt.MaxBytes)
	case err != nil:
		return "", "", invalid("the template %s can't be filled with this data: %v", name, err)
	}
	return text, html, nil
}

// plain makes whole numbers such that templates can compare them; others keep their digits, as text.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, field := range v {
			out[name] = plain(field)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		return v.String()
	}
	return v
}

var errFull = errors.New("over the limit")

// limited takes so many bytes and then fails, so that a loop over large data ends.
type limited struct {
	b    strings.Builder
	left int
}

func (w *limited) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, errFull
	}
	w.left -= len(p)
	return w.b.Write(p)
}
