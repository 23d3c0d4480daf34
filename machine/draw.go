package machine

import (
	"fmt"
	"slices"
	"strings"
)

// Mermaid draws the machine as a Mermaid stateDiagram-v2: its states, the transitions that
// they declare, and those in seen, which are labelled with how they came about and how often,
// as Snapshot.Edges and [Seen] have them. A machine that declares nothing is drawn by what
// its runs did.
func (m *Machine[S]) Mermaid(seen ...Edge) string { return m.p.mermaid(seen) }

// Seen adds up the edges of several snapshots, for Mermaid.
func Seen(edges ...[]Edge) []Edge {
	var out []Edge
	for _, e := range slices.Concat(edges...) {
		i := slices.IndexFunc(out, func(o Edge) bool { return o.From == e.From && o.To == e.To && o.How == e.How })
		if i < 0 {
			out = append(out, e)
		} else {
			out[i].Count += e.Count
		}
	}
	return out
}

func (p *program) mermaid(seen []Edge) string {
	var s strings.Builder
	s.WriteString("stateDiagram-v2\n")
	ids := map[string]string{End: End}
	for i, n := range p.order {
		// Ids of our own, as names may be words of the language, such as end.
		ids[n.name] = fmt.Sprintf("s%d", i+1)
		fmt.Fprintf(&s, "    state \"%s\" as %s\n", escape.Replace(n.name), ids[n.name])
	}
	fmt.Fprintf(&s, "    [*] --> %s\n", ids[p.start])
	arrow := func(from, to, label string) {
		fmt.Fprintf(&s, "    %s --> %s", ids[from], ids[to])
		if label != "" {
			fmt.Fprintf(&s, " : %s", label)
		}
		s.WriteByte('\n')
	}
	for _, n := range p.order {
		for i, to := range n.to {
			drawn := func(e Edge) bool { return e.From == n.name && e.To == to }
			if slices.Contains(n.to[:i], to) || slices.ContainsFunc(seen, drawn) {
				continue
			}
			label := ""
			if to != End && p.nodes[to].join {
				label = "join"
			}
			arrow(n.name, to, label)
		}
		for _, e := range seen {
			if e.From == n.name && ids[e.To] != "" {
				arrow(e.From, e.To, fmt.Sprintf("%s %d×", e.How, e.Count))
			}
		}
	}
	return s.String()
}

// escape writes what Mermaid or a browser would take for its own as entities.
var escape = strings.NewReplacer(`"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;", ";", "#59;", "`", "#96;", `\`, "#92;")
