package flow

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/pawlrun/pawl"
)

// maxDrawn is how many nodes an SVG has room for: a picture with more shows nothing.
const maxDrawn = 500

// SVG draws the graph as a picture, that is the same for the same graph. It brings its own ground, light or dark as the
// reader's system is, and says in its title and its description what it shows. pawl.ErrTooLarge: it has over 500 steps.
func (g Graph) SVG() (string, error) {
	if n := g.size(); n > maxDrawn {
		return "", fmt.Errorf("%w: the graph has %d nodes, and a picture at most %d: take its Mermaid text, or its JSON", pawl.ErrTooLarge, n, maxDrawn)
	}
	p := layout(&g)
	s := &svg{}
	title := g.Name
	if title == "" {
		title = g.ID
	}
	if g.Run != "" {
		title += ", run " + g.Run + ": " + g.State
	}
	s.line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="%s" font-family="system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif" font-size="13">`,
		p.width, p.height, p.width, p.height, escaped(title))
	s.line("<title>%s</title>", escaped(title))
	s.line("<desc>%s</desc>", escaped(g.describe()))
	// Where styles are not allowed, the attributes stay: a light picture.
	s.line("<style>@media (prefers-color-scheme: dark) {.ground {fill: #0d1117; stroke: #30363d} .box {fill: #161b22} .group {fill: #12171e} .text {fill: #e6edf3} .faint {fill: #9198a1} .label {fill: #c9d1d9; stroke: #0d1117} .edge {stroke: #9198a1} .head {fill: #9198a1} .taken {stroke: #e6edf3} .takenhead {fill: #e6edf3}}</style>")
	s.line(`<rect class="ground" x="0.5" y="0.5" width="%.0f" height="%.0f" rx="8" fill="#ffffff" stroke="#d0d7de"/>`, p.width-1, p.height-1)
	s.graph(p, 0, 0)
	s.line("</svg>")
	return s.b.String(), nil
}

// size counts nodes.
func (g *Graph) size() int {
	n := len(g.Nodes)
	for i := range g.Nodes {
		for j := range g.Nodes[i].Branches {
			n += g.Nodes[i].Branches[j].size()
		}
	}
	return n
}

// describe says the graph in words, for those who do not see it.
func (g *Graph) describe() string {
	var b strings.Builder
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Type == "start" || n.Type == "end" || n.Type == "fail" {
			continue
		}
		fmt.Fprintf(&b, "%s (%s", n.Label, n.Type)
		if n.Status != "" {
			fmt.Fprintf(&b, ", %s, visited %d times", n.Status, n.Visits)
		}
		b.WriteByte(')')
		var ways []string
		for _, e := range g.Edges {
			if e.From == n.ID {
				way := e.To
				if e.Label != "" {
					way += " if " + e.Label
				}
				ways = append(ways, way)
			}
		}
		if ways != nil {
			b.WriteString(" leads to " + strings.Join(ways, "; "))
		}
		b.WriteString(". ")
		for j := range n.Branches {
			fmt.Fprintf(&b, "In its branch %s: %s", n.Branches[j].ID, n.Branches[j].describe())
		}
	}
	return b.String()
}

type svg struct{ b strings.Builder }

func (s *svg) line(format string, args ...any) {
	fmt.Fprintf(&s.b, format, args...)
	s.b.WriteByte('\n')
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(oneLine(text))) // a Builder takes all
	return b.String()
}

// paint is how a node of a class is drawn: its line, its width and its dashes.
var paint = map[string]struct{ stroke, width, dash string }{
	"": {"#8c959f", "1.2", ""}, "completed": {"#2da44e", "2", ""}, "failed": {"#e5534b", "2.5", ""}, "current": {"#218bff", "3.5", ""},
	"skipped": {"#8c959f", "1.5", "5 4"}, "missing": {"#e5534b", "1.5", "5 4"},
}

func (s *svg) graph(p *laidOut, dx, dy float64) {
	for _, e := range p.paths {
		s.edge(e, dx, dy)
	}
	for _, b := range p.nodes {
		s.box(b, dx, dy)
	}
	for _, e := range p.paths { // over all lines
		s.label(e, dx, dy)
	}
}

func (s *svg) box(b *box, dx, dy float64) {
	x, y := dx+b.x-b.w/2, dy+b.y-b.h/2
	look := paint[classOf(b.node)]
	round, class := 6.0, "box"
	switch b.node.Type {
	case "start", "end", "fail":
		round = 14
	case "transform":
		round = 16
	case "parallel", "map":
		class = "group"
	}
	fill := "#f6f8fa"
	if class == "group" {
		fill = "#fbfcfd"
	}
	dash := ""
	if look.dash != "" {
		dash = ` stroke-dasharray="` + look.dash + `"`
	}
	attrs := fmt.Sprintf(`class="%s" fill="%s" stroke="%s" stroke-width="%s"%s`, class, fill, look.stroke, look.width, dash)
	switch b.node.Type {
	case "ai-decision": // its corners are cut: it decides
		cut := 12.0
		s.line(`<polygon points="%.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f" %s/>`,
			x+cut, y, x+b.w-cut, y, x+b.w, y+cut, x+b.w, y+b.h-cut, x+b.w-cut, y+b.h, x+cut, y+b.h, x, y+b.h-cut, x, y+cut, attrs)
	case "wait":
		s.line(`<polygon points="%.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f" %s/>`,
			x+10, y, x+b.w-10, y, x+b.w, y+b.h/2, x+b.w-10, y+b.h, x+10, y+b.h, x, y+b.h/2, attrs)
	default:
		s.line(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%.0f" %s/>`, x, y, b.w, b.h, round, attrs)
	}
	if b.node.Type == "workflow" {
		s.line(`<path class="edge" d="M%.1f,%.1f V%.1f M%.1f,%.1f V%.1f" stroke="#8c959f"/>`, x+6, y, y+b.h, x+b.w-6, y, y+b.h)
	}
	at := y + (b.h-float64(len(b.lines))*lineHeight)/2 + 13
	if b.inner != nil {
		at = y + 21
	}
	for i, line := range b.lines {
		class, fill, size := "faint", "#59636e", "11"
		if i == 0 {
			class, fill, size = "text", "#1f2328", "13"
		}
		weight := ""
		if i == 0 && b.h > 30 {
			weight = ` font-weight="600"`
		}
		s.line(`<text class="%s" x="%.1f" y="%.1f" text-anchor="middle" fill="%s" font-size="%s"%s>%s</text>`, class, dx+b.x, at+float64(i)*lineHeight, fill, size, weight, escaped(line))
	}
	if b.inner == nil {
		return
	}
	inside := padding
	for _, in := range b.inner {
		inside += in.width + padding
	}
	left, top := x+padding+(b.w-inside)/2, at+float64(len(b.lines)-1)*lineHeight+padding
	for i, in := range b.inner {
		s.line(`<rect class="ground" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="6" fill="#ffffff" stroke="#d0d7de"/>`, left, top, in.width, in.height+lineHeight)
		s.line(`<text class="faint" x="%.1f" y="%.1f" fill="#59636e" font-size="11">%s</text>`, left+8, top+15, escaped(cutText(b.node.Branches[i].ID, mostChars)))
		s.graph(in, left, top+lineHeight)
		left += in.width + padding
	}
}

func (s *svg) edge(e *path, dx, dy float64) {
	class, head, stroke, width := "edge", "head", "#8c959f", "1.3"
	if e.edge.Taken > 0 {
		class, head, stroke, width = "taken", "takenhead", "#1f2328", "2.4"
	}
	dash := ""
	if e.edge.Kind != "next" {
		dash = ` stroke-dasharray="6 4"`
	}
	var d strings.Builder
	pts := e.points
	fmt.Fprintf(&d, "M%.1f,%.1f", dx+pts[0].x, dy+pts[0].y)
	end := pts[len(pts)-1]
	if e.back {
		const r = 8
		up := pts[1].y - pts[2].y
		turn := min(r, max(up, 0)/2)
		fmt.Fprintf(&d, " H%.1f q%d,0 %d,%.1f V%.1f q0,%.1f %d,%.1f H%.1f", dx+pts[1].x-r, r, r, -turn, dy+pts[2].y+turn, -turn, -r, -turn, dx+end.x+7)
	} else {
		for i := 1; i < len(pts); i++ {
			a, b := pts[i-1], pts[i]
			if i == len(pts)-1 {
				b.y -= 7 // for the head
			}
			if i%2 == 0 {
				fmt.Fprintf(&d, " L%.1f,%.1f", dx+b.x, dy+b.y)
				continue
			}
			mid := (a.y + b.y) / 2
			fmt.Fprintf(&d, " C%.1f,%.1f %.1f,%.1f %.1f,%.1f", dx+a.x, dy+mid, dx+b.x, dy+mid, dx+b.x, dy+b.y)
		}
	}
	s.line(`<path class="%s" d="%s" fill="none" stroke="%s" stroke-width="%s"%s/>`, class, d.String(), stroke, width, dash)
	x, y := dx+end.x, dy+end.y
	if e.back {
		s.line(`<path class="%s" d="M%.1f,%.1f l8,-4 v8 z" fill="%s"/>`, head, x, y, stroke)
	} else {
		s.line(`<path class="%s" d="M%.1f,%.1f l-4,-8 h8 z" fill="%s"/>`, head, x, y, stroke)
	}
}

// labelOf is what stands at an edge.
func labelOf(e *GraphEdge) string {
	label := cutText(oneLine(e.Label), 28)
	if e.Taken > 1 {
		label = strings.TrimSpace(fmt.Sprintf("%s %d×", label, e.Taken))
	}
	return label
}

func (s *svg) label(e *path, dx, dy float64) {
	label := labelOf(e.edge)
	if label == "" {
		return
	}
	a, b := e.points[0], e.points[1]
	x, y, anchor := (a.x+b.x)/2, a.y+(b.y-a.y)*0.5+4, "middle"
	if e.back {
		x, y, anchor = e.points[1].x+5, (e.points[1].y+e.points[2].y)/2+4, "start"
	}
	s.line(`<text class="label" x="%.1f" y="%.1f" text-anchor="%s" fill="#424a53" stroke="#ffffff" stroke-width="4" paint-order="stroke" font-size="11">%s</text>`, dx+x, dy+y, anchor, escaped(label))
}
