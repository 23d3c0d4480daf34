package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sort"
	"strings"
)

// Limits of attributes.
const (
	maxAttrs     = 64
	maxAttrName  = 256 // bytes
	maxAttrValue = 256 // bytes
)

// SetAttributes sets attributes of the run, by which runs can be found: at most 64, names
// and values of at most 256 bytes. A value that is not a string is stored as its JSON; nil
// unsets. Names that start with $ are pawl's own. Attributes stay when the run fails.
func (c *Context) SetAttributes(m map[string]any) error {
	b, r := c.b, c.b.r
	if err := b.enter("SetAttributes", ""); err != nil {
		return err
	}
	defer b.exit()
	attrs, err := attributes(m)
	if err != nil {
		return err
	}
	key := b.nextKey("$attributes")
	if c.recorded(KindAttributes, key) != nil {
		return nil
	}
	if err := c.act(); err != nil {
		return err
	}
	if err := r.knowAttrs(); err != nil {
		return err
	}
	var full error
	at := now()
	b.commit(func(ch *Change) {
		if full = r.countAttrs(attrs); full == nil {
			ch.Entries = append(ch.Entries, Entry{Seq: r.nextSeq(), Kind: KindAttributes, Key: key, At: at, Data: mustJSON(m)})
			ch.Attrs = attrs
		}
	})
	if full == nil {
		b.tell(at)
	}
	return full
}

// SetAttributes sets attributes of the run from the body of a step: others see them while it
// is under way. They are durable when it returns, and what a failed attempt has set stays.
// ctx must be that of the body: ErrMisuse.
func SetAttributes(ctx context.Context, m map[string]any) error {
	s, _ := ctx.Value(stepKey{}).(*stepContext)
	if s == nil {
		return &MisuseError{Call: "SetAttributes", Why: "it needs the context that a step's body was given; a workflow function has Context.SetAttributes"}
	}
	attrs, err := attributes(m)
	if err != nil {
		return err
	}
	r := s.r
	if err := r.knowAttrs(); err != nil {
		return err
	}
	r.mu.Lock()
	if r.dead.Load() || r.phase == ending {
		r.mu.Unlock()
		return context.Cause(r.ctx)
	}
	if err := r.countAttrs(attrs); err != nil {
		r.mu.Unlock()
		return err
	}
	ch := r.collect(&Change{})
	// The attempt marks it as a body's: no replay asks for it.
	ch.Entries = append(ch.Entries, Entry{Seq: r.nextSeq(), Kind: KindAttributes, Key: s.key, Attempt: s.attempt, At: now(), Data: mustJSON(m)})
	ch.Attrs = attrs
	it := &item{worker: r.worker, change: ch, wake: make(chan signal, 1)}
	first := r.e.pipe.put(it)
	r.mu.Unlock()
	r.e.pipe.wait(it, first)
	if err := errors.Join(it.err, ch.Err); err != nil {
		r.lost(err)
		return err
	}
	r.e.watch.touch(r.info.Key)
	return nil
}

// knowAttrs learns which attributes the run has.
func (r *live) knowAttrs() error {
	r.mu.Lock()
	known := r.attrs != nil
	r.mu.Unlock()
	if known {
		return nil
	}
	info, err := r.e.store.Lookup(context.Background(), r.info.Tenant, r.info.ID)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.attrs == nil {
		r.attrs = map[string]bool{}
		for name := range info.Attrs {
			r.attrs[name] = true
		}
	}
	return nil
}

// countAttrs refuses more attributes than a run may have. Caller holds mu.
func (r *live) countAttrs(attrs []Attr) error {
	after := maps.Clone(r.attrs)
	for _, a := range attrs {
		if a.Value == nil {
			delete(after, a.Name)
		} else {
			after[a.Name] = true
		}
	}
	if len(after) > maxAttrs {
		return &TooLargeError{What: "the set of the run's attributes", Size: len(after), Limit: maxAttrs}
	}
	r.attrs = after
	return nil
}

func attributes(m map[string]any) ([]Attr, error) {
	if len(m) > maxAttrs {
		return nil, &TooLargeError{What: "the set of attributes", Size: len(m), Limit: maxAttrs}
	}
	var out []Attr
	for name, v := range m {
		switch {
		case name == "" || strings.HasPrefix(name, "$"):
			return nil, fmt.Errorf("%w: attribute %q: names are not empty and do not start with $", ErrInput, name)
		case !isText(name):
			return nil, fmt.Errorf("%w: attribute %q: names are UTF-8 without NUL", ErrInput, name)
		case len(name) > maxAttrName:
			return nil, &TooLargeError{What: fmt.Sprintf("the name of attribute %.20q…", name), Size: len(name), Limit: maxAttrName}
		}
		a := Attr{Name: name}
		if v != nil {
			s, ok := v.(string)
			if !ok {
				data, err := json.Marshal(v)
				if err != nil {
					return nil, &EncodingError{What: "attribute " + name, Path: "value", Err: err}
				}
				s = string(data)
			}
			if len(s) > maxAttrValue {
				return nil, &TooLargeError{What: "attribute " + name, Size: len(s), Limit: maxAttrValue}
			}
			if !isText(s) {
				return nil, fmt.Errorf("%w: attribute %s: values are UTF-8 without NUL, this one is %.40q", ErrInput, name, s)
			}
			a.Value = &s
		}
		out = append(out, a)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

type versionEntry struct {
	Version int `json:"version"`
}

// Version tells which side of a change to the workflow's code this run is on: 0 for runs
// that passed this place before the change was made, up to max for new ones. The answer is
// recorded. Change the code like this, and drop the old side when no run needs it:
//
//	if c.Version("ask-twice", 1) >= 1 { new } else { old }
//
// A run recorded on a version above max is blocked: its code was rolled back.
func (c *Context) Version(change string, max int) int {
	b, r := c.b, c.b.r
	if err := b.enter("Version", change); err != nil {
		panic(err)
	}
	defer b.exit()
	key := change
	if b.path != "" {
		key = b.path + "/" + change
	}
	dir := strings.LastIndexByte(key, '/') + 1
	key = key[:dir] + "$version:" + escape.Replace(key[dir:])
	r.mu.Lock()
	n, known := r.versions[key]
	r.mu.Unlock()
	if known {
		return n
	}
	v := versionEntry{Version: max}
	if e := c.recorded(KindVersion, key); e != nil {
		if err := decode("a version's entry", e.Data, &v); err != nil || v.Version > max {
			r.block(fmt.Sprintf("the code no longer fits the journal: the run follows version %d of %q, the code knows up to %d", v.Version, change, max))
			panic(err)
		}
	} else {
		r.mu.Lock()
		if r.replaying.Load() && r.past.perPath[b.path] > 0 {
			v.Version = 0
		}
		r.note(Entry{Kind: KindVersion, Key: key, At: now(), Data: mustJSON(v)})
		r.mu.Unlock()
	}
	r.mu.Lock()
	if r.versions == nil {
		r.versions = map[string]int{}
	}
	r.versions[key] = v.Version
	r.mu.Unlock()
	return v.Version
}
