package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

const (
	promptSpace    = "agent.prompts"
	headKey        = "head/"
	textKey        = "text/"
	maxVersions    = 1000
	maxHistory     = 100
	maxArms        = 20
	maxWeight      = 1_000_000
	maxPutAttempts = 50
)

// Prompts keeps prompts in the store of an engine, under the records of space
// "agent.prompts". All its methods are safe for concurrent use, in many processes. A name
// that is not there is pawl.ErrNotFound.
type Prompts struct{ Engine *pawl.Engine }

// head is what is stored of a prompt beside its texts.
type head struct {
	Versions    []PromptVersion `json:"versions"` // without Text and Vars
	Activations []Activation    `json:"activations"`
	revision    int64
}

// Put stores a version of a prompt and returns it. The same text with the same variables is
// the same version, and is not stored twice. A new version is used by nobody until it is
// activated. A prompt has at most 1,000. A text that does not parse, or one with a variable that
// is not declared, is a *PromptError.
func (s Prompts) Put(ctx context.Context, p Prompt) (PromptVersion, error) {
	v, err := p.version()
	if err != nil {
		return v, err
	}
	for range maxPutAttempts { // others may put at the same moment; each failure means that one of them did
		h, err := s.head(ctx, p.Name)
		if err != nil && !errors.Is(err, pawl.ErrNotFound) {
			return v, err
		}
		for _, old := range h.Versions {
			if old.Hash == v.Hash {
				v.Version, v.At = old.Version, old.At
				return v, nil
			}
		}
		if len(h.Versions) >= maxVersions {
			return v, &PromptError{Prompt: p.Name, Why: fmt.Sprintf("it has %d versions already, no more are kept; use another name", maxVersions)}
		}
		v.Version, v.At = len(h.Versions)+1, time.Now().UTC()
		h.Versions = append(h.Versions, PromptVersion{PromptUse: v.PromptUse, At: v.At})
		text, err := json.Marshal(v)
		if err != nil {
			return v, err
		}
		err = s.write(ctx, p.Name, h, pawl.Put{Space: promptSpace, Key: versionKey(p.Name, v.Version), Data: text})
		if !errors.Is(err, pawl.ErrConflict) {
			return v, err
		}
	}
	return v, fmt.Errorf("put prompt %q: %w: others change it all the time", p.Name, pawl.ErrConflict)
}

// Activate lets runs get versions by weight, from now on. No Weights take control away from
// the store: each program uses its own text again. ErrNotFound: there is no such prompt or version.
// ErrConflict: someone changed the prompt at the same moment, or since Revision; nothing was
// changed: look at it again. Of two who activate at once, both are in the history or one
// has ErrConflict.
func (s Prompts) Activate(ctx context.Context, name string, a Activation) (PromptInfo, error) {
	h, err := s.headAt(ctx, name, a.Revision)
	if err != nil {
		return PromptInfo{}, err
	}
	if len(a.Weights) > maxArms {
		return PromptInfo{}, &PromptError{Prompt: name, Why: fmt.Sprintf("%d versions can't be active at once, the limit is %d", len(a.Weights), maxArms)}
	}
	for _, version := range slices.Sorted(maps.Keys(a.Weights)) {
		if version < 1 || version > len(h.Versions) {
			return PromptInfo{}, fmt.Errorf("%w: version %d of prompt %q; it has 1 to %d", pawl.ErrNotFound, version, name, len(h.Versions))
		}
		if w := a.Weights[version]; w < 1 || w > maxWeight {
			return PromptInfo{}, &PromptError{Prompt: name, Version: version, Why: fmt.Sprintf("its weight is %d, it must be 1 to %d", w, maxWeight)}
		}
	}
	if last := h.last(); last != nil {
		a.Under = last.Seq
	}
	return s.activate(ctx, name, h, a)
}

// Rollback undoes the newest activation that was not undone: what was active before it is
// active again. Rolling back twice goes two back. by and revision are as in [Activation].
// ErrState: nothing was active before, as far as the history goes. ErrConflict as for Activate.
func (s Prompts) Rollback(ctx context.Context, name, by string, revision int64) (PromptInfo, error) {
	h, err := s.headAt(ctx, name, revision)
	if err != nil {
		return PromptInfo{}, err
	}
	if last := h.last(); last != nil {
		for _, old := range h.Activations {
			if old.Seq == last.Under {
				return s.activate(ctx, name, h, Activation{Weights: old.Weights, By: by, Under: old.Under})
			}
		}
	}
	return PromptInfo{}, fmt.Errorf("%w: prompt %q has nothing to roll back to", pawl.ErrState, name)
}

func (s Prompts) activate(ctx context.Context, name string, h head, a Activation) (PromptInfo, error) {
	a.Since, a.Seq = time.Now().UTC(), 1
	if last := h.last(); last != nil {
		a.Seq = last.Seq + 1
	}
	h.Activations = append(h.Activations, a)
	h.Activations = h.Activations[max(0, len(h.Activations)-maxHistory):]
	if err := s.write(ctx, name, h); err != nil {
		return PromptInfo{}, err
	}
	return s.Get(ctx, name)
}

// Get tells of a prompt.
func (s Prompts) Get(ctx context.Context, name string) (PromptInfo, error) {
	h, err := s.head(ctx, name)
	return h.info(name), err
}

// Version returns a version with its text.
func (s Prompts) Version(ctx context.Context, name string, version int) (PromptVersion, error) {
	var v PromptVersion
	r, err := s.Engine.Record(ctx, promptSpace, versionKey(name, version))
	if err == nil {
		err = json.Unmarshal(r.Data, &v)
	}
	if err != nil {
		return v, fmt.Errorf("version %d of prompt %q: %w", version, name, err)
	}
	return v, nil
}

// List tells of all prompts, by name.
func (s Prompts) List(ctx context.Context) ([]PromptInfo, error) {
	var out []PromptInfo
	for after := ""; ; {
		page, err := s.Engine.Records(ctx, promptSpace, headKey, after, 100)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			h, err := headOf(r)
			if err != nil {
				return nil, err
			}
			out, after = append(out, h.info(strings.TrimPrefix(r.Key, headKey))), r.Key
		}
		if len(page) < 100 {
			return out, nil
		}
	}
}

func (s Prompts) head(ctx context.Context, name string) (head, error) {
	if why := badName(name); why != "" {
		return head{}, &PromptError{Prompt: name, Why: why}
	}
	r, err := s.Engine.Record(ctx, promptSpace, headKey+name)
	if err != nil {
		return head{}, fmt.Errorf("prompt %q: %w", name, err)
	}
	return headOf(r)
}

// headAt is head, if it is at that revision, or that is 0.
func (s Prompts) headAt(ctx context.Context, name string, revision int64) (head, error) {
	h, err := s.head(ctx, name)
	if err == nil && revision != 0 && revision != h.revision {
		err = fmt.Errorf("%w: prompt %q was changed since: look at it again", pawl.ErrConflict, name)
	}
	return h, err
}

func headOf(r pawl.Record) (head, error) {
	h := head{revision: r.Version}
	if err := json.Unmarshal(r.Data, &h); err != nil {
		return head{}, fmt.Errorf("record %q of %s: %w", r.Key, promptSpace, err)
	}
	return h, nil
}

// write stores h in place of what it was read as.
func (s Prompts) write(ctx context.Context, name string, h head, more ...pawl.Put) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = s.Engine.Write(ctx, append(more, pawl.Put{Space: promptSpace, Key: headKey + name, If: h.revision, Data: data})...)
	return err
}

func (h *head) last() *Activation {
	if len(h.Activations) == 0 {
		return nil
	}
	return &h.Activations[len(h.Activations)-1]
}

func (h *head) info(name string) PromptInfo {
	info := PromptInfo{Name: name, Versions: h.Versions, History: h.Activations, Revision: h.revision}
	if last := h.last(); last != nil && len(last.Weights) > 0 {
		info.Active = last
	}
	return info
}

func versionKey(name string, version int) string {
	return fmt.Sprintf("%s%s/%06d", textKey, name, version)
}
