package pawl

import (
	"slices"
	"time"
)

// Unanswer takes back what a store has answered, for a transaction that was not committed.
func (b *Batch) Unanswer() {
	b.Granted, b.Mail, b.Ready, b.Due = b.Granted[:0], b.Mail[:0], false, time.Time{}
	for _, ch := range b.Changes {
		ch.Err, ch.Mail = nil, nil
		for i := range ch.Hooks {
			ch.Hooks[i].Owner, ch.Hooks[i].From = "", HookRef{}
		}
		for _, r := range ch.Reserves {
			r.Charge, r.Over = 0, nil
		}
	}
	b.eachStart(func(st *Start) { st.Key, st.Existed, st.Info, st.Err = 0, false, RunInfo{}, nil })
	for _, m := range b.Sends {
		m.Info, m.Count, m.Repeated, m.First, m.Err = RunInfo{}, 0, false, nil, nil
	}
	for _, o := range b.Orders {
		o.Info, o.Err = RunInfo{}, nil
	}
	for _, o := range b.Budgets {
		o.Info, o.Err = Budget{}, nil
	}
	for _, s := range b.Settles {
		s.Err = nil
	}
	for _, w := range b.Writes {
		w.Versions, w.Err = nil, nil
	}
}

// release lets go of all that b points to, and keeps its arrays: they may be idle for long,
// and what they point to is parts of runs.
func (b *Batch) release() {
	clear(b.Changes)
	clear(b.Starts)
	clear(b.Sends)
	clear(b.Orders)
	clear(b.Budgets)
	clear(b.Settles)
	clear(b.Writes)
	clear(b.Granted)
	clear(b.Mail)
}

// outside is how many things in b come from callers and not from runs.
func (b *Batch) outside() int {
	return len(b.Starts) + len(b.Sends) + len(b.Orders) + len(b.Budgets) + len(b.Settles) + len(b.Writes)
}

func (b *Batch) eachStart(do func(st *Start)) {
	for _, ch := range b.Changes {
		for _, st := range ch.Children {
			do(st)
		}
		if ch.To != nil && ch.To.Next != nil {
			do(ch.To.Next)
		}
	}
	for _, st := range b.Starts {
		do(st)
	}
}

// Said is what a store changes of a batch, besides filling in answers, as it writes it: the
// entries of hooks and children, and the ids of runs that a policy puts beside another. A
// store restores it before it tries again, and before it returns an error.
type Said struct {
	b       *Batch
	entries map[*Change][]Entry
	ids     map[*Start]string
}

// Said remembers b as it was given to the store.
func (b *Batch) Said() Said {
	s := Said{b: b}
	for _, ch := range b.Changes {
		if len(ch.Hooks)+len(ch.Children) > 0 {
			if s.entries == nil {
				s.entries = map[*Change][]Entry{}
			}
			s.entries[ch] = slices.Clone(ch.Entries)
		}
	}
	b.eachStart(func(st *Start) {
		if st.Policy == CancelOld || st.Policy == Queue {
			if s.ids == nil {
				s.ids = map[*Start]string{}
			}
			s.ids[st] = st.Run.ID
		}
	})
	return s
}

// Restore makes the batch what it was, without answers.
func (s Said) Restore() {
	s.b.Unanswer()
	for ch, entries := range s.entries {
		copy(ch.Entries, entries)
	}
	for st, id := range s.ids {
		st.Run.ID = id
	}
}
