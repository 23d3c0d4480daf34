package flow

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
		return readWait(f, s, config)
	case "map":
		return readEach(f, config, w)
	}
	return readChild(f, config, w)
}
