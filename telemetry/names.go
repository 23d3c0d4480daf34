package telemetry

import (
	"strings"
	"sync"
	"sync/atomic"
)

// mostNames bounds how many series a label can make: names come from code and settings, but a
// mistake there must not fill the memory of whoever keeps the series.
const mostNames = 1000

// names are the values that labels have had.
type names struct {
	known sync.Map // of string to string
	count atomic.Int64
}

// of is the name under which a name is counted: itself, as text that Prometheus takes.
func (n *names) of(name string) string {
	if is, ok := n.known.Load(name); ok {
		return is.(string)
	}
	if n.count.Add(1) > mostNames {
		n.count.Add(-1)
		return "(other)"
	}
	is, _ := n.known.LoadOrStore(strings.Clone(name), strings.ToValidUTF8(name, "\uFFFD"))
	return is.(string)
}
