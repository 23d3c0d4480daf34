package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// Claim implements pawl.Store. Burying is a transaction of its own for each dead worker: one
// that waits for a commit which got stuck must not hold up the runs that are ready.
func (s *Store) Claim(ctx context.Context, q pawl.ClaimRequest) (out pawl.Claims, err error) {
	dead, idle, err := s.lookAround(ctx, q, &out)
	if err != nil {
		return out, err
	}
	freed := false
	for _, worker := range dead {
		gone, err := s.bury(ctx, worker, q.Now, &q.Now)
		if errors.Is(err, pawl.ErrUnknownOutcome) {
			return pawl.Claims{}, err
		}
		freed = freed || gone
	}
	if freed {
		s.hint()
	} else if idle {
		return out, nil
	}
	var gates []string
	for try := 0; ; try++ {
		var missing []string
		err = s.write(ctx, "claim", func(t *tx) (err error) {
			out = pawl.Claims{}
			c := &claim{tx: t, s: s, q: q, us: q.Now.UnixMicro(), last: try == 2, out: &out}
			missing, err = c.run(gates)
			return err
		})
		if !errors.Is(err, errGates) {
			break
		}
		gates = append(gates, missing...)
		slices.Sort(gates)
		gates = slices.Compact(gates)
	}
	if err != nil {
		return pawl.Claims{}, err
	}
	return out, nil
}

// lookAround tells, without a lock, which workers' leases have ended and whether there is
// anything to claim: an idle engine asks every second.
func (s *Store) lookAround(ctx context.Context, q pawl.ClaimRequest, out *pawl.Claims) (dead []int64, idle bool, err error) {
	err = s.read(ctx, "claim", func(c *pgxpool.Conn) error {
		var alive, ready bool
		var due *int64
		err := c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM workers WHERE id = $1), ARRAY(SELECT id FROM workers WHERE until < $2 ORDER BY id),
			EXISTS (SELECT FROM runs WHERE rank IS NOT NULL AND gate IS NULL), (SELECT min(due) FROM runs WHERE due IS NOT NULL)`,
			q.Worker, q.Now.UnixMicro()).Scan(&alive, &dead, &ready, &due)
		if err == nil && !alive {
			err = pawl.ErrFenced
		}
		out.Due = fromMicro(due)
		idle = !ready && (due == nil || *due > q.Now.UnixMicro())
		return err
	})
	return dead, idle, err
}

// errGates ends a try of a claim that met limits whose locks it does not hold. The locks
// come before those of rows, so it has to begin anew.
var errGates = errors.New("limits to be locked")

// claim is one try of a claim.
type claim struct {
	*tx
	s    *Store
	q    pawl.ClaimRequest
	us   int64
	last bool // leave runs whose limits are not locked for the next claim
	out  *pawl.Claims
}

type candidate struct {
	key    int64
	rank   int64
	epoch  int64
	limits []pawl.RunLimit
}

const candidateCols = "key, coalesce(rank, due - coalesce(priority, 0) * 1000000::bigint), epoch, coalesce(limits, '')"

func (c *claim) run(gates []string) (missing []string, err error) {
	var ready, due []candidate
	into := func(list *[]candidate) func(row pgx.CollectableRow) error {
		return func(row pgx.CollectableRow) error {
			var n candidate
			var limits string
			err := row.Scan(&n.key, &n.rank, &n.epoch, &limits)
			if err == nil && limits != "" {
				err = json.Unmarshal([]byte(limits), &n.limits)
			}
			*list = append(*list, n)
			return err
		}
	}
	c.begin()
	c.fence(c.q.Worker)
	held := map[string]bool{}
	if len(gates) > 0 {
		c.gates(c.s.schema, nil, nil, nil, gates, func(gate string) { held[gate] = true })
	}
	// Rows that somebody else has locked are being claimed, woken or ended there. The empty
	// text keeps the planner from sorting all runs of a workflow where an index has the order.
	c.rows(into(&ready), "SELECT "+candidateCols+` FROM runs WHERE rank IS NOT NULL AND gate IS NULL AND workflow || '' = ANY($1::text[])
		ORDER BY rank LIMIT $2 FOR UPDATE SKIP LOCKED`, c.q.Workflows, c.q.Limit)
	c.rows(into(&due), "SELECT "+candidateCols+` FROM runs WHERE due IS NOT NULL AND due <= $1 AND rank IS NULL AND gate IS NULL AND workflow || '' = ANY($2::text[])
		ORDER BY due LIMIT $3 FOR UPDATE SKIP LOCKED`, c.us, c.q.Workflows, c.q.Limit)
	if err := c.send(); err != nil {
		return nil, err
	}
	found := merge(ready, due, c.q.Limit)
	c.out.More = len(found) == c.q.Limit
	for _, n := range found {
		for _, l := range n.limits {
			if gate := "limit " + l.Key; !held[gate] {
				missing = append(missing, gate)
			}
		}
	}
	if len(missing) > 0 {
		if !c.last {
			return missing, errGates
		}
		found = slices.DeleteFunc(found, func(n candidate) bool {
			return slices.ContainsFunc(n.limits, func(l pawl.RunLimit) bool { return !held["limit "+l.Key] })
		})
	}
	keys, err := c.pass(found)
	if err != nil {
		return nil, err
	}
	c.grant(keys)
	c.rows(func(row pgx.CollectableRow) error {
		var due *int64
		err := row.Scan(&due)
		c.out.Due = fromMicro(due)
		return err
	}, "SELECT min(due) FROM runs WHERE due IS NOT NULL")
	return nil, nil
}

// merge takes the lowest ranks of two lists, the first of which is in order.
func merge(ready, due []candidate, limit int) []candidate {
	var out []candidate
	for len(out) < limit && len(ready)+len(due) > 0 {
		if len(due) == 0 || len(ready) > 0 && ready[0].rank <= due[0].rank {
			out, ready = append(out, ready[0]), ready[1:]
		} else {
			out, due = append(out, due[0]), due[1:]
		}
	}
	return out
}

// grant queues the statements that make runs the worker's and read their inboxes.
func (c *claim) grant(keys []int64) {
	if len(keys) == 0 {
		return
	}
	at := map[int64]int{}
	for i, key := range keys {
		at[key] = i
	}
	c.out.Runs = make([]pawl.Claim, len(keys))
	c.rows(func(row pgx.CollectableRow) error {
		r, err := scanRun(row)
		if err == nil {
			c.out.Runs[at[r.Key]].Info = r.RunInfo
		}
		return err
	}, `UPDATE runs SET state = $1, worker = $2, epoch = epoch + 1, rank = NULL, due = NULL, updated = $3, untold = false WHERE key = ANY($4::bigint[]) RETURNING `+runCols,
		int16(pawl.Running), c.q.Worker, c.us, keys)
	c.rows(func(row pgx.CollectableRow) error {
		m, err := scanMessage(row)
		if err == nil {
			to := &c.out.Runs[at[m.run]]
			to.Mail = append(to.Mail, m.Message)
		}
		return err
	}, "SELECT run, id, name, at, data FROM inbox WHERE run = ANY($1::bigint[]) ORDER BY id", keys)
}

// limitUse is what is known of a limit while its lock is held.
type limitUse struct {
	slots  int
	starts []int64 // under a rate limit, the newest first
	per    time.Duration
}

// pass takes a place under each limit of each run, or puts the run where it waits for one.
// It returns those that passed.
func (c *claim) pass(found []candidate) (passed []int64, err error) {
	use := map[string]*limitUse{}
	for _, n := range found {
		for _, l := range n.limits {
			if use[l.Key] == nil {
				use[l.Key] = &limitUse{}
			}
			use[l.Key].per = max(use[l.Key].per, l.Per)
		}
	}
	if len(use) > 0 {
		if err := c.measure(use); err != nil {
			return nil, err
		}
	}
	var taken, counted, later buffered
	var aside []string // limits with room that a run was let in under and does not take
	for _, n := range found {
		if !c.passes(n, use, &later) {
			for _, l := range n.limits {
				if l.Per == 0 && use[l.Key].slots < l.N {
					aside = append(aside, "limit "+l.Key)
				}
			}
			continue
		}
		passed = append(passed, n.key)
		for _, l := range n.limits {
			if l.Per == 0 {
				use[l.Key].slots++
				taken.add(n.key, l.Key, 0)
			} else if n.epoch == 0 {
				use[l.Key].starts = append([]int64{c.us}, use[l.Key].starts...)
				counted.add(n.key, l.Key, c.us-use[l.Key].per.Microseconds())
			}
		}
	}
	if len(later.runs) > 0 {
		// gate is a limit's name, or empty where a time is set
		c.exec(`UPDATE runs AS r SET gate = nullif(u.gate, ''), rank = CASE WHEN u.gate <> '' THEN coalesce(r.rank, u.at) END, due = CASE WHEN u.gate = '' THEN u.at END
			FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS u (key, gate, at) WHERE r.key = u.key`, later.runs, later.limits, later.at)
	}
	for _, gate := range aside { // nobody else would tell those who queue there
		c.count(func(n int64) { c.out.More = c.out.More || n > 0 },
			"UPDATE runs SET gate = NULL WHERE key = (SELECT key FROM runs WHERE gate = $1 ORDER BY rank, key LIMIT 1 FOR UPDATE)", gate)
	}
	if len(taken.runs) > 0 {
		c.exec("INSERT INTO slots (run, limited) SELECT * FROM unnest($1::bigint[], $2::text[]) ON CONFLICT DO NOTHING", taken.runs, taken.limits)
	}
	if len(counted.runs) > 0 {
		c.exec("DELETE FROM rates AS r USING unnest($1::text[], $2::bigint[]) AS u (limited, at) WHERE r.limited = u.limited AND r.at <= u.at", counted.limits, counted.at)
		c.exec("INSERT INTO rates (run, limited, at) SELECT run, limited, $3 FROM unnest($1::bigint[], $2::text[]) AS u (run, limited) ON CONFLICT DO NOTHING",
			counted.runs, counted.limits, c.us)
	}
	return passed, nil
}

type buffered struct {
	runs   []int64
	limits []string
	at     []int64
}

func (b *buffered) add(run int64, limit string, at int64) {
	b.runs, b.limits, b.at = append(b.runs, run), append(b.limits, limit), append(b.at, at)
}

// passes reports whether each limit of a run has a place for it; if not, it notes where the
// run waits.
func (c *claim) passes(n candidate, use map[string]*limitUse, later *buffered) bool {
	for _, l := range n.limits {
		u := use[l.Key]
		if l.Per == 0 {
			if u.slots >= l.N {
				later.add(n.key, "limit "+l.Key, n.rank)
				return false
			}
		} else if n.epoch == 0 && len(u.starts) >= l.N && l.N > 0 {
			// The N-th newest start within the period must leave it first.
			if at := u.starts[l.N-1]; at > c.us-l.Per.Microseconds() {
				later.add(n.key, "", at+l.Per.Microseconds())
				return false
			}
		}
	}
	return true
}

// measure reads how far limits are used. Their locks are held.
func (c *claim) measure(use map[string]*limitUse) error {
	var keys, rated []string
	var since []int64
	for key, u := range use {
		keys = append(keys, key)
		if u.per > 0 {
			rated, since = append(rated, key), append(since, c.us-u.per.Microseconds())
		}
	}
	c.rows(func(row pgx.CollectableRow) error {
		var key string
		var n int
		err := row.Scan(&key, &n)
		use[key].slots = n
		return err
	}, "SELECT limited, count(*) FROM slots WHERE limited = ANY($1::text[]) GROUP BY limited", keys)
	if len(rated) > 0 {
		c.rows(func(row pgx.CollectableRow) error {
			var key string
			var at int64
			err := row.Scan(&key, &at)
			use[key].starts = append(use[key].starts, at)
			return err
		}, "SELECT r.limited, r.at FROM unnest($1::text[], $2::bigint[]) AS u (limited, since) JOIN rates AS r ON r.limited = u.limited AND r.at > u.since", rated, since)
	}
	if err := c.send(); err != nil {
		return err
	}
	for _, u := range use {
		slices.SortFunc(u.starts, func(a, b int64) int { return cmp.Compare(b, a) })
	}
	return nil
}
