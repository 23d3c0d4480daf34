package flow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"
)

// Comparison is what one document says otherwise than another.
type Comparison struct {
	Changes []Change `json:"changes"` // in the order of the new document; none: they say the same
	Text    string   `json:"text"`    // the same as a unified diff of both, written one way; "": they say the same
}

// Change is one difference.
type Change struct {
	Kind    string          `json:"kind"`            // added, removed, changed
	What    string          `json:"what"`            // flow, trigger, or the step with those around it: step fan/left/ask
	Field   string          `json:"field,omitempty"` // of it: config.prompt; "": all of it
	Pointer string          `json:"pointer"`         // RFC 6901, into the new document; of what was removed, into the old
	Old     json.RawMessage `json:"old,omitempty"`
	New     json.RawMessage `json:"new,omitempty"`
}

func (c Change) String() string {
	at := c.What
	if c.Field != "" {
		at += " " + c.Field
	}
	switch c.Kind {
	case "added":
		return fmt.Sprintf("+ %s: %s", at, clip(string(c.New), 300))
	case "removed":
		return fmt.Sprintf("- %s: %s", at, clip(string(c.Old), 300))
	}
	return fmt.Sprintf("~ %s: %s → %s", at, clip(string(c.Old), 300), clip(string(c.New), 300))
}

// String is a line for each change.
func (c Comparison) String() string {
	var lines []string
	for _, one := range c.Changes {
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "\n")
}

// Compare says what a document says otherwise than an old one. Steps are the same if their ids are, wherever they stand.
// The documents may have faults, but must be objects. The numbers of their versions are left out. The error is of type
// [Problems].
func Compare(old, now []byte) (Comparison, error) {
	a, err := contents(old)
	if err != nil {
		return Comparison{}, fmt.Errorf("the old flow: %w", err)
	}
	b, err := contents(now)
	if err != nil {
		return Comparison{}, fmt.Errorf("the new flow: %w", err)
	}
	k := &comparing{changes: []Change{}}
	k.objects(a, b, "flow", "")
	return Comparison{Changes: k.changes, Text: udiff.Unified("old", "new", written(a), written(b))}, nil
}

// contents is a document without what says nothing of the flow.
func contents(data []byte) (*node, error) {
	root, err := readObject(data)
	if err != nil {
		return nil, err
	}
	root.fields = slices.DeleteFunc(root.fields, func(f field) bool { return f.name == "version" || f.name == "$schema" })
	return root, nil
}

// written is a node as text, written one way.
func written(n *node) string {
	var flat, b bytes.Buffer
	n.canonical(&flat)
	if json.Indent(&b, flat.Bytes(), "", "  ") != nil {
		return "" // it is JSON
	}
	b.WriteByte('\n')
	return b.String()
}

// comparing gathers changes.
type comparing struct{ changes []Change }

func (k *comparing) add(old, now *node, what, field string) {
	c := Change{Kind: "changed", What: what, Field: field}
	var at *node
	if old != nil {
		c.Old, at = flat(old), old
	}
	if now != nil {
		c.New, at = flat(now), now
	}
	switch {
	case old == nil:
		c.Kind = "added"
	case now == nil:
		c.Kind = "removed"
	}
	c.Pointer = at.pointer()
	k.changes = append(k.changes, c)
}

func flat(n *node) json.RawMessage {
	var b bytes.Buffer
	n.canonical(&b)
	return b.Bytes()
}

func (k *comparing) values(old, now *node, what, field string) {
	switch {
	case old == nil && now == nil:
	case old == nil || now == nil || old.kind != now.kind:
		k.add(old, now, what, field)
	case old.kind == objectKind:
		k.objects(old, now, what, field)
	case identified(old) && identified(now):
		k.named(old, now, what, field)
	case !bytes.Equal(flat(old), flat(now)):
		k.add(old, now, what, field)
	}
}

func (k *comparing) objects(old, now *node, what, field string) {
	below := func(name string) (string, string) {
		if what == "flow" && field == "" && (name == "trigger" || name == "triggers" || name == "limits" || name == "inputs") {
			return name, ""
		}
		return what, strings.TrimPrefix(field+"."+name, ".")
	}
	for _, f := range now.fields {
		w, at := below(f.name)
		k.values(old.get(f.name), f.value, w, at)
	}
	for _, f := range old.fields {
		if now.get(f.name) == nil {
			w, at := below(f.name)
			k.values(f.value, nil, w, at)
		}
	}
}

// identified reports whether a list holds objects, each with an id of its own: steps, or branches.
func identified(list *node) bool {
	if list.kind != listKind {
		return false
	}
	seen := map[string]bool{}
	for _, item := range list.items {
		id := item.get("id").str()
		if id == "" || seen[id] {
			return false
		}
		seen[id] = true
	}
	return true
}

func byID(list *node) map[string]*node {
	by := make(map[string]*node, len(list.items))
	for _, item := range list.items {
		by[item.get("id").str()] = item
	}
	return by
}

// named compares steps, or branches, by their ids.
func (k *comparing) named(old, now *node, what, field string) {
	name := func(id string) string {
		switch {
		case field == "steps" && what == "flow":
			return "step " + id
		case field == "steps" || strings.HasSuffix(field, ".steps") || strings.HasSuffix(field, "branches"):
			return what + "/" + id
		}
		return what + " " + field + "/" + id
	}
	before, after := byID(old), byID(now)
	for _, item := range now.items {
		id := item.get("id").str()
		k.values(before[id], item, name(id), "")
	}
	for _, item := range old.items {
		if id := item.get("id").str(); after[id] == nil {
			k.values(item, nil, name(id), "")
		}
	}
	first := func(list *node) *node {
		if len(list.items) == 0 {
			return nil
		}
		return list.items[0].get("id")
	}
	if a, b := first(old), first(now); strings.HasSuffix(field, "steps") && a.str() != b.str() {
		k.add(a, b, what, strings.TrimPrefix(strings.TrimSuffix(field, "steps")+"first step", "."))
	}
}
