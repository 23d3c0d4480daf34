package sqlite

import (
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// tx is a write transaction. There is one at a time, and its buffers are used again.
type tx struct {
	*conn
	rows    []pending // journal entries that flush will insert
	nextRun int64
	nextMsg int64
	now     time.Time
	us      int64 // now
	b       *pawl.Batch
	room    int            // what is left of b.Room
	woke    bool           // a run became claimable, or one held elsewhere got a message
	untold  map[int64]bool // runs that got a message from another than their worker since that was told all
	told    []int64        // those that it is told of in this transaction
	news    *news          // nil: nobody reads them
}

type pending struct {
	run int64
	e   *pawl.Entry
}

func (t *tx) init(c *conn) error {
	t.conn = c
	t.untold = map[int64]bool{}
	_, err := c.one("SELECT coalesce(max(key), 0) FROM runs", nil, func(r row) error { t.nextRun = r.int(0); return nil })
	if err != nil {
		return err
	}
	_, err = c.one("SELECT coalesce(max(id), 0) FROM inbox", nil, func(r row) error { t.nextMsg = r.int(0); return nil })
	// Ids of messages grow beyond those that were taken: a run remembers the newest it saw.
	t.nextMsg = max(t.nextMsg, time.Now().UnixMicro())
	return err
}

func (t *tx) begin() {
	t.rows = t.rows[:0]
	t.woke = false
	t.b = nil
	for _, run := range t.told { // the last transaction was committed
		delete(t.untold, run)
	}
	t.told = t.told[:0]
	if t.news != nil {
		t.news.clear()
	}
}

// forget drops what a rolled-back transaction had to say.
func (t *tx) forget() {
	clear(t.rows)
	t.rows, t.told = t.rows[:0], t.told[:0]
}

func (t *tx) at(now time.Time) { t.now, t.us = now, now.UnixMicro() }

// fence refuses a worker that was declared dead. In this store nothing else can commit
// between the check and the transaction's end.
func (t *tx) fence(worker int64) error {
	found, err := t.one("SELECT 1 FROM workers WHERE id = ?", []any{worker}, func(row) error { return nil })
	if err == nil && !found {
		err = pawl.ErrFenced
	}
	return err
}

// append buffers an entry; flush inserts them all with few statements.
func (t *tx) append(run int64, e *pawl.Entry) { t.rows = append(t.rows, pending{run, e}) }

const journalCols = 7

var journalInsert = func() map[int]string {
	m := map[int]string{}
	for _, n := range []int{1, 4, 16, 64} {
		m[n] = "INSERT INTO journal (run, seq, kind, key, at, took, data) VALUES " + strings.Repeat(", (?, ?, ?, ?, ?, ?, ?)", n)[2:]
	}
	return m
}()

// kindOf is what the journal's column kind holds.
func kindOf(e *pawl.Entry) int64 {
	kind := int64(e.Kind) | int64(e.Attempt)<<8
	if e.Failed {
		kind |= 1 << 7
	}
	return kind
}

// fit reports whether entries may be inserted by one statement: SQLite copies all that is bound to it.
func fit(rows []pending) bool {
	size := 0
	for _, p := range rows {
		size += len(p.e.Data)
	}
	return size <= maxBound
}

// maxBound is how many bytes of results one statement inserts at most, unless one result alone has more.
const maxBound = 1 << 20

func (t *tx) flush() error {
	for rows := t.rows; len(rows) > 0; {
		n := 1
		for _, size := range []int{64, 16, 4} {
			if len(rows) >= size && fit(rows[:size]) {
				n = size
				break
			}
		}
		args := make([]any, 0, n*journalCols)
		for _, p := range rows[:n] {
			args = append(args, p.run, p.e.Seq, kindOf(p.e), p.e.Key, p.e.At, int64(p.e.Took), raw(p.e.Data))
		}
		if _, err := t.exec(journalInsert[n], args...); err != nil {
			return fmt.Errorf("append to the journal: %w", err)
		}
		rows = rows[n:]
	}
	if t.news != nil {
		for _, p := range t.rows {
			e := *p.e
			e.At, e.Data = e.At.UTC().Truncate(time.Microsecond), nil
			t.news.entries = append(t.news.entries, heard{p.run, e})
		}
	}
	clear(t.rows)
	t.rows = t.rows[:0]
	return nil
}

// note appends an entry to the journal of a run that nobody holds.
func (t *tx) note(run int64, e pawl.Entry) error {
	if err := t.flush(); err != nil {
		return err
	}
	_, err := t.one("SELECT max(seq) FROM journal WHERE run = ?", []any{run}, func(r row) error { e.Seq = r.int(0) + 1; return nil })
	t.append(run, &e)
	return err
}
