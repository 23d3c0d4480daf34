package postgres

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// buffer is what a commit has decided to write and not yet queued.
type buffer struct {
	entries []pending
	put     []*message // kept to the end, for the answers
	inboxed int        // how many of put are queued

	consumedRun, consumed []int64

	waits map[runKey]pawl.Wait // without an Event: the wait is over
	attr  map[runKey]*string

	chunks    []*pawl.Chunk
	chunkRun  []int64
	tied      map[int64]bool
	solo      []int64
	cleared   []int64 // runs that ended, whose leftovers go
	failed    []int64 // runs that failed, whose leftovers go if no retry needs them
	hookOps   []hookOp
	hooksLive bool // hookOps has a registration
}

type pending struct {
	run int64
	e   *pawl.Entry
}

type runKey struct {
	run int64
	key string
}

// append writes an entry. It may still be changed until flush.
func (w *work) append(run int64, e *pawl.Entry) { w.entries = append(w.entries, pending{run, e}) }

func (w *work) consume(run, id int64) {
	w.consumedRun, w.consumed = append(w.consumedRun, run), append(w.consumed, id)
}

func (w *work) wait(run int64, key, event string, need int64) {
	if w.waits == nil {
		w.waits = map[runKey]pawl.Wait{}
	}
	w.waits[runKey{run, key}] = pawl.Wait{Event: event, Need: need}
}

func (w *work) chunk(run int64, c *pawl.Chunk) {
	w.chunks, w.chunkRun = append(w.chunks, c), append(w.chunkRun, run)
}

func (w *work) attrs(run int64, attrs []pawl.Attr) {
	for _, a := range attrs {
		if w.attr == nil {
			w.attr = map[runKey]*string{}
		}
		w.attr[runKey{run, a.Name}] = a.Value
	}
}

// tie says that the run's end touches other rows than its own.
func (w *work) tie(run int64) {
	if r := w.runs[run]; r != nil {
		r.dirty = r.dirty || !r.ties
		r.ties = true
		return
	}
	if w.tied == nil {
		w.tied = map[int64]bool{}
	}
	w.tied[run] = true
}

// clear deletes what an ended run leaves behind, but for what a retry of a failed one needs.
func (w *work) clear(r *run, next *pawl.Start) {
	if r.State == pawl.Failed && next == nil {
		w.failed = append(w.failed, r.Key)
		return
	}
	w.cleared = append(w.cleared, r.Key)
}

// lasting reports whether a message for a run that has ended stays for the case that it is
// retried; see lastingSQL.
func lasting(s pawl.State, message string) bool {
	event, is := strings.CutPrefix(message, pawl.MsgEvent)
	return s == pawl.Failed && (is && !strings.HasPrefix(event, "$") || strings.HasPrefix(message, pawl.MsgHook) || strings.HasPrefix(message, pawl.MsgChild))
}

const lastingSQL = "(name LIKE 'event:%' AND name NOT LIKE 'event:$%' OR name LIKE 'hook:%' OR name LIKE 'child:%')"

// flush queues all that was decided.
func (w *work) flush() {
	w.flushRuns()
	w.flushInbox()
	w.flushWaits()
	w.flushRest()
	w.flushCleared()
	w.flushEntries()
}

const journalInsert = `INSERT INTO journal (run, seq, kind, key, at, took, data)
	SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::text[], $5::bigint[], $6::bigint[], $7::bytea[])`

func (w *work) flushEntries() {
	n := len(w.entries)
	if n == 0 {
		return
	}
	runs, seqs, ats, took := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	kinds, keys, data := make([]int32, n), make([]string, n), make([][]byte, n)
	for i, p := range w.entries {
		e := p.e
		runs[i], seqs[i], kinds[i], keys[i], took[i], data[i] = p.run, e.Seq, kindOf(e), e.Key, int64(e.Took), e.Data
		if !e.At.IsZero() {
			ats[i] = e.At.UnixMicro()
		}
	}
	w.exec(journalInsert, runs, seqs, kinds, keys, ats, took, data)
	w.entries = w.entries[:0]
}

// kindOf is what the column kind holds.
func kindOf(e *pawl.Entry) int32 {
	kind := int32(e.Kind) | int32(e.Attempt)<<8
	if e.Failed {
		kind |= 1 << 7
	}
	return kind
}

const runUpdate = `UPDATE runs AS r SET state = u.state, reason = nullif(u.reason, ''), epoch = u.epoch, worker = u.worker,
	rank = nullif(u.rank, -9223372036854775808), due = nullif(u.due, -9223372036854775808), gate = nullif(u.gate, ''), updated = u.updated,
	ended = nullif(u.ended, -9223372036854775808), expires = nullif(u.expires, -9223372036854775808), limits = nullif(u.limits, ''),
	next = nullif(u.next, ''), strikes = nullif(u.strikes, 0), deadline = nullif(u.deadline, -9223372036854775808),
	not_before = nullif(u.not_before, -9223372036854775808), ties = u.ties, solo = u.solo, seen = nullif(u.seen, 0), untold = u.untold, changed = DEFAULT
	FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[],
		$11::bigint[], $12::text[], $13::text[], $14::integer[], $15::bigint[], $16::bigint[], $17::boolean[], $18::boolean[], $19::bigint[], $20::boolean[])
		AS u (key, state, reason, epoch, worker, rank, due, gate, updated, ended, expires, limits, next, strikes, deadline, not_before, ties, solo, seen, untold)
	WHERE r.key = u.key`

func (w *work) flushRuns() {
	var dirty []*run
	for _, r := range w.runs {
		if r.dirty {
			dirty = append(dirty, r)
			r.dirty = false
		}
	}
	if len(dirty) == 0 {
		return
	}
	slices.SortFunc(dirty, func(a, b *run) int { return cmp.Compare(a.Key, b.Key) })
	w.exec(runUpdate, column(dirty, func(r *run) int64 { return r.Key }), column(dirty, func(r *run) int16 { return int16(r.State) }),
		column(dirty, func(r *run) string { return r.Reason }), column(dirty, func(r *run) int64 { return r.Epoch }),
		column(dirty, func(r *run) int64 { return r.Worker }), column(dirty, func(r *run) int64 { return r.rank }),
		column(dirty, func(r *run) int64 { return micro(r.Due) }), column(dirty, func(r *run) string { return r.Gate }),
		column(dirty, func(r *run) int64 { return r.Updated.UnixMicro() }), column(dirty, func(r *run) int64 { return micro(r.Ended) }),
		column(dirty, func(r *run) int64 { return r.expires }), column(dirty, func(r *run) string { return r.Limits }),
		column(dirty, func(r *run) string { return r.Next }), column(dirty, func(r *run) int32 { return int32(r.Strikes) }),
		column(dirty, func(r *run) int64 { return micro(r.Deadline) }), column(dirty, func(r *run) int64 { return micro(r.NotBefore) }),
		column(dirty, func(r *run) bool { return r.ties }), column(dirty, func(r *run) bool { return r.solo }),
		column(dirty, func(r *run) int64 { return r.seen }), column(dirty, func(r *run) bool { return r.untold }))
}

// column makes an array of one field of many things.
func column[T, C any](things []T, field func(T) C) []C {
	out := make([]C, len(things))
	for i, t := range things {
		out[i] = field(t)
	}
	return out
}

func (w *work) flushInbox() {
	fresh := w.put[w.inboxed:]
	w.inboxed = len(w.put)
	fresh = slices.DeleteFunc(slices.Clone(fresh), func(m *message) bool { return w.runs[m.run].State.Terminal() && !lasting(w.runs[m.run].State, m.Name) })
	if len(fresh) > 0 {
		// Ids are drawn in the order of the messages, by rows in order; the locks of their
		// runs' rows are held.
		ids := make([]int64, 0, len(fresh))
		w.rows(func(row pgx.CollectableRow) error {
			var id int64
			err := row.Scan(&id)
			if ids = append(ids, id); len(ids) == len(fresh) {
				slices.Sort(ids)
				for i, m := range fresh {
					m.ID = ids[i]
				}
			}
			return err
		}, `INSERT INTO inbox (run, name, at, data) SELECT run, name, $3, data FROM unnest($1::bigint[], $2::text[], $4::bytea[]) WITH ORDINALITY
			AS u (run, name, data, n) ORDER BY n RETURNING id`,
			column(fresh, func(m *message) int64 { return m.run }), column(fresh, func(m *message) string { return m.Name }), w.us,
			column(fresh, func(m *message) []byte { return m.Data }))
	}
	if len(w.consumed) > 0 {
		w.exec("DELETE FROM inbox AS i USING unnest($1::bigint[], $2::bigint[]) AS u (run, id) WHERE i.run = u.run AND i.id = u.id", w.consumedRun, w.consumed)
		w.consumedRun, w.consumed = nil, nil
	}
}

func (w *work) flushWaits() {
	if len(w.waits) == 0 {
		return
	}
	var runs, newRuns, needs []int64
	var keys, newKeys, events []string
	for _, k := range sortedKeys(w.waits) {
		runs, keys = append(runs, k.run), append(keys, k.key)
		if wait := w.waits[k]; wait.Event != "" {
			newRuns, newKeys, events, needs = append(newRuns, k.run), append(newKeys, k.key), append(events, wait.Event), append(needs, wait.Need)
		}
	}
	w.exec("DELETE FROM waits AS w USING unnest($1::bigint[], $2::text[]) AS u (run, key) WHERE w.run = u.run AND w.key = u.key", runs, keys)
	if len(events) > 0 {
		w.exec(`INSERT INTO waits (run, key, event, need) SELECT run, key, event, CASE WHEN event LIKE '$%' THEN need END
			FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS u (run, key, event, need)`, newRuns, newKeys, events, needs)
	}
	w.waits = nil
}

func sortedKeys[V any](m map[runKey]V) []runKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b runKey) int { return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.key, b.key)) })
}

// flushRest queues what few changes have.
func (w *work) flushRest() {
	if len(w.chunks) > 0 {
		w.exec(`INSERT INTO chunks (run, stream, idx, at, closed, data, step, attempt, epoch, first)
			SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::boolean[], $6::bytea[], $7::text[], $8::integer[], $9::bigint[], $10::boolean[])`, w.chunkRun,
			column(w.chunks, func(c *pawl.Chunk) string { return c.Stream }), column(w.chunks, func(c *pawl.Chunk) int64 { return c.Index }),
			column(w.chunks, func(c *pawl.Chunk) int64 { return microOr0(c.At) }), column(w.chunks, func(c *pawl.Chunk) bool { return c.Closed }),
			column(w.chunks, func(c *pawl.Chunk) []byte { return c.Data }),
			column(w.chunks, func(c *pawl.Chunk) string { return c.Step }), column(w.chunks, func(c *pawl.Chunk) int { return c.Attempt }),
			column(w.chunks, func(c *pawl.Chunk) int64 { return c.Epoch }), column(w.chunks, func(c *pawl.Chunk) bool { return c.First }))
		w.chunks, w.chunkRun = nil, nil
	}
	if len(w.attr) > 0 {
		var runs, gone []int64
		var names, goneNames []string
		var values [][]byte
		for _, k := range sortedKeys(w.attr) {
			if v := w.attr[k]; v != nil {
				runs, names, values = append(runs, k.run), append(names, k.key), append(values, []byte(*v))
			} else {
				gone, goneNames = append(gone, k.run), append(goneNames, k.key)
			}
		}
		if len(gone) > 0 {
			w.exec("DELETE FROM attrs AS a USING unnest($1::bigint[], $2::text[]) AS u (run, name) WHERE a.run = u.run AND a.name = u.name", gone, goneNames)
		}
		if len(runs) > 0 {
			w.exec(`INSERT INTO attrs (run, name, value) SELECT * FROM unnest($1::bigint[], $2::text[], $3::bytea[])
				ON CONFLICT (run, name) DO UPDATE SET value = excluded.value`, runs, names, values)
		}
		w.attr = nil
	}
	if len(w.tied) > 0 {
		w.exec(`UPDATE runs SET ties = true WHERE key = ANY(ARRAY(SELECT key FROM runs WHERE key = ANY($1::bigint[]) AND NOT ties ORDER BY key FOR UPDATE))`,
			slices.Sorted(maps.Keys(w.tied)))
		w.tied = nil
	}
	if len(w.solo) > 0 {
		for _, key := range w.solo {
			if r := w.runs[key]; r != nil {
				r.solo = true
			}
		}
		w.exec("UPDATE runs SET solo = true WHERE key = ANY($1::bigint[])", w.solo)
		w.solo = nil
	}
}

func microOr0(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func (w *work) flushCleared() {
	all := slices.Concat(w.cleared, w.failed)
	if len(all) == 0 {
		return
	}
	w.flushWaits()
	w.flushInbox()
	if len(w.cleared) > 0 {
		w.exec("DELETE FROM inbox WHERE run = ANY($1::bigint[])", w.cleared)
		w.exec("DELETE FROM hooks WHERE run = ANY($1::bigint[]) AND hold = 0 AND remember = 0", w.cleared)
		w.exec("UPDATE hooks SET until = $2 + hold, forget = $2 + hold + remember WHERE run = ANY($1::bigint[]) AND until IS NULL", w.cleared, w.us)
	}
	if len(w.failed) > 0 {
		w.exec("DELETE FROM inbox WHERE run = ANY($1::bigint[]) AND NOT "+lastingSQL, w.failed)
		w.exec("UPDATE hooks SET until = $2 + hold WHERE run = ANY($1::bigint[]) AND until IS NULL", w.failed, w.us)
	}
	w.exec("DELETE FROM waits WHERE run = ANY($1::bigint[])", all)
	w.cleared, w.failed = nil, nil
}
