package flow

import (
	"cmp"
	"slices"
)

// turnBack finds the edges that lead back.
func (p *laidOut) turnBack() {
	out := map[*box][]*path{}
	for _, e := range p.paths {
		out[e.from] = append(out[e.from], e)
	}
	const fresh, open, done = 0, 1, 2
	state := map[*box]int{}
	var visit func(b *box)
	visit = func(b *box) {
		state[b] = open
		for _, e := range out[b] {
			switch state[e.to] {
			case open:
				e.back = true
			case fresh:
				visit(e.to)
			}
		}
		state[b] = done
	}
	for _, b := range p.nodes {
		if state[b] == fresh {
			visit(b)
		}
	}
}

// layers gives each node its layer: one below the last of those that lead to it.
func (p *laidOut) layers() [][]*box {
	in := map[*box]int{}
	out := map[*box][]*path{}
	for _, e := range p.paths {
		if !e.back {
			in[e.to]++
			out[e.from] = append(out[e.from], e)
		}
	}
	var ready []*box
	for _, b := range p.nodes {
		if in[b] == 0 {
			ready = append(ready, b)
		}
	}
	deepest := 0
	for ; len(ready) > 0; ready = ready[1:] {
		for _, e := range out[ready[0]] {
			e.to.layer = max(e.to.layer, ready[0].layer+1)
			deepest = max(deepest, e.to.layer)
			if in[e.to]--; in[e.to] == 0 {
				ready = append(ready, e.to)
			}
		}
	}
	layers := make([][]*box, deepest+1)
	for _, b := range p.nodes {
		if b.node.Type == "end" || b.node.Type == "fail" { // where a flow ends is at its foot
			b.layer = deepest
		}
		layers[b.layer] = append(layers[b.layer], b)
	}
	return layers
}

// bend gives an edge over several layers a bend in each.
func (p *laidOut) bend(layers [][]*box) {
	bends := 0
	for _, e := range p.paths {
		if e.back {
			continue
		}
		at := e.from
		for l := e.from.layer + 1; l < e.to.layer && bends < maxBends; l++ {
			bends++
			b := &box{w: 14, layer: l}
			layers[l] = append(layers[l], b)
			e.bends = append(e.bends, b)
			at.below, b.above = append(at.below, b), append(b.above, at)
			at = b
		}
		at.below, e.to.above = append(at.below, e.to), append(e.to.above, at)
	}
}

// order sorts each layer by where the neighbours of its nodes are.
func order(layers [][]*box) {
	number := func(layer []*box) {
		for i, b := range layer {
			b.x = float64(i) - float64(len(layer)-1)/2
		}
	}
	for _, layer := range layers {
		number(layer)
	}
	sort := func(layer []*box, of func(*box) []*box) {
		for _, b := range layer {
			if b.want = b.x; len(of(b)) > 0 {
				b.want = middle(of(b))
			}
		}
		slices.SortStableFunc(layer, func(a, b *box) int { return cmp.Compare(a.want, b.want) })
		number(layer)
	}
	for range 4 {
		for _, layer := range layers {
			sort(layer, func(b *box) []*box { return b.above })
		}
		for _, layer := range slices.Backward(layers) {
			sort(layer, func(b *box) []*box { return b.below })
		}
	}
	for _, layer := range layers {
		sort(layer, func(b *box) []*box { return b.above })
	}
}

// middle is where some nodes are, on average.
func middle(of []*box) (x float64) {
	for _, b := range of {
		x += b.x / float64(len(of))
	}
	return x
}
