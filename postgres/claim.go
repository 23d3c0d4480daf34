package postgres

import (
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
	s       *Store
	q       pawl.ClaimRequest
	us      int64
	skipped bool // there was nothing, or what there was is locked
	last    bool // leave runs whose limits are not locked for the next claim
	out     *pawl.Claims
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
	c.skipped = len(found) == 0
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
	if c.skipped { // a message may be on its way to a run that is ready: nobody will hint at it again
		c.rows(func(row pgx.CollectableRow) error {
			var ready bool
			err := row.Scan(&ready)
			if soon := c.q.Now.Add(skipPause); ready && (c.out.Due.IsZero() || soon.Before(c.out.Due)) {
				c.out.Due = soon
			}
			return err
		}, `SELECT EXISTS (SELECT FROM runs WHERE rank IS NOT NULL AND gate IS NULL AND workflow || '' = ANY($1::text[]))
			OR EXISTS (SELECT FROM runs WHERE due IS NOT NULL AND due <= $2 AND rank IS NULL AND gate IS NULL AND workflow || '' = ANY($1::text[]))`, c.q.Workflows, c.us)
	}
	return nil, nil
}

// skipPause is when a claim that met nothing but locked rows is to be made again.
const skipPause = 5 * time.Millisecond

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
	}, `UPDATE runs SET state = $1, worker = $2, epoch = epoch + 1, rank = NULL, due = NULL, updated = $3, untold = false, changed = DEFAULT WHERE key = ANY($4::bigint[]) RETURNING `+runCols,
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
