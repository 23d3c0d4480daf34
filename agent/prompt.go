package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Prompt is a named text with variables. {{name}} is where the variable of that name goes,
// {{untrusted name}} where its value goes between the tags of [Untrusted]; {{{{ is two
// braces. What a value holds is never looked at for variables.
type Prompt struct {
	Name string `json:"name"` // 1 to 100 letters, digits, ".", "_" and "-"
	Text string `json:"text"` // at most 256 KiB
	// Vars are the names of the variables that it is filled in with, at most 100. Text may
	// leave some of them out, as one of two versions that are compared might. Nil means those
	// that Text has.
	Vars []string `json:"vars,omitempty"`

	// Of a prompt without Text, where it is filled in:
	Version int  `json:"-"` // this one, whatever is active; 0: the one that the run gets
	Loose   bool `json:"-"` // there may be more variables than it declares
}

// PromptUse tells which version of a prompt a call used.
type PromptUse struct {
	Name    string `json:"name"`
	Version int    `json:"version"` // from 1
	Hash    string `json:"hash"`    // SHA-256, in hex, of the text and the variables
}

// PromptVersion is one version of a prompt. It never changes.
type PromptVersion struct {
	PromptUse
	Text string    `json:"text,omitempty"`
	Vars []string  `json:"vars,omitempty"`
	At   time.Time `json:"at"` // when it was put
}

// PromptInfo tells of a prompt, without its texts.
type PromptInfo struct {
	Name     string          `json:"name"`
	Versions []PromptVersion `json:"versions"` // oldest first; Text and Vars are left out
	// Active is what runs get now. Nil: each program's own text.
	Active *Activation `json:"active,omitempty"`
	// History has the activations, oldest first, the last 100 of them. The last is Active.
	History []Activation `json:"history"`
	// Revision grows with each change. See Activation.
	Revision int64 `json:"revision"`
}

// Activation says which version runs get.
type Activation struct {
	// Weights of versions: how large a part of the runs gets each. One version alone gets all
	// of them, whatever its weight, which is 1 to 1,000,000. At most 20.
	Weights map[int]int `json:"weights"`
	By      string      `json:"by,omitempty"` // who did it, for people
	// Revision, if not 0, is the PromptInfo.Revision that this was decided on: when the prompt
	// was changed since, it is ErrConflict.
	Revision int64 `json:"-"`

	Since time.Time `json:"since"`          // answer
	Seq   int       `json:"seq"`            // answer: its number, from 1
	Under int       `json:"under,omitzero"` // answer: the Seq that a rollback goes back to; 0: none
}

const maxPromptName = 100

// version checks p.
func (p Prompt) version() (PromptVersion, error) {
	v := PromptVersion{Text: p.Text, Vars: append([]string{}, p.Vars...)}
	slices.Sort(v.Vars)
	if why := badName(p.Name); why != "" {
		return v, &PromptError{Prompt: p.Name, Why: why}
	}
	t, err := parseTemplate(p.Text)
	if err != nil {
		return v, &PromptError{Prompt: p.Name, Why: err.Error()}
	}
	if p.Vars == nil {
		v.Vars = append(v.Vars, t.vars()...)
	}
	if len(v.Vars) > maxVars {
		return v, &PromptError{Prompt: p.Name, Why: fmt.Sprintf("it has %d variables, the limit is %d", len(v.Vars), maxVars)}
	}
	for i, name := range v.Vars {
		if !isVarName(name) || i > 0 && v.Vars[i-1] == name {
			return v, &PromptError{Prompt: p.Name, Why: fmt.Sprintf("it declares %.80q, which is no name of a variable or is there twice", name)}
		}
	}
	for _, name := range t.vars() {
		if !slices.Contains(v.Vars, name) {
			return v, &PromptError{Prompt: p.Name, Why: fmt.Sprintf("its text has the variable %q, which it does not declare; it declares %s", name, list(v.Vars))}
		}
	}
	data, err := json.Marshal([]any{p.Text, v.Vars})
	sum := sha256.Sum256(data)
	v.PromptUse = PromptUse{Name: p.Name, Hash: hex.EncodeToString(sum[:])}
	return v, err
}

func badName(name string) string {
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)) {
			return "names are letters, digits, \".\", \"_\" and \"-\""
		}
	}
	if name == "" || len(name) > maxPromptName {
		return fmt.Sprintf("names have 1 to %d letters", maxPromptName)
	}
	return ""
}
