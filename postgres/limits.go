package postgres

import (
	"cmp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

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
		c.exec(`UPDATE runs AS r SET gate = nullif(u.gate, ''), rank = CASE WHEN u.gate <> '' THEN coalesce(r.rank, u.at) END, due = CASE WHEN u.gate = '' THEN u.at END, changed = DEFAULT
			FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS u (key, gate, at) WHERE r.key = u.key`, later.runs, later.limits, later.at)
	}
	for _, gate := range aside { // nobody else would tell those who queue there
		c.count(func(n int64) { c.out.More = c.out.More || n > 0 },
			"UPDATE runs SET gate = NULL, changed = DEFAULT WHERE key = (SELECT key FROM runs WHERE gate = $1 ORDER BY rank, key LIMIT 1 FOR UPDATE)", gate)
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
