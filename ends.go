package pawl

// OnEnd lets f add records to the transaction in which a run that this engine works completes or fails for good: they are
// stored if and only if the end is. A run that goes on as another ([ContinueAs]) has not ended. seq is that of the run's last entry, which has its result.
// f is asked under the run's lock and must be quick, and ask no store; without an f, or where it returns nothing, an end costs nothing more. The records must have keys
// that nobody else writes, and be good: with one that no store takes the run can't end. Only the f that was given last is asked; nil: none.
func (e *Engine) OnEnd(f func(run *RunInfo, seq int64) []Put) {
	if f == nil {
		e.onEnd.Store(nil)
		return
	}
	e.onEnd.Store(&f)
}
