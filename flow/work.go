package flow

import (
	"fmt"

	"github.com/pawlrun/pawl"
)

// noWork is a step of a type that there is not; such a flow is refused.
type noWork struct{}

func (noWork) work(_ *run, c *pawl.Context, s *step, _ *scope) (result, error) {
	return result{}, refuse(c, s, fmt.Errorf("there are no steps of type %s", s.kind))
}

func (noWork) reads(func(at *node, u use)) {}

// readWork reads what a step of a type does.
func readWork(f *findings, s *step, config *node, w World) worker {
	switch s.kind {
	case "ai-decision":
		return readDecision(f, s, config, w)
	case "service":
		return readCall(f, config, w)
	case "transform":
		return readTransform(f, s, config)
	case "parallel":
		return readParallel(f, config, w)
	case "wait":
		return readWait(f, s, config, w)
	case "map":
		return readEach(f, config, w)
	case "workflow":
		return readChild(f, config, w)
	case "agent":
		return readAgent(f, s, config, w)
	}
	return noWork{}
}
