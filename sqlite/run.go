package sqlite

import (
	"encoding/json"
	"time"

	"github.com/pawlrun/pawl"
)

// runCols are the columns that scanRun reads.
const runCols = `key, id, tenant, workflow, version, state, reason, epoch, worker, priority, created, updated, ended, due,
	not_before, deadline, parent_key, gate, strikes, seed, detached, keep, next, forked, trace, limits, parent`

func scanRun(r row) pawl.RunInfo {
	return pawl.RunInfo{
		Key: r.int(0), ID: r.str(1), Tenant: r.str(2), Workflow: r.str(3), Version: r.str(4),
		State: pawl.State(r.int(5)), Reason: r.str(6), Epoch: r.int(7), Worker: r.int(8), Priority: int(r.int(9)),
		Created: r.time(10), Updated: r.time(11), Ended: r.time(12), Due: r.time(13), NotBefore: r.time(14), Deadline: r.time(15),
		ParentKey: r.str(16), Gate: r.str(17), Strikes: int(r.int(18)), Seed: r.int(19), Detached: r.int(20) != 0,
		Keep: time.Duration(r.int(21)) * time.Microsecond, Next: r.str(22), Forked: r.str(23), Trace: r.str(24), Limits: r.str(25), ParentRun: r.int(26),
	}
}

func (c *conn) get(run int64) (info pawl.RunInfo, found bool, err error) {
	found, err = c.one("SELECT "+runCols+" FROM runs WHERE key = ?", []any{run}, func(r row) error {
		info = scanRun(r)
		return nil
	})
	return info, found, err
}

func (c *conn) lookup(tenant, id string) (info pawl.RunInfo, found bool, err error) {
	found, err = c.one("SELECT "+runCols+" FROM runs WHERE id = ? AND tenant = ?", []any{id, tenant}, func(r row) error {
		info = scanRun(r)
		return nil
	})
	return info, found, err
}

// text is s, or NULL when it is empty.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// keep is a retention in microseconds; one shorter than that is still negative if it was.
func keep(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Microseconds()
}

func orNull(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

func boolean(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own types
	}
	return b
}
