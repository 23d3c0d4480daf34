package sqlite

import (
	"context"
	"time"

	"github.com/pawlrun/pawl"
)

// tallied are the runs that a tally looks at, and which of them it counts.
const tallied = `WITH newest AS MATERIALIZED (SELECT version, state, created, ended, created >= ?4 AND created < ?5 AS wanted FROM (
	SELECT coalesce(version, '') AS version, state, created, ended FROM runs WHERE workflow = ?1 AND tenant = ?2 ORDER BY key DESC LIMIT ?3)) `

// Tally implements pawl.Store.
func (s *Store) Tally(ctx context.Context, f pawl.TallyFilter) (out pawl.Tally, err error) {
	from, to := int64(-1<<62), int64(1<<62)
	if !f.From.IsZero() {
		from = f.From.UnixMicro()
	}
	if !f.To.IsZero() {
		to = f.To.UnixMicro()
	}
	args := []any{f.Workflow, f.Tenant, f.Most, from, to}
	var all int64
	var oldest time.Time
	err = s.read(ctx, func(c *conn) error {
		err := c.query(tallied+"SELECT version, state, count(*), sum(wanted), min(created) FROM newest GROUP BY 1, 2", args, func(r row) error {
			if wanted := r.int(3); wanted > 0 {
				out.Counts = append(out.Counts, pawl.RunCount{Version: r.str(0), State: pawl.State(r.int(1)), Runs: wanted})
			}
			if all += r.int(2); oldest.IsZero() || r.time(4).Before(oldest) {
				oldest = r.time(4)
			}
			return nil
		})
		if err != nil {
			return err
		}
		_, err = c.one(tallied+`SELECT count(*), coalesce(cast(avg(took) AS INTEGER), 0), coalesce(min(iif(place * 100 >= many * 50, took, NULL)), 0),
			coalesce(min(iif(place * 100 >= many * 95, took, NULL)), 0), coalesce(min(iif(place * 100 >= many * 99, took, NULL)), 0)
			FROM (SELECT ended - created AS took, row_number() OVER (ORDER BY ended - created) AS place, count(*) OVER () AS many FROM newest WHERE wanted AND state = 4)`, args, func(r row) error {
			took := func(i int) time.Duration { return time.Duration(r.int(i)) * time.Microsecond }
			out.Took = pawl.Spread{Of: r.int(0), Mean: took(1), P50: took(2), P95: took(3), P99: took(4)}
			return nil
		})
		return err
	})
	if all == int64(f.Most) {
		out.Since = oldest
	}
	return out, err
}
