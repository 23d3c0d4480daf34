package postgres

import (
	"fmt"

	"github.com/pawlrun/pawl"
)

// refuse looks for what PostgreSQL could not store: text that is none would undo the whole
// batch, time and again. A start or a send is answered by itself; a change is what a run
// has done, and can't be left out.
func (w *work) refuse() error {
	for _, ch := range w.b.Changes {
		if err := unfitChange(ch); err != nil {
			return fmt.Errorf("%w: %w", pawl.ErrRefused, err)
		}
	}
	for _, st := range w.b.Starts {
		st.Err = unfitStart(st)
	}
	for _, m := range w.b.Sends {
		if !isText(m.Name) {
			m.Err = fmt.Errorf("%w: the event's name is no text: %q", pawl.ErrInput, m.Name)
		}
	}
	return nil
}
