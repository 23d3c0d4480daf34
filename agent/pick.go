package agent

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/pawlrun/pawl"
)

// Rendered is a prompt with its variables filled in, and where it came from. Return it, or
// its PromptUse, as part of what a step returns: so the journal tells which version each
// call used.
type Rendered struct {
	PromptUse
	Text string `json:"text"`
}

// Render fills in the version of p that the run gets: of those that are active the one that
// falls to it by weight, or, while none is active, p's own text, which is put when it is not
// stored yet. A run gets the same version in each of its steps as long as the weights
// stay; when they change, no more runs change over than must. A p without Text stands for the
// prompt of that name in the store.
//
// Call it in the body of a step, with the context that the body was given: what is active may
// change at any time, so the choice must be recorded with the step's result. A replay then
// does not choose again; an attempt that follows a failed one does. Elsewhere it is
// pawl.ErrMisuse.
//
// vars are exactly the variables that the version declares: one that is missing, null, or
// too many is a *PromptError that names it. Strings are put in as they are, everything else
// as JSON. The whole may have 1 MiB. ErrState: no version is active and p has no Text.
func (p Prompt) Render(ctx context.Context, vars map[string]any) (Rendered, error) {
	e := pawl.EngineOf(ctx)
	if e == nil {
		return Rendered{}, &pawl.MisuseError{Call: fmt.Sprintf("Prompt.Render of %q", p.Name), Why: "it needs the context that a step's body was given, so that the choice of a version is recorded"}
	}
	return p.renderFor(ctx, e, pawl.InfoOf(ctx).RunID, vars)
}

// renderFor fills in the version of p that a run gets.
func (p Prompt) renderFor(ctx context.Context, e *pawl.Engine, run string, vars map[string]any) (Rendered, error) {
	s := Prompts{e}
	h, err := s.head(ctx, p.Name)
	if err != nil && (p.Text == "" || !errors.Is(err, pawl.ErrNotFound)) {
		return Rendered{}, err
	}
	var v PromptVersion
	if p.Text == "" && p.Version > 0 {
		v, err = s.Version(ctx, p.Name, p.Version)
	} else if number := h.pick(p.Name, run); number > 0 {
		v, err = s.Version(ctx, p.Name, number)
	} else if p.Text == "" {
		err = noneActive(p.Name)
	} else {
		v, err = s.Put(ctx, p)
	}
	if err != nil {
		return Rendered{}, err
	}
	if p.Loose {
		vars = maps.Clone(vars)
		maps.DeleteFunc(vars, func(name string, _ any) bool { return !slices.Contains(v.Vars, name) })
	}
	return v.Render(vars)
}

// Pick returns the version that falls to key, such as a run's id, of those that are active.
// It is for programs that are no run, such as one that shows a prompt; in a step use
// [Prompt.Render]. ErrState: none is active.
func (s Prompts) Pick(ctx context.Context, name, key string) (PromptVersion, error) {
	h, err := s.head(ctx, name)
	if err != nil {
		return PromptVersion{}, err
	}
	number := h.pick(name, key)
	if number == 0 {
		return PromptVersion{}, noneActive(name)
	}
	return s.Version(ctx, name, number)
}

func noneActive(name string) error {
	return fmt.Errorf("%w: no version of prompt %q is active: activate one", pawl.ErrState, name)
}

// Render fills in the version's variables, as [Prompt.Render] says.
func (v PromptVersion) Render(vars map[string]any) (Rendered, error) {
	t, err := parseTemplate(v.Text)
	text := ""
	if err == nil {
		text, err = t.render(v.Vars, vars)
	}
	if err != nil {
		return Rendered{}, &PromptError{Prompt: v.Name, Version: v.Version, Why: err.Error()}
	}
	return Rendered{PromptUse: v.PromptUse, Text: text}, nil
}

// pick returns the active version that falls to key, or 0. Each version draws a lot for the
// key, better ones the more it weighs, and the best wins: a version whose weight grows wins
// keys and loses none, and those that it wins nobody else could have.
func (h *head) pick(name, key string) (version int) {
	last := h.last()
	if last == nil {
		return 0
	}
	best := 0.0
	for v, weight := range last.Weights {
		lot := float64(weight) / -math.Log(draw(name, key, v))
		if version == 0 || lot > best || lot == best && v < version {
			version, best = v, lot
		}
	}
	return version
}

// draw returns a number between 0 and 1, neither of them, that is as good as random.
func draw(name, key string, version int) float64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s", name, version, key))
	return (float64(binary.BigEndian.Uint64(sum[:8])>>11) + 0.5) / (1 << 53)
}
