package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// place is where a record lies.
type place struct{ space, key string }

// places tells what is stored of the records that are to be written.
type places struct {
	have   map[place]int64 // the version; 0: it is not there
	old    map[place]int64 // versions that were there, expired ones included
	stored map[place]bool
}

// records writes the batch's records, each set of them if all are of the versions that they
// are to be of. Two that write a record anew at the same moment meet at its key: the second
// transaction is undone, and looks again.
func (w *work) records() error {
	there, err := w.lockRecords(w.b.Writes...)
	if err != nil {
		return err
	}
	for _, wr := range w.b.Writes {
		if wr.Err = there.refuses(wr); wr.Err == nil {
			w.store(there, wr)
		}
	}
	return nil
}

// lockRecords finds out what is stored of the records of writes, and locks it.
func (w *work) lockRecords(writes ...*pawl.Write) (places, error) {
	there := places{map[place]int64{}, map[place]int64{}, map[place]bool{}}
	var spaces, keys []string
	for _, wr := range writes {
		for _, p := range wr.Puts {
			spaces, keys = append(spaces, clean(p.Space)), append(keys, clean(p.Key))
		}
	}
	if len(keys) == 0 {
		return there, nil
	}
	w.rows(func(row pgx.CollectableRow) error {
		var at place
		var version int64
		var live bool
		err := row.Scan(&at.space, &at.key, &version, &live)
		there.old[at], there.stored[at] = version, true
		if live {
			there.have[at] = version
		}
		return err
	}, `SELECT r.space, r.key, r.version, r.until IS NULL OR r.until > $3 FROM records AS r JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[])) AS u (space, key)
		ON r.space = u.space AND r.key = u.key ORDER BY r.space, r.key FOR UPDATE OF r`, spaces, keys, w.us)
	return there, w.send()
}

// refuses returns why a set of records can't be written.
func (there places) refuses(wr *pawl.Write) error {
	for _, p := range wr.Puts {
		if p.If >= 0 && there.have[place{p.Space, p.Key}] != p.If {
			return &pawl.RecordConflictError{Space: p.Space, Key: p.Key, Want: p.If}
		}
	}
	return nil
}

// store queues a set of records.
func (w *work) store(there places, wr *pawl.Write) {
	wr.Versions = make([]int64, len(wr.Puts))
	for i, p := range wr.Puts {
		at := place{p.Space, p.Key}
		if p.Data == nil {
			w.exec("DELETE FROM records WHERE space = $1 AND key = $2", p.Space, p.Key)
			delete(there.have, at)
			there.stored[at] = false
			continue
		}
		version := max(there.old[at]+1, w.us) // greater than that of any that was deleted
		wr.Versions[i], there.have[at], there.old[at] = version, version, version
		q := "INSERT INTO records (space, key, version, until, data) VALUES ($1, $2, $3, $4, $5)"
		if there.stored[at] {
			q = "UPDATE records SET version = $3, until = $4, data = $5 WHERE space = $1 AND key = $2"
		}
		w.exec(q, p.Space, p.Key, version, microOrNil(p.Until), []byte(p.Data))
		there.stored[at] = true
	}
}

func microOrNil(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return new(t.UnixMicro())
}

// Records implements pawl.Store.
func (s *Store) Records(ctx context.Context, space, prefix, after string, limit int, now time.Time) (out []pawl.Record, err error) {
	if !isText(space) || !isText(prefix) || !isText(after) {
		return nil, nil
	}
	err = s.read(ctx, "read records", func(c *pgxpool.Conn) error {
		out, err = collect(ctx, c, func(row pgx.CollectableRow) (r pawl.Record, err error) {
			var until *int64
			err = row.Scan(&r.Key, &r.Version, (*[]byte)(&r.Data), &until)
			r.Space, r.Until = space, fromMicro(until)
			return r, err
		}, `SELECT key, version, data, until FROM records WHERE space = $1 AND key >= $2 AND key > $3 AND ($6 = '' OR key < $6) AND starts_with(key, $2)
		AND (until IS NULL OR until > $4) ORDER BY key LIMIT $5`, space, prefix, after, now.UnixMicro(), limit, pawl.PrefixEnd(prefix))
		return err
	})
	return out, err
}
