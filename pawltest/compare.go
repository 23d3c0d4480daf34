package pawltest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

// runOutcome is what came of one run, with names in place of ids and tokens that are
// different each time.
type runOutcome struct {
	name      string // "run", "run/$child:ship", "run+" for what it continued as
	id        string
	workflow  string
	state     pawl.State
	reason    string
	result    json.RawMessage
	attrs     map[string]string
	keys      map[string]int // of the journal, with kinds
	drift     string
	streams   map[string]string
	fromSteps map[string]bool // streams that bodies write too: a body that runs twice writes twice
}

// instant is a time as it stands in the text of errors.
var instant = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)

// outcomes reads what came of all runs. root is the id of the first.
func (l *ledger) outcomes(root string) ([]*runOutcome, error) {
	infos, err := l.all()
	if err != nil {
		return nil, err
	}
	names := runNames(infos, root)
	var renames []string
	for _, info := range infos {
		renames = append(renames, info.ID, "<"+names[info.Key]+">")
	}
	var out []*runOutcome
	journals := map[int64][]pawl.Entry{}
	for _, info := range infos {
		entries, err := l.journal(info.Key)
		if err != nil {
			return nil, err
		}
		journals[info.Key] = entries
		for _, e := range entries {
			var hook struct {
				Token string `json:"token"`
			}
			if e.Kind == pawl.KindHook && !e.Failed && json.Unmarshal(e.Data, &hook) == nil && hook.Token != "" {
				renames = append(renames, hook.Token, "<token of "+names[info.Key]+"/"+e.Key+">")
			}
		}
	}
	rename := strings.NewReplacer(renames...).Replace
	for _, info := range infos {
		r := &runOutcome{
			name: names[info.Key], id: info.ID, workflow: info.Workflow, state: info.State, reason: instant.ReplaceAllString(rename(info.Reason), "<time>"),
			attrs: map[string]string{}, keys: map[string]int{}, streams: map[string]string{}, fromSteps: map[string]bool{},
		}
		for k, v := range info.Attrs {
			r.attrs[k] = rename(v)
		}
		chunks := 0
		for i := range journals[info.Key] {
			e := &journals[info.Key][i]
			switch e.Kind {
			case pawl.KindDrift:
				r.drift = string(e.Data)
			case pawl.KindNote: // of an attempt that a crash cut off there may be one more; none may be lost
				r.keys[entryName(e)] = 1
			case pawl.KindResult:
				if !e.Failed {
					r.result = json.RawMessage(rename(string(compact(e.Data))))
				}
				fallthrough
			default:
				if counts(e) {
					r.keys[entryName(e)]++
				}
			case pawl.KindChunk:
				chunks++
				r.keys[entryName(e)]++
			}
		}
		if err := l.streams(info.Key, chunks, rename, r); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// counts tells whether an entry must be in every good run's journal. Attempts that failed
// may have been lost and made again; a wait for an event that is there already has no end to
// record; orders come when they come; and how far a branch came that is cancelled by
// another is a matter of timing, which has no other consequence than that it slept.
func counts(e *pawl.Entry) bool {
	switch e.Kind {
	case pawl.KindAttempt, pawl.KindOrder:
		return false
	case pawl.KindSleep:
		return !strings.Contains(e.Key, "/")
	case pawl.KindScope:
		return !strings.Contains(e.Key, "/") && !strings.HasSuffix(e.Key, ".until") && !strings.HasSuffix(e.Key, ".first")
	}
	return true
}

func compact(data []byte) []byte {
	var buf bytes.Buffer
	if json.Compact(&buf, data) != nil {
		return data
	}
	return buf.Bytes()
}

// streams reads what is in the streams of a run whose workflow function wrote so many
// chunks.
func (l *ledger) streams(run int64, chunks int, rename func(string) string, r *runOutcome) error {
	infos, err := l.base.Streams(context.Background(), run)
	if err != nil {
		return err
	}
	all := 0
	for _, s := range infos {
		var text strings.Builder
		for from := int64(0); ; {
			page, err := l.base.Chunks(context.Background(), run, s.Name, from, 256)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			for _, c := range page {
				all++
				from = c.Index + 1
				if c.Closed {
					text.WriteString("(closed)")
				} else {
					text.WriteString(rename(string(c.Data)) + "\n")
				}
			}
		}
		r.streams[s.Name] = text.String()
	}
	if all > chunks { // bodies wrote too
		r.streams = nil
	}
	return nil
}

// runNames names runs by how they came to be.
func runNames(infos []pawl.RunInfo, root string) map[int64]string {
	names := map[int64]string{}
	byID := map[string]int64{}
	before := map[string]int64{} // by the id of the run that goes on
	for _, info := range infos {
		byID[info.ID] = info.Key
		if info.Next != "" {
			before[info.Next] = info.Key
		}
	}
	taken := map[string]int{}
	for _, info := range infos { // in the order of their start: what a name builds on has one
		name := info.ID
		switch {
		case info.ID == root:
			name = "run"
		case before[info.ID] != 0:
			name = names[before[info.ID]] + "+"
		case info.ParentRun != 0:
			name = names[info.ParentRun] + "/" + info.ParentKey
		case strings.HasPrefix(info.ID, "run_"): // started from outside, or by a step that gave no id
			name = info.Workflow
		}
		if taken[name]++; taken[name] > 1 {
			name = fmt.Sprintf("%s (no. %d)", name, taken[name])
		}
		names[info.Key] = name
	}
	return names
}

// compare says in what a run with a crash differs from the undisturbed one, and whether
// the difference looks like code that is not determined.
func (p *plan) compare(want, got *outcome) (wrong []string, fickle bool) {
	wrong = slices.Clone(got.problems)
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	byName := map[string]*runOutcome{}
	for _, r := range got.runs {
		byName[r.name] = r
	}
	for _, w := range want.runs {
		g := byName[w.name]
		delete(byName, w.name)
		if g == nil {
			say("%s of %s was started in the undisturbed run, and was not here", w.name, w.workflow)
			continue
		}
		if p.compareRun(w, g, say) {
			fickle = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		say("%s of %s was started here, and was not in the undisturbed run", name, byName[name].workflow)
	}
	if only, missing := differ(count(got.effects), count(want.effects)); only+missing != "" {
		say("effects: %s", sides(only, missing))
	}
	return wrong, fickle
}

// compareRun tells whether the run's code seems not to be determined.
func (p *plan) compareRun(w, g *runOutcome, say func(string, ...any)) (fickle bool) {
	switch {
	case g.state != w.state:
		say("%s is %s, the undisturbed one %s%s", g.name, why(g), w.state, reasonOf(w))
		fickle = g.state == pawl.Blocked
	case g.reason != w.reason:
		say("%s is %s, the undisturbed one %s", g.name, why(g), why(w))
	case !p.equal(w.workflow, w.result, g.result):
		say("%s returned %s, undisturbed %s", g.name, short(string(g.result)), short(string(w.result)))
	}
	if g.drift != "" {
		say("%s, run again from its journal, did not ask for what is recorded there: %s", g.name, short(g.drift))
		fickle = true
	}
	keep := func(keys map[string]int) map[string]int {
		out := map[string]int{}
		for name, n := range keys {
			_, key, _ := strings.Cut(name, " ")
			if !p.ignore(w.workflow, strings.TrimSuffix(key, " (failed)")) {
				out[name] = n
			}
		}
		return out
	}
	if only, missing := differ(keep(g.keys), keep(w.keys)); only+missing != "" {
		say("the journal of %s: %s", g.name, sides(only, missing))
		fickle = true
	}
	if !maps.Equal(g.attrs, w.attrs) {
		say("%s has the attributes %v, undisturbed %v", g.name, g.attrs, w.attrs)
	}
	if g.streams != nil && w.streams != nil && !maps.Equal(g.streams, w.streams) {
		say("%s has written the streams %q, undisturbed %q", g.name, g.streams, w.streams)
	}
	return fickle
}

func why(r *runOutcome) string { return r.state.String() + reasonOf(r) }

func reasonOf(r *runOutcome) string {
	if r.reason == "" {
		return ""
	}
	return " (" + r.reason + ")"
}

func count(all []string) map[string]int {
	out := map[string]int{}
	for _, s := range all {
		out[s]++
	}
	return out
}

// differ lists what is in got more often than in want, and the other way round.
func differ(got, want map[string]int) (only, missing string) {
	more := func(a, b map[string]int) string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(a)) {
			switch {
			case a[k] <= b[k]:
			case b[k] > 0:
				out = append(out, fmt.Sprintf("%s (%d times, not %d)", k, a[k], b[k]))
			default:
				out = append(out, k)
			}
		}
		return strings.Join(out, ", ")
	}
	return more(got, want), more(want, got)
}

func sides(only, missing string) string {
	var parts []string
	if only != "" {
		parts = append(parts, "only here: "+only)
	}
	if missing != "" {
		parts = append(parts, "only undisturbed: "+missing)
	}
	return strings.Join(parts, "; ")
}
