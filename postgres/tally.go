package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// tallied are the runs that a tally looks at, and which of them it counts.
const tallied = `WITH newest AS MATERIALIZED (SELECT version, state, created, ended, created >= $4 AND created < $5 AS wanted FROM (
	SELECT coalesce(version, '') AS version, state, created, ended FROM runs WHERE workflow = $1 AND tenant = $2 ORDER BY key DESC LIMIT $3) AS r) `

// Tally implements pawl.Store.
func (s *Store) Tally(ctx context.Context, f pawl.TallyFilter) (out pawl.Tally, err error) {
	from, to := int64(-1<<62), int64(1<<62)
	if !f.From.IsZero() {
		from = f.From.UnixMicro()
	}
	if !f.To.IsZero() {
		to = f.To.UnixMicro()
	}
	args := []any{clean(f.Workflow), clean(f.Tenant), f.Most, from, to}
	var all int64
	var oldest time.Time
	err = s.read(ctx, "tally", func(c *pgxpool.Conn) error {
		out, all, oldest = pawl.Tally{}, 0, time.Time{}
		rows, err := c.Query(ctx, tallied+"SELECT version, state, count(*), count(*) FILTER (WHERE wanted), min(created) FROM newest GROUP BY 1, 2", args...)
		if err != nil {
			return err
		}
		var version string
		var state int16
		var many, wanted, first int64
		if _, err := pgx.ForEachRow(rows, []any{&version, &state, &many, &wanted, &first}, func() error {
			if wanted > 0 {
				out.Counts = append(out.Counts, pawl.RunCount{Version: version, State: pawl.State(state), Runs: wanted})
			}
			if at := fromMicro(&first); oldest.IsZero() || at.Before(oldest) {
				oldest = at
			}
			all += many
			return nil
		}); err != nil {
			return err
		}
		var took [4]int64
		err = c.QueryRow(ctx, tallied+`SELECT count(*), coalesce(avg(took), 0)::bigint, coalesce(min(took) FILTER (WHERE place * 100 >= many * 50), 0),
			coalesce(min(took) FILTER (WHERE place * 100 >= many * 95), 0), coalesce(min(took) FILTER (WHERE place * 100 >= many * 99), 0)
			FROM (SELECT ended - created AS took, row_number() OVER (ORDER BY ended - created) AS place, count(*) OVER () AS many FROM newest WHERE wanted AND state = 4) AS t`,
			args...).Scan(&out.Took.Of, &took[0], &took[1], &took[2], &took[3])
		us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
		out.Took.Mean, out.Took.P50, out.Took.P95, out.Took.P99 = us(took[0]), us(took[1]), us(took[2]), us(took[3])
		return err
	})
	if all == int64(f.Most) {
		out.Since = oldest
	}
	return out, err
}
