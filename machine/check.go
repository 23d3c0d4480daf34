package machine

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DefinitionError says all that is wrong with a machine.
type DefinitionError struct {
	Machine  string
	Problems []string // each names the state, where there is one, and the next step
}

func (e *DefinitionError) Error() string {
	if len(e.Problems) == 1 {
		return fmt.Sprintf("machine %s: %s", e.Machine, e.Problems[0])
	}
	return fmt.Sprintf("machine %s has %d problems:\n  - %s", e.Machine, len(e.Problems), strings.Join(e.Problems, "\n  - "))
}

// check fills the table of states and returns all that is wrong with the machine. limited
// says that a limit of visits was chosen for all states.
func (p *program) check(limited bool) []string {
	var wrong []string
	report := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }

	if why := badName(p.name, 256, "/"); why != "" {
		report("its name %.40q %s", p.name, why)
	}
	for _, n := range p.order {
		if why := badName(n.name, maxStateName, "/#%:"); why != "" {
			report("the name of state %.40q %s", n.name, why)
			continue
		}
		if p.nodes[n.name] != nil {
			report("there are two states %q; rename one", n.name)
			continue
		}
		p.nodes[n.name] = n
		if n.wrong != "" {
			report("state %q %s", n.name, n.wrong)
		}
	}
	switch {
	case len(p.order) == 0:
		report("it has no states; give it some")
	case p.nodes[p.start] == nil:
		report("it starts in %q, which is none of its states; it has %s", p.start, p.names())
	}
	for _, n := range p.order {
		for _, t := range n.to {
			if t != End && p.nodes[t] == nil {
				report("state %q declares that it goes to %q, which is no state; add that, or correct To", n.name, t)
			}
		}
	}
	if len(wrong) > 0 { // the graph is not one yet
		return wrong
	}
	reached, open := p.reach(p.start)
	if !open {
		for _, n := range p.order {
			if !reached[n.name] {
				report("state %q cannot be reached from %q: no state declares that it goes there; add it to the To of one, or remove it", n.name, p.start)
			} else if ends, open := p.reach(n.name); !ends[End] && !open {
				report("from state %q no end can be reached; declare a way to one that has End in its To", n.name)
			}
		}
	}
	if !limited {
		if loop := p.loop(); loop != nil {
			report("the loop %s has no limit; set MaxVisits on one of its states (negative: without limit on purpose)", quotedPath(loop))
		}
	}
	return wrong
}

const maxStateName = 100

// badName says why a name cannot be one; "" means that it can. It is the core's rule and, for
// states, what keeps their keys readable and apart from those of branches.
func badName(name string, most int, without string) string {
	switch {
	case name == "":
		return "is empty; give it one"
	case len(name) > most:
		return fmt.Sprintf("is %d bytes long; the limit is %d", len(name), most)
	case !utf8.ValidString(name):
		return "is not UTF-8; correct it"
	case strings.HasPrefix(name, "$"):
		return "begins with $, which is pawl's own; rename it"
	case name == End:
		return "is what stands for the end; rename it"
	case strings.ContainsAny(name, without):
		return fmt.Sprintf("contains one of %q; rename it", without)
	case strings.ContainsFunc(name, unicode.IsControl):
		return "contains a control character; rename it"
	}
	return ""
}

// reach returns what is reached from a state by declared transitions, that state included.
// open: a state is reached that declares nothing, so that anything may be.
func (p *program) reach(from string) (reached map[string]bool, open bool) {
	reached = map[string]bool{from: true}
	for todo := []string{from}; len(todo) > 0; {
		at := todo[0]
		todo = todo[1:]
		if at == End {
			continue
		}
		open = open || p.nodes[at].to == nil
		for _, t := range p.nodes[at].to {
			if !reached[t] {
				reached[t] = true
				todo = append(todo, t)
			}
		}
	}
	return reached, open
}

// loop returns a loop of declared transitions in which no state has a limit of its own.
func (p *program) loop() []string {
	done := map[string]bool{}
	var walk func(name string, path []string) []string
	walk = func(name string, path []string) []string {
		if name == End || p.nodes[name].max != 0 {
			return nil
		}
		if i := slices.Index(path, name); i >= 0 {
			return append(slices.Clone(path[i:]), name)
		}
		if done[name] {
			return nil
		}
		for _, t := range p.nodes[name].to {
			if loop := walk(t, append(path, name)); loop != nil {
				return loop
			}
		}
		done[name] = true
		return nil
	}
	for _, n := range p.order {
		if loop := walk(n.name, nil); loop != nil {
			return loop
		}
	}
	return nil
}

func quotedPath(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(quoted, " → ")
}
