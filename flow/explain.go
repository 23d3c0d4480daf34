package flow

import (
	"fmt"
	"strings"
)

// Explanation is a flow in plain words, made of its document by fixed rules: no model has a say in it.
type Explanation struct {
	ID     string      `json:"id,omitempty"`
	Name   string      `json:"name,omitempty"`
	Starts []string    `json:"starts"` // what starts it, a sentence each
	Steps  []Explained `json:"steps"`  // in the document's order; those within a step follow it
	Limits string      `json:"limits"` // what bounds a run, a sentence
	Reach  []Reach     `json:"reach"`  // all that it can do outside of itself
}

// Explained is one step in plain words.
type Explained struct {
	Step    string `json:"step"`              // its id; within others with theirs: fan/left/ask
	Type    string `json:"type"`              // as the document says
	Does    string `json:"does"`              // a sentence
	Next    string `json:"next"`              // a sentence: where it goes on, and when
	Failure string `json:"failure,omitempty"` // a sentence: what happens when it has failed for good
}

// Explain says what a document does, as far as it says anything; what can't be read of it is left out. The actions of
// services are explained as far as w has them. The error is of type [Problems]: there is no flow in it at all.
func Explain(data []byte, w World) (Explanation, error) {
	root, err := readObject(data)
	if err != nil {
		return Explanation{}, err
	}
	return read(&findings{}, root, w).Explain(), nil
}

// Explain says what the flow does.
func (f *Flow) Explain() Explanation {
	e := Explanation{ID: f.ID, Name: f.Name, Starts: f.startWords(), Steps: []Explained{}, Limits: f.limits.words(), Reach: f.reach()}
	e.steps(f.main, "")
	return e
}

func (e *Explanation) steps(g graph, in string) {
	for _, s := range g.steps {
		e.Steps = append(e.Steps, Explained{Step: in + s.id, Type: s.kind, Does: s.does(), Next: s.leads(), Failure: s.fails()})
		switch w := s.work.(type) {
		case *parallel:
			for _, b := range w.branches {
				e.steps(b.graph, in+s.id+"/"+b.id+"/")
			}
		case *each:
			e.steps(w.graph, in+s.id+"/")
		}
	}
}

// String is the explanation as text: what starts the flow, a line for each step with what follows it, and what it reaches.
func (e Explanation) String() string {
	var b strings.Builder
	title := e.ID
	if e.Name != "" {
		title += ": " + e.Name
	}
	fmt.Fprintln(&b, title)
	for _, s := range e.Starts {
		fmt.Fprintln(&b, s)
	}
	fmt.Fprintln(&b, "\nSteps")
	for i, s := range e.Steps {
		fmt.Fprintf(&b, "%3d. %s: %s\n", i+1, s.Step, s.Does)
		fmt.Fprintf(&b, "     %s\n", strings.TrimSpace(s.Next+" "+s.Failure))
	}
	fmt.Fprintln(&b, "\nWhat it can do")
	if len(e.Reach) == 0 {
		fmt.Fprintln(&b, "  nothing outside of itself")
	}
	for _, r := range e.Reach {
		fmt.Fprintf(&b, "  %s\n", r)
	}
	fmt.Fprintf(&b, "\n%s\n", e.Limits)
	return b.String()
}

func (l limits) words() string {
	text := fmt.Sprintf("A run takes at most %d steps, holds at most %s and costs at most $%g", l.steps, sizeWords(l.bytes), l.cost)
	if l.timeout > 0 {
		text += fmt.Sprintf(", and is cancelled after %v", l.timeout)
	}
	return text + "."
}

// sizeWords is a number of bytes for people.
func sizeWords(bytes int) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%.4g MiB", float64(bytes)/(1<<20))
	case bytes >= 1<<10:
		return fmt.Sprintf("%.4g KiB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// startWords say what starts the flow.
func (f *Flow) startWords() []string {
	out := []string{}
	for _, s := range f.starts {
		out = append(out, s.words())
	}
	if len(out) == 0 {
		out = append(out, "It starts when a person or a program asks for it.")
	}
	return out
}

func (s *start) words() string {
	text := func(name string) string { return short(s.at.get(name)) }
	switch s.kind {
	case "webhook":
		if s.open() {
			return fmt.Sprintf("It starts with any request to %s: nothing says who sent it.", s.route.Path)
		}
		return fmt.Sprintf("It starts with a request to %s, signed as %s does with the secret %q.", s.route.Path, s.route.Scheme, s.route.Secret)
	case "schedule":
		zone := "UTC"
		if z := s.at.get("timezone").str(); z != "" {
			zone = z
		}
		return fmt.Sprintf("It starts by the clock: %s, in %s.", text("cron"), zone)
	case "event":
		if s.at.get("where") != nil {
			return fmt.Sprintf("It starts with the event %s, where %s.", text("eventName"), text("where"))
		}
		return fmt.Sprintf("It starts with each event %s.", text("eventName"))
	case "database-change":
		if s.at.get("table") != nil {
			return fmt.Sprintf("It starts with changes of the table %s of the database %s.", text("table"), text("dsn"))
		}
		return fmt.Sprintf("It starts with new rows of %s in the database %s.", text("query"), text("dsn"))
	}
	return "It starts when a person or a program asks for it."
}

// open reports whether whoever reaches the server can start runs.
func (s *start) open() bool {
	return s.kind == "webhook" && (s.route.Scheme == "none" || s.route.Scheme == "")
}

// leads says where a step goes on.
func (s *step) leads() string {
	to := func(name string) string {
		switch name {
		case End:
			return "the run ends"
		case Fail:
			return "the run fails"
		}
		return "go to " + name
	}
	var ways []string
	if s.when != nil {
		ways = append(ways, fmt.Sprintf("skipped unless %s", clip(s.when.source, 200)))
	}
	for _, e := range s.edges() {
		switch {
		case e.Kind == "fallback":
		case e.Kind == "timeout":
			ways = append(ways, "if nobody comes in time: "+to(e.To))
		case e.Label == "" || e.Label == "else" || e.Label == "default":
			if len(ways) > 0 && e.Label != "" {
				ways = append(ways, "else: "+to(e.To))
			} else {
				ways = append(ways, to(e.To))
			}
		case s.next.at.is(listKind):
			ways = append(ways, fmt.Sprintf("if %s: %s", clip(e.Label, 200), to(e.To)))
		default:
			ways = append(ways, fmt.Sprintf("%q: %s", clip(e.Label, 200), to(e.To)))
		}
	}
	if len(ways) == 0 {
		return "Then nothing is said to follow."
	}
	return "Then " + strings.Join(ways, "; ") + "."
}

// fails says what happens when a step has failed for good.
func (s *step) fails() string {
	tries := ""
	switch s.work.(type) {
	case *decision, *call:
		if tries = fmt.Sprintf(" after %d tries", s.attempts); s.attempts == 1 {
			tries = " at the first try"
		}
	}
	switch {
	case s.onFailure == "skip":
		return fmt.Sprintf("If it fails%s, it is skipped.", tries)
	case s.onFailure == "fallback":
		return fmt.Sprintf("If it fails%s, go to %s.", tries, s.fallback)
	}
	return fmt.Sprintf("If it fails%s, the run fails.", tries)
}

// clip cuts a text for people; lines become one.
func clip(text string, most int) string {
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// short is a value of a document in a few words.
func short(n *node) string {
	const most = 200
	switch {
	case n == nil:
		return ""
	case n.is(textKind):
		return fmt.Sprintf("%q", clip(n.text, most))
	case n.is(listKind):
		var all []string
		for _, item := range n.items {
			all = append(all, short(item))
		}
		return clip(strings.Join(all, ", "), most)
	case n.is(objectKind):
		var names []string
		for _, f := range n.fields {
			names = append(names, f.name)
		}
		return clip("{"+strings.Join(names, ", ")+"}", most)
	}
	return clip(fmt.Sprint(n.value()), most)
}
