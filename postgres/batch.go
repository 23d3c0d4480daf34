package postgres

import (
	"fmt"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
)

// original is what a commit changes of a batch besides filling in answers.
type original struct {
	entries map[*pawl.Change][]pawl.Entry
	ids     map[*pawl.Start]string
}

func remember(b *pawl.Batch) *original {
	o := &original{}
	start := func(st *pawl.Start) {
		if st.Policy == pawl.CancelOld || st.Policy == pawl.Queue {
			if o.ids == nil {
				o.ids = map[*pawl.Start]string{}
			}
			o.ids[st] = st.Run.ID
		}
	}
	for _, ch := range b.Changes {
		if len(ch.Hooks)+len(ch.Children) > 0 {
			if o.entries == nil {
				o.entries = map[*pawl.Change][]pawl.Entry{}
			}
			o.entries[ch] = slices.Clone(ch.Entries)
		}
		for _, st := range ch.Children {
			start(st)
		}
	}
	for _, st := range b.Starts {
		start(st)
	}
	return o
}

// restore makes b what it was before any commit was tried.
func (o *original) restore(b *pawl.Batch) {
	b.Granted, b.Mail, b.Ready, b.Due = b.Granted[:0], b.Mail[:0], false, time.Time{}
	start := func(st *pawl.Start) {
		st.Key, st.Existed, st.Info, st.Err = 0, false, pawl.RunInfo{}, nil
	}
	for _, ch := range b.Changes {
		ch.Err, ch.Mail = nil, nil
		for i := range ch.Hooks {
			ch.Hooks[i].Owner = ""
		}
		for _, st := range ch.Children {
			start(st)
		}
		if ch.To != nil && ch.To.Next != nil {
			start(ch.To.Next)
		}
	}
	for ch, entries := range o.entries {
		copy(ch.Entries, entries)
	}
	for _, st := range b.Starts {
		start(st)
	}
	for st, id := range o.ids {
		st.Run.ID = id
	}
	for _, m := range b.Sends {
		m.Info, m.Count, m.Err = pawl.RunInfo{}, 0, nil
	}
	for _, o := range b.Orders {
		o.Info, o.Err = pawl.RunInfo{}, nil
	}
}

// refuse answers what PostgreSQL could not store: text that is none would undo the whole
// batch, time and again.
func (w *work) refuse() {
	for _, ch := range w.b.Changes {
		ch.Err = unfitChange(ch)
	}
	for _, st := range w.b.Starts {
		st.Err = unfitStart(st)
	}
	for _, m := range w.b.Sends {
		if !isText(m.Name) {
			m.Err = fmt.Errorf("%w: the event's name is no text: %q", pawl.ErrInput, m.Name)
		}
	}
}
