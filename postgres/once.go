package postgres

import (
	"encoding/json"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// once is what is known of deliveries with a name, by the place of their records.
type once map[place]*delivery

type delivery struct {
	version int64 // of the record that is stored, expired ones included; 0: none is
	first   json.RawMessage
}

// remembered queues the look at what the batch's deliveries with a name have been before. Their
// records are locked; two that are made anew at the same moment meet at their key, and one
// of the transactions is undone and looks again.
func (w *work) remembered() once {
	var spaces, keys []string
	for _, m := range w.b.Sends {
		if m.Err == nil && m.Once != nil {
			space, key := m.Place()
			spaces, keys = append(spaces, space), append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	all := once{}
	w.rows(func(row pgx.CollectableRow) error {
		var at place
		var d delivery
		var live bool
		var first []byte
		err := row.Scan(&at.space, &at.key, &d.version, &live, &first)
		if live {
			d.first = first
		}
		all[at] = &d
		return err
	}, `SELECT r.space, r.key, r.version, r.until > $3, r.data FROM records AS r JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[])) AS u (space, key)
		ON r.space = u.space AND r.key = u.key ORDER BY r.space, r.key FOR UPDATE OF r`, spaces, keys, w.us)
	return all
}

// repeats answers a delivery that was made before.
func (o once) repeats(m *pawl.Send) (bool, error) {
	space, key := m.Place()
	d := o[place{space, key}]
	if d == nil || d.first == nil {
		return false, nil
	}
	return true, m.Repeats(d.first)
}

// remember queues the record of a delivery that was made now.
func (w *work) remember(o once, m *pawl.Send) {
	space, key := m.Place()
	d := o[place{space, key}]
	q := "UPDATE records SET version = $3, until = $4, data = $5 WHERE space = $1 AND key = $2"
	if d == nil {
		d = &delivery{}
		o[place{space, key}] = d
		q = "INSERT INTO records (space, key, version, until, data) VALUES ($1, $2, $3, $4, $5)"
	}
	d.version, d.first = max(d.version+1, w.us), m.Remembers()
	w.exec(q, space, key, d.version, m.Once.Until.UnixMicro(), []byte(d.first))
}
