package flow

import (
	"cmp"
	"slices"
	"unicode/utf8"
)

// The layout is in layers: each step is one layer below the last of those that lead to it. Edges that go over several
// layers have a bend in each; edges that lead back go round on the right. The order in a layer is by where the neighbours
// are, in a few sweeps. All of it is decided by the graph alone, so that the same graph is the same picture.

// Sizes, in pixels.
const (
	charWidth  = 7.0 // of the text, on average
	lineHeight = 17.0
	gapX       = 36.0
	gapY       = 58.0
	padding    = 20.0
	laneWidth  = 18.0
	mostChars  = 34     // of a line
	maxBends   = 10_000 // beyond which edges go straight
)

// point is a place.
type point struct{ x, y float64 }

// laidOut is a graph with its places.
type laidOut struct {
	width, height float64
	nodes         []*box
	paths         []*path
}

// box is a node, or a bend of an edge, and its middle.
type box struct {
	node       *GraphNode // nil: a bend
	lines      []string
	inner      []*laidOut // branches
	w, h       float64
	x, y       float64
	layer      int
	above      []*box // over which edges come here, one layer up
	below      []*box
	want, left float64
}

// path is an edge and what it goes over.
type path struct {
	edge   *GraphEdge
	from   *box
	to     *box
	bends  []*box
	back   bool
	points []point
}

// layout places a graph.
func layout(g *Graph) *laidOut {
	p := &laidOut{}
	by := map[string]*box{}
	for i := range g.Nodes {
		b := boxOf(&g.Nodes[i])
		p.nodes = append(p.nodes, b)
		by[g.Nodes[i].ID] = b
	}
	for i := range g.Edges {
		e := &g.Edges[i]
		if from, to := by[e.From], by[e.To]; from != nil && to != nil {
			p.paths = append(p.paths, &path{edge: e, from: from, to: to})
		}
	}
	p.turnBack()
	layers := p.layers()
	p.bend(layers)
	order(layers)
	p.place(layers)
	p.route()
	return p
}

// boxOf measures a node.
func boxOf(n *GraphNode) *box {
	b := &box{node: n}
	switch n.Type {
	case "start", "end", "fail":
		b.lines = []string{n.Label}
		if n.Visits > 1 {
			b.lines[0] += " " + n.facts()
		}
		b.w, b.h = max(44, width(b.lines)+24), 28
		return b
	}
	b.lines = append(b.lines, cutText(oneLine(n.Label), mostChars))
	for _, more := range []string{n.Type, n.Detail, n.facts()} {
		if more != "" {
			b.lines = append(b.lines, cutText(oneLine(more), mostChars))
		}
	}
	b.w, b.h = max(120, width(b.lines)+2*padding), float64(len(b.lines))*lineHeight+16
	if n.Branches == nil {
		return b
	}
	inside, tall := padding, 0.0
	for i := range n.Branches {
		in := layout(&n.Branches[i])
		in.width = max(in.width, charWidth*float64(utf8.RuneCountInString(cutText(n.Branches[i].ID, mostChars)))+padding)
		b.inner = append(b.inner, in)
		inside += in.width + padding
		tall = max(tall, in.height)
	}
	b.w, b.h = max(b.w, inside), b.h+lineHeight+tall+2*padding
	return b
}

func width(lines []string) (w float64) {
	for _, line := range lines {
		w = max(w, charWidth*float64(utf8.RuneCountInString(line)))
	}
	return w
}

// place gives each node of ordered layers its place.
func (p *laidOut) place(layers [][]*box) {
	apart := func(a, b *box) float64 { return (a.w+b.w)/2 + gapX }
	for _, layer := range layers {
		x := 0.0
		for i, b := range layer {
			if i > 0 {
				x += apart(layer[i-1], b)
			}
			b.x = x
		}
		for _, b := range layer {
			b.x -= x / 2
		}
	}
	// Each wants to be where its neighbours are; none may come too near to the next. The mean of pushing all to the
	// right and all to the left keeps them apart.
	settle := func(layer []*box, of func(*box) []*box) {
		for i, b := range layer {
			if b.want = b.x; len(of(b)) > 0 {
				b.want = middle(of(b))
			}
			if b.left = b.want; i > 0 {
				b.left = max(b.want, layer[i-1].left+apart(layer[i-1], b))
			}
		}
		for i := len(layer) - 1; i >= 0; i-- {
			right := layer[i].want
			if i < len(layer)-1 {
				right = min(right, layer[i+1].x-apart(layer[i], layer[i+1]))
			}
			layer[i].x = right
		}
		for _, b := range layer {
			b.x = (b.left + b.x) / 2
		}
	}
	for range 6 {
		for _, layer := range layers {
			settle(layer, func(b *box) []*box { return b.above })
		}
		for _, layer := range slices.Backward(layers) {
			settle(layer, func(b *box) []*box { return append(slices.Clone(b.above), b.below...) })
		}
	}
	for _, layer := range layers { // one below the other, where there is but one
		settle(layer, func(b *box) []*box { return b.above })
	}
	y, left, right := padding, 0.0, 0.0
	for i, layer := range layers {
		tall := 0.0
		for j, b := range layer {
			tall = max(tall, b.h)
			if left, right = min(left, b.x-b.w/2), max(right, b.x+b.w/2); i+j == 0 {
				left, right = b.x-b.w/2, b.x+b.w/2
			}
		}
		for _, b := range layer {
			b.y = y + tall/2
			if b.node == nil {
				b.h = tall // an edge goes by what is beside it straight
			}
		}
		y += tall + gapY
	}
	for _, layer := range layers {
		for _, b := range layer {
			b.x += padding - left
		}
	}
	p.width, p.height = right-left+2*padding, y-gapY+padding
}

// route draws the edges from point to point.
func (p *laidOut) route() {
	outs, ins := map[*box][]*path{}, map[*box][]*path{}
	for _, e := range p.paths {
		if !e.back {
			outs[e.from], ins[e.to] = append(outs[e.from], e), append(ins[e.to], e)
		}
	}
	leaves, comes := map[*path]float64{}, map[*path]float64{} // where at its node
	ports := func(b *box, all []*path, to map[*path]float64, by func(*path) float64) {
		slices.SortStableFunc(all, func(a, b *path) int { return cmp.Compare(by(a), by(b)) })
		for i, e := range all {
			to[e] = b.x + (float64(i)-float64(len(all)-1)/2)*min(26, b.w*0.8/float64(len(all)))
		}
	}
	for _, b := range p.nodes {
		ports(b, outs[b], leaves, func(e *path) float64 {
			if len(e.bends) > 0 {
				return e.bends[0].x
			}
			return e.to.x
		})
		ports(b, ins[b], comes, func(e *path) float64 {
			if n := len(e.bends); n > 0 {
				return e.bends[n-1].x
			}
			return e.from.x
		})
	}
	lanes := 0
	for _, e := range p.paths {
		if e.back {
			lanes++
			lane := p.width + laneWidth*float64(lanes)
			from, to := point{e.from.x + e.from.w/2, e.from.y}, point{e.to.x + e.to.w/2, e.to.y - e.to.h/4}
			if e.from == e.to {
				from.y += e.from.h / 4
			}
			e.points = []point{from, {lane, from.y}, {lane, to.y}, to}
			continue
		}
		e.points = append(e.points, point{leaves[e], e.from.y + e.from.h/2})
		for _, b := range e.bends {
			e.points = append(e.points, point{b.x, b.y - b.h/2}, point{b.x, b.y + b.h/2})
		}
		e.points = append(e.points, point{comes[e], e.to.y - e.to.h/2})
	}
	if lanes > 0 {
		p.width += laneWidth*float64(lanes) + padding
	}
	for _, e := range p.paths { // labels of edges that lead back stand beside them
		if e.back && e.edge.Label != "" {
			p.width = max(p.width, e.points[1].x+charWidth*float64(utf8.RuneCountInString(labelOf(e.edge)))+padding)
		}
	}
}
