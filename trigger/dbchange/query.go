package dbchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Rows of a query come in the order of their cursor, but transactions do not commit in the order in which they have
// taken its values: a row may appear below others that were seen. What makes that safe:
//
//   - Who takes a value later gets a greater one, or the same. So a row that appears below a value that was seen is of a
//     transaction that was open when it was seen: the mark of that value names all of these.
//   - A mark is made of a look that first asks which transactions are open, and then reads all rows above Low: what
//     committed between the look that saw the value and the question is in that reading.
//   - When the transactions of a mark have ended, one more such reading finds what they have left. Only then Low moves:
//     to the greatest seen value below the mark's, since the mark's own may come again.
//   - Rows above Low are read again with each look. Those that have started are remembered, in the
//     same write that tells of them, and no run's retention matters.

const (
	batch     = 1000 // rows that start together
	mostNew   = 5 * batch
	mostMarks = 16
	mostHeld  = 200_000 // rows that are remembered as seen
	mostTied  = 64 * batch
	soonAgain = time.Second // how often all above Low is read while there is much to catch up
)

// query looks for rows. more: there are further ones, now.
func (w *work) query(ctx context.Context) (more bool, err error) {
	if w.form == nil {
		if w.form, err = w.db.prepare(ctx, &w.src); err != nil {
			return false, err
		}
	}
	live, prepared, err := w.db.running(ctx)
	if err != nil {
		return false, explained(err)
	}
	if !w.st.Begun {
		if err := w.begin(ctx); err != nil {
			return false, err
		}
	}
	now, before := time.Now(), w.st.Max
	full := !w.behind || now.Sub(w.full) >= soonAgain
	from := w.st.Low
	if full {
		w.full = now
		w.follow(live, prepared)
	} else {
		from = w.below(w.st.Max)
	}
	to, more, err := w.read(ctx, from)
	var held *heldError
	if err != nil && !errors.As(err, &held) {
		return false, err
	}
	w.behind = more
	reached := func(p position) bool { return !more && held == nil || to.compare(p) >= 0 }
	if full && !before.zero() && reached(before) {
		if err := w.settle(ctx, now, before, append(live, prepared...), reached); err != nil {
			return more, err
		}
	}
	if held != nil && len(w.seen) > mostHeld-batch { // and nothing could be let go
		w.behind = false
		return false, held
	}
	return more || held != nil, nil
}

// begin takes the rows that are there as seen, unless they are to start runs.
func (w *work) begin(ctx context.Context) error {
	w.st.Low, w.st.Begun = w.form.first, true
	if w.src.Existing {
		return w.save(ctx)
	}
	top, err := w.db.top(ctx, w.form, lowest)
	if err != nil || top.zero() {
		return cmp.Or(err, w.save(ctx))
	}
	below, err := w.db.top(ctx, w.form, top)
	if err != nil {
		return err
	}
	if below.zero() {
		below = w.form.first
	}
	// Others with the same cursor may still come: those that are there must be known.
	rows, more, err := w.db.page(ctx, &w.src, w.form, below, mostTied, func(row) bool { return true })
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return r.at.compare(top) != 0 })
	if w.st.Low, w.st.Max = below, top; more {
		w.st.Low, rows = top, nil
	}
	if len(rows) == 0 {
		return w.save(ctx)
	}
	return w.passed(ctx, rows, 0, nil)
}

// read starts runs for the rows above from that are not seen, and returns up to where it has come. more: there are further ones.
func (w *work) read(ctx context.Context, from position) (to position, more bool, err error) {
	to = from
	known := func(r row) bool { _, is := w.seen[tail(r.id)]; return is }
	for limit, fresh := mostNew, 0; ; {
		rows, cut, err := w.db.page(ctx, &w.src, w.form, to, limit, known)
		if err != nil {
			return to, false, err
		}
		left := slices.ContainsFunc(rows, func(r row) bool { return r.left })
		if cut && !left { // the last value may have further rows: they come with the next page
			last := rows[len(rows)-1].at
			i := slices.IndexFunc(rows, func(r row) bool { return r.at.compare(last) == 0 })
			if i == 0 {
				if limit *= 4; limit > 4*mostTied {
					return to, false, fmt.Errorf("more than %d rows have the cursor %s: take a column that tells rows apart", limit/4, last.Text)
				}
				continue
			}
			rows = rows[:i]
		}
		var unseen []row
		twice := map[string]bool{}
		for _, r := range rows {
			if id := tail(r.id); !r.left && !known(r) && !twice[id] {
				twice[id] = true
				unseen = append(unseen, r)
			}
		}
		for part := range slices.Chunk(unseen, batch) {
			if len(w.seen)+len(part) > mostHeld {
				return to, true, w.held()
			}
			started, refused, err := w.start(ctx, part)
			if err != nil {
				return to, false, err
			}
			if err := w.passed(ctx, part, started, refused); err != nil {
				return to, false, err
			}
		}
		if !left {
			limit = mostNew
			if len(rows) > 0 {
				to = rows[len(rows)-1].at
			}
		}
		if fresh += len(unseen); !cut && !left || fresh >= mostNew {
			return to, cut || left, nil
		}
	}
}

// follow takes the transactions that have ended out of the marks.
func (w *work) follow(live, prepared []string) {
	for i := range w.st.Marks {
		m := &w.st.Marks[i]
		m.Open = slices.DeleteFunc(slices.Clone(m.Open), func(tx string) bool {
			return !slices.Contains(live, tx) && !slices.Contains(prepared, tx)
		})
		if len(m.Open) == 0 && !m.Prepared {
			m.Open, m.Prepared = slices.Clone(prepared), true
		}
	}
}

// settle moves Low up to the marks whose transactions have ended, and makes a mark of the value that was the greatest before the
// reading. reached tells whether that has come to a position.
func (w *work) settle(ctx context.Context, now time.Time, before position, open []string, reached func(position) bool) error {
	moved := false
	for len(w.st.Marks) > 0 {
		m := w.st.Marks[0]
		if len(m.Open) > 0 || !m.Prepared || now.Sub(m.At) < w.src.settle() || !reached(m.Max) {
			break
		}
		w.st.Marks, moved = w.st.Marks[1:], true
		if low := w.below(m.Max); low.compare(w.st.Low) > 0 {
			w.st.Low = low
			for id, at := range w.seen {
				if at.compare(low) <= 0 {
					delete(w.seen, id)
				}
			}
		}
	}
	n := len(w.st.Marks)
	apart := w.src.settle() / mostMarks
	if n < mostMarks && w.below(before).compare(w.st.Low) > 0 &&
		(n == 0 || w.st.Marks[n-1].Max.compare(before) < 0 && now.Sub(w.st.Marks[n-1].At) >= apart) {
		w.st.Marks, moved = append(w.st.Marks, mark{Max: before, At: now.UTC(), Open: open}), true
	}
	if !moved {
		return nil
	}
	return w.save(ctx)
}

// below is the greatest seen position below p, or Low.
func (w *work) below(p position) position {
	low := w.st.Low
	for _, at := range w.seen {
		if at.compare(p) < 0 && at.compare(low) > 0 {
			low = at
		}
	}
	return low
}

// heldError says that too many rows are above Low.
type heldError struct{ reason string }

func (e *heldError) Error() string { return e.reason }

func (w *work) held() error {
	why := "rows came faster than settle lets them be forgotten"
	if len(w.st.Marks) > 0 && len(w.st.Marks[0].Open) > 0 {
		m := w.st.Marks[0]
		why = fmt.Sprintf("transactions are open since before %s that may still write rows below them: virtual transaction %s in pg_locks; end them",
			m.At.Format(time.RFC3339), strings.Join(m.Open[:min(len(m.Open), 5)], ", "))
	}
	return &heldError{fmt.Sprintf("%d rows wait to be passed for good, and no more are started: %s", len(w.seen), why)}
}

// Check looks whether a source can be watched: whether its query runs and has its columns, or its table has an outbox. ErrInput, or the
// error of the database.
func Check(ctx context.Context, c Connection, s Source) error {
	if err := s.Check(); err != nil {
		return err
	}
	db := databaseOf(c)
	if s.Table != "" {
		return db.watchable(ctx, &s)
	}
	if _, err := db.prepare(ctx, &s); err != nil {
		if !errors.Is(err, pawl.ErrInput) {
			err = fmt.Errorf("database source %s: %w", s.ID, err)
		}
		return err
	}
	_, _, err := db.running(ctx)
	return err
}
