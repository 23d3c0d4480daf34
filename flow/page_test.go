package flow

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write docs/flow-reference.md anew")

// The page of the format is made of the data by which documents are checked.
func TestThePageOfTheFormat(t *testing.T) {
	const path = "../docs/flow-reference.md"
	page := formatPage()
	if *rewrite {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile(path)
	if err != nil || string(is) != page {
		t.Errorf("%s is not what the format says (%v): go test ./flow -run ThePageOfTheFormat -rewrite", path, err)
	}
}

// Each field says what it is for.
func TestEachFieldSaysWhatItIsFor(t *testing.T) {
	for line := range strings.Lines(formatPage()) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| `") && len(cells) == 4 && strings.Trim(cells[3], " |\n") == "" {
			t.Errorf("nothing is said of %s", cells[0])
		}
	}
}

func formatPage() string {
	var b strings.Builder
	b.WriteString(`# The format of flows, field by field

All fields that a flow may have, for looking things up; [flows.md](flows.md) tells how they work together. Whoever writes
flows in an editor gets the same from the JSON Schema: ` + "`pawl schema`" + `. A field that is not listed is refused.
This page is made by the tests of package flow of the data by which flows are checked.

`)
	section := func(level int, title, doc string, attrs []attr) {
		fmt.Fprintf(&b, "%s %s\n\n", strings.Repeat("#", level), title)
		if doc != "" {
			b.WriteString(doc + "\n\n")
		}
		if len(attrs) > 0 {
			b.WriteString("| field | is | default | |\n|---|---|---|---|\n")
			rows(&b, "", attrs)
			b.WriteString("\n")
		}
	}
	section(2, "Flow", "", document.attrs)
	section(2, "Step", "Every step has these, whatever its type.", stepAttrs)
	for _, name := range stepTypeNames() {
		section(3, name, stepTypes[name].doc+" Its `config`:", stepTypes[name].attrs)
	}
	section(2, "Trigger", "`type` says which one it is.", nil)
	for _, name := range slices.Sorted(maps.Keys(triggerTypes)) {
		section(3, name, triggerTypes[name].doc, triggerTypes[name].attrs)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// rows writes fields, and those of the objects in them under their names.
func rows(b *strings.Builder, of string, attrs []attr) {
	for _, a := range attrs {
		doc, usual := a.doc, ""
		below, is := a.is.(record)
		if is && doc == "" {
			doc = below.doc
		}
		switch {
		case a.required:
			usual = "required"
		case a.usual != nil:
			usual = "`" + strings.Trim(fmt.Sprint(a.usual), "[]") + "`"
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", of, a.name, kindWords(a.is), usual, strings.ReplaceAll(doc, "|", "\\|"))
		if is {
			rows(b, of+a.name+".", below.attrs)
		}
		for _, item := range itemRecords(a.is) {
			rows(b, of+a.name+"[].", item.attrs)
		}
	}
}

// itemRecords are the objects that a list holds.
func itemRecords(s shape) (out []record) {
	switch s := s.(type) {
	case list:
		if r, is := s.of.(record); is {
			return []record{r}
		}
		return itemRecords(s.of)
	case either:
		for _, one := range s {
			if r, is := one.(record); is {
				out = append(out, r)
			}
			out = append(out, itemRecords(one)...)
		}
	}
	return out
}

// kindWords says in a few words what a value may be.
func kindWords(s shape) string {
	switch s := s.(type) {
	case text:
		if s.one != nil {
			return "`" + strings.Join(s.one, "` `") + "`"
		}
		if s.most > 0 {
			return "text, up to " + digits(float64(s.most))
		}
		return "text"
	case num:
		word, least := "number", fmt.Sprint(s.least)
		if s.whole {
			word = "whole number"
		}
		if s.aboveLeast {
			least = "above " + least
		}
		if s.most >= s.least {
			return fmt.Sprintf("%s, %s to %s", word, least, digits(s.most))
		}
		return fmt.Sprintf("%s, from %s", word, least)
	case anyNumber:
		return "number"
	case truth:
		return "`true` `false`"
	case jsonSchema:
		return "JSON Schema"
	case list:
		if s.most > 0 {
			return fmt.Sprintf("list of up to %s: %s", digits(float64(s.most)), kindWords(s.of))
		}
		return "list: " + kindWords(s.of)
	case table:
		return "object: " + kindWords(s.of)
	case either:
		var all []string
		for _, one := range s {
			all = append(all, kindWords(one))
		}
		return strings.Join(all, ", or ")
	case record:
		return "object"
	case named:
		return "[step](#step)"
	case triggerShape:
		return "[trigger](#trigger)"
	}
	return "anything"
}

// digits is a whole number as people write it.
func digits(n float64) string {
	text := fmt.Sprintf("%.0f", n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
