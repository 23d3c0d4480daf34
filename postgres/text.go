package postgres

import (
	"crypto/rand"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
)

// maxIndexed is how many bytes an indexed text may have: PostgreSQL refuses rows of an
// index that are longer than a third of a page.
const maxIndexed = 1000

// isText reports whether PostgreSQL takes s as text: valid UTF-8 without NUL.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// clean makes s text. It is for texts that people read, and for those that are looked for:
// what is not text is nowhere.
func clean(s string) string {
	if isText(s) {
		return s
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}

func cleanAll(list []string) []string {
	for i := range list {
		list[i] = clean(list[i])
	}
	return list
}

func unfit(what, s string) error {
	switch {
	case len(s) > maxIndexed:
		return &pawl.TooLargeError{What: what, Size: len(s), Limit: maxIndexed}
	case !isText(s):
		return fmt.Errorf("%w: %s is not UTF-8 without NUL: %q", pawl.ErrInput, what, s)
	}
	return nil
}

// unfitStart says why a start can't be stored; nil: it can.
func unfitStart(st *pawl.Start) error {
	r := &st.Run
	for _, f := range []struct{ what, s string }{
		{"a run's id", r.ID}, {"a tenant", r.Tenant}, {"a workflow's name", r.Workflow}, {"a workflow's version", r.Version},
		{"a singleton key", r.Single}, {"the id of the forked run", r.ForkedFrom}, {"a trace", r.Trace},
	} {
		if err := unfit(f.what, f.s); err != nil {
			return err
		}
	}
	if !isText(r.ParentKey) {
		return fmt.Errorf("%w: the key %q is not UTF-8 without NUL", pawl.ErrInput, r.ParentKey)
	}
	for _, l := range r.Limits {
		if err := unfit("a limit's key", l.Key); err != nil {
			return err
		}
	}
	return unfitAttrs(r.Attrs)
}

func unfitAttrs(attrs []pawl.Attr) error {
	for _, a := range attrs {
		if err := unfit("an attribute's name", a.Name); err != nil {
			return err
		}
		if a.Value != nil && len(*a.Value) > maxIndexed {
			return &pawl.TooLargeError{What: "attribute " + a.Name, Size: len(*a.Value), Limit: maxIndexed}
		}
	}
	return nil
}

// unfitChange says why a change can't be stored; nil: it can.
func unfitChange(ch *pawl.Change) error {
	key := func(s string) error {
		if !isText(s) {
			return fmt.Errorf("%w: the key %q is not UTF-8 without NUL", pawl.ErrInput, s)
		}
		return nil
	}
	for i := range ch.Entries {
		if err := key(ch.Entries[i].Key); err != nil {
			return err
		}
	}
	for _, w := range ch.Waits {
		if err := key(w.Key); err != nil {
			return err
		}
		if err := unfit("an event's name", w.Event); err != nil {
			return err
		}
	}
	for _, r := range ch.Reserves {
		if !isText(r.Key) || !isText(r.Meter) || !isText(r.Item) {
			return fmt.Errorf("%w: what is reserved for step %q is not UTF-8 without NUL", pawl.ErrInput, r.Key)
		}
	}
	for i := range ch.Hooks {
		if err := key(ch.Hooks[i].Key); err != nil {
			return err
		}
		if err := unfit("a hook's token", ch.Hooks[i].Token); err != nil {
			return err
		}
	}
	for _, keys := range [][]string{ch.Unwaits, ch.Unhooks} {
		for _, k := range keys {
			if err := key(k); err != nil {
				return err
			}
		}
	}
	for i := range ch.Chunks {
		if err := unfit("a stream's name", ch.Chunks[i].Stream); err != nil {
			return err
		}
		if err := key(ch.Chunks[i].Step); err != nil {
			return err
		}
	}
	return unfitAttrs(ch.Attrs)
}

// newID makes an id for this Store.
func newID() string { return strings.ToLower(rand.Text()) }
