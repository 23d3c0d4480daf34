package agent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Report is what a backtest has found.
type Report struct {
	Run    string `json:"run"`    // the run that asked: its journal has every answer
	Runs   int    `json:"runs"`   // that were looked into
	Asked  int    `json:"asked"`  // questions that were asked again
	Same   int    `json:"same"`   // with the same answer
	Failed int    `json:"failed"` // without an answer now; Kinds counts them
	// Kinds are the failures by their kind: invalid (no answer that is allowed, and it could not be mended), refused and the
	// others of package llm, unfit (the change does not fit the question: nobody was asked).
	Kinds map[string]int `json:"kinds,omitempty"`
	// Mended counts answers that the model had to mend before they could be read, MendedWas those of the past.
	Mended    int `json:"mended"`
	MendedWas int `json:"mendedWas"`
	// Without counts runs in which the step has asked nothing, Absent steps whose question or answer the journal does not have,
	// Unanswered those that had no answer then. None of them is asked again.
	Without    int `json:"without"`
	Absent     int `json:"absent"`
	Unanswered int `json:"unanswered"`
	// Unasked counts questions for which the budget had too little left. They are not among Asked.
	Unasked   int       `json:"unasked"`
	CostWas   int64     `json:"costWas"` // of what was asked, in millionths of a US dollar
	CostIs    int64     `json:"costIs"`
	TokensWas llm.Usage `json:"tokensWas"`
	TokensIs  llm.Usage `json:"tokensIs"`
	TookWas   Took      `json:"tookWas"`
	TookIs    Took      `json:"tookIs"`
	// Pairs count the questions with an answer by both answers, where those are words, truths or numbers and there are few of
	// them: the most frequent first.
	Pairs []Pair `json:"pairs,omitempty"`
	// Decisions are in the order of the runs and their journals. Of a report that is too long those that agree are left out
	// first.
	Decisions []Decision `json:"decisions"`
	LeftOut   int        `json:"leftOut,omitempty"` // how many

	was, is []time.Duration
}

// Took is how long models took for an answer, without waiting for a turn. What came from a cache does not count.
type Took struct {
	P50 time.Duration `json:"p50"`
	P95 time.Duration `json:"p95"`
}

// Pair counts questions that were answered by Was, and are by Is.
type Pair struct {
	Was string `json:"was"`
	Is  string `json:"is"`
	N   int    `json:"n"`
}

// Decision is one question and both answers to it, of which long ones are cut.
type Decision struct {
	Run   string        `json:"run"`
	Step  string        `json:"step"`
	Was   string        `json:"was"`
	Is    string        `json:"is,omitempty"`
	Same  bool          `json:"same"`
	Kind  string        `json:"kind,omitempty"` // of the failure, as in Report.Kinds; budget: it was not asked to the end
	Error string        `json:"error,omitempty"`
	Cost  int64         `json:"cost"`
	Took  time.Duration `json:"took"`
}

func newReport(run string) *Report { return &Report{Run: run, Decisions: []Decision{}} }

// add counts what came of a run.
func (r *Report) add(run pawl.Ref, of past, now []reasked) {
	r.Runs++
	r.Absent += of.Absent
	r.Unanswered += of.Unanswered
	if len(of.Questions)+of.Absent+of.Unanswered == 0 {
		r.Without++
	}
	for i, q := range of.Questions {
		a := now[i]
		r.CostIs += a.Cost // also of one that ended for want of money
		r.TokensIs = r.TokensIs.Add(a.Usage)
		if a.Kind == kindBudget {
			r.Unasked++
		} else {
			r.Asked++
			r.CostWas += q.Cost
			r.TokensWas = r.TokensWas.Add(q.Usage)
			r.was, r.is = append(r.was, q.Took), append(r.is, a.Took)
			r.MendedWas += min(q.Mends, 1)
			switch {
			case a.Kind != "":
				r.Failed++
				if r.Kinds == nil {
					r.Kinds = map[string]int{}
				}
				r.Kinds[a.Kind]++
			default:
				r.Mended += min(a.Mends, 1)
				if a.Same {
					r.Same++
				}
			}
		}
		r.Decisions = append(r.Decisions, Decision{Run: run.ID, Step: q.Step, Was: q.Was, Is: a.Is, Same: a.Same, Kind: a.Kind, Error: short(a.Error), Cost: a.Cost, Took: a.Took})
	}
}

// end completes the report.
func (r *Report) end() Report {
	r.TookWas, r.TookIs = took(r.was), took(r.is)
	r.Pairs = pairsOf(r.Decisions)
	r.fit(1 << 20)
	return *r
}

// fit leaves decisions out until those that are left have so many bytes: those that agree, then the last.
func (r *Report) fit(most int) {
	size := func(d *Decision) int { return len(d.Run) + len(d.Step) + 2*(len(d.Was)+len(d.Is)+len(d.Error)) + 200 }
	total := 0
	for i := range r.Decisions {
		total += size(&r.Decisions[i])
	}
	all := len(r.Decisions)
	if total > most {
		r.Decisions = slices.DeleteFunc(r.Decisions, func(d Decision) bool { return d.Same })
	}
	total = 0
	for i := range r.Decisions {
		if total += size(&r.Decisions[i]); total > most {
			r.Decisions = r.Decisions[:i]
			break
		}
	}
	r.LeftOut = all - len(r.Decisions)
}

func took(all []time.Duration) Took {
	all = slices.DeleteFunc(slices.Clone(all), func(d time.Duration) bool { return d == 0 })
	if len(all) == 0 {
		return Took{}
	}
	slices.Sort(all)
	at := func(share int) time.Duration { return all[min(len(all)*share/100, len(all)-1)] }
	return Took{P50: at(50), P95: at(95)}
}

// maxOptions bounds how many different answers Pairs tell of.
const maxOptions = 20

// pairsOf counts decisions that have an answer by their answers; nil: those are no options.
func pairsOf(all []Decision) []Pair {
	counts, options := map[Pair]int{}, map[string]bool{}
	for _, d := range all {
		if d.Kind != "" {
			continue
		}
		was, one := option(d.Was)
		is, other := option(d.Is)
		if options[was], options[is] = true, true; !one || !other || len(options) > maxOptions {
			return nil
		}
		counts[Pair{Was: was, Is: is}]++
	}
	var out []Pair
	for t, n := range counts {
		out = append(out, Pair{t.Was, t.Is, n})
	}
	slices.SortFunc(out, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(b.N, a.N), strings.Compare(a.Was, b.Was), strings.Compare(a.Is, b.Is))
	})
	return out
}

// option is a value that can be one of some: a word, a truth, a number.
func option(value string) (name string, is bool) {
	var v any
	if len(value) > 80 || json.Unmarshal([]byte(value), &v) != nil {
		return value, false
	}
	switch v := v.(type) {
	case string:
		return v, true
	case bool, float64:
		return value, true
	}
	return value, false
}

// String is the report as a table for people: what agrees, what it costs, and every decision
// that has changed.
func (r Report) String() string {
	var b strings.Builder
	changed := r.Asked - r.Same - r.Failed
	fmt.Fprintf(&b, "asked %d: %d the same (%.1f %%), %d changed, %d failed", r.Asked, r.Same, 100*float64(r.Same)/float64(max(r.Asked, 1)), changed, r.Failed)
	if r.Failed > 0 {
		var kinds []string
		for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
			kinds = append(kinds, fmt.Sprintf("%d %s", r.Kinds[kind], kind))
		}
		fmt.Fprintf(&b, " (%s)", strings.Join(kinds, ", "))
	}
	b.WriteString("\n")
	for _, left := range []struct {
		n    int
		text string
	}{
		{r.Unasked, "not asked: the budget had too little left"},
		{r.Absent, "not asked: their words are not in the journal"},
		{r.Unanswered, "not asked: they had no answer then"},
		{r.Without, "runs did not come to the step"},
	} {
		if left.n > 0 {
			fmt.Fprintf(&b, "%d %s\n", left.n, left.text)
		}
	}
	if i := slices.IndexFunc(r.Decisions, func(d Decision) bool { return d.Kind == kindBudget }); i >= 0 && r.Asked == 0 {
		fmt.Fprintf(&b, "%s\n", r.Decisions[i].Error) // what one of them needs
	}
	fmt.Fprintf(&b, "cost: $%.6f, was $%.6f\n", float64(r.CostIs)/1e6, float64(r.CostWas)/1e6)
	fmt.Fprintf(&b, "tokens: %d in, %d out; was %d in, %d out\n", r.TokensIs.Input, r.TokensIs.Output, r.TokensWas.Input, r.TokensWas.Output)
	fmt.Fprintf(&b, "took: p50 %v, p95 %v; was p50 %v, p95 %v\n", r.TookIs.P50.Round(time.Millisecond), r.TookIs.P95.Round(time.Millisecond), r.TookWas.P50.Round(time.Millisecond), r.TookWas.P95.Round(time.Millisecond))
	if r.Mended+r.MendedWas > 0 {
		fmt.Fprintf(&b, "mended before they could be read: %d, was %d\n", r.Mended, r.MendedWas)
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	r.matrix(w)
	if changed+r.Failed > 0 {
		fmt.Fprintln(w, "\nRUN\tSTEP\tWAS\tIS")
	}
	for _, d := range r.Decisions {
		switch {
		case d.Kind == kindBudget, d.Same:
		case d.Kind != "":
			fmt.Fprintf(w, "%s\t%s\t%s\t%s: %s\n", d.Run, d.Step, line(d.Was), d.Kind, line(d.Error))
		default:
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Run, d.Step, line(d.Was), line(d.Is))
		}
	}
	_ = w.Flush() // to a strings.Builder
	if r.LeftOut > 0 {
		fmt.Fprintf(&b, "and %d more, which are in the journal of run %s\n", r.LeftOut, r.Run)
	}
	return b.String()
}

// matrix has a line for each answer that was, and a column for each that is now.
func (r Report) matrix(w *tabwriter.Writer) {
	if len(r.Pairs) == 0 {
		return
	}
	counts, options := map[Pair]int{}, map[string]bool{}
	for _, t := range r.Pairs {
		counts[Pair{Was: t.Was, Is: t.Is}] = t.N
		options[t.Was], options[t.Is] = true, true
	}
	names := slices.Sorted(maps.Keys(options))
	fmt.Fprint(w, "\nWAS \\ IS")
	for _, is := range names {
		fmt.Fprintf(w, "\t%s", line(is))
	}
	fmt.Fprintln(w)
	for _, was := range names {
		fmt.Fprint(w, line(was))
		for _, is := range names {
			if n := counts[Pair{Was: was, Is: is}]; n > 0 {
				fmt.Fprintf(w, "\t%d", n)
			} else {
				fmt.Fprint(w, "\t.")
			}
		}
		fmt.Fprintln(w)
	}
}

// line is text for a cell of a table.
func line(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return s
}
