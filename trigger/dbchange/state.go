package dbchange

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// state is how far a source has come. It changes by compare-and-swap, after the runs of what it passes are committed.
//
// Of a query: all rows up to Low have started their run, and none comes there any more. Above Low up to Max rows may
// still appear, of transactions that were open; those that have started are remembered as seen. Marks say up to
// where Low may move, and when.
type state struct {
	Place   string `json:"place"`             // what it belongs to: another one begins anew
	Reading string `json:"reading,omitempty"` // how rows are told apart

	Begun bool     `json:"begun,omitempty"`
	Low   position `json:"low,omitzero"`
	Max   position `json:"max,omitzero"`
	Marks []mark   `json:"marks,omitempty"` // the lowest first
	First int64    `json:"first,omitempty"` // the pages of seen rows: from First, before Next
	Next  int64    `json:"next,omitempty"`

	Reader string   `json:"reader,omitempty"` // of a table: its name in the outbox
	Gone   []reader `json:"gone,omitempty"`   // to be taken out of theirs

	Rows        int64     `json:"rows"`
	Refused     int64     `json:"refused"`
	LastRow     time.Time `json:"lastRow,omitzero"`
	LastRefused string    `json:"lastRefused,omitempty"`
}

// mark says that rows below Max which are not seen can only come from the transactions Open, which were open after Max
// was seen: who takes a cursor's value later gets none below. When all of these have ended, and Settle has passed, one more
// reading from Low finds whatever they have left below Max.
type mark struct {
	Max      position  `json:"max"`
	At       time.Time `json:"at"`
	Open     []string  `json:"open,omitempty"`
	Prepared bool      `json:"prepared,omitempty"` // those that have gone may have been prepared: these are in Open since
}

// reader is a name in an outbox.
type reader struct {
	Connection string `json:"connection"`
	Table      string `json:"table"`
	Name       string `json:"name"`
}

// errMoved says that somebody else has written the state.
var errMoved = errors.New("another server has gone on with this source")

// seen is a page of rows that have started.
type seen struct {
	number int64
	max    position
	rows   []seenRow
}

type seenRow struct {
	At position `json:"at"`
	ID string   `json:"id"` // what its run's id ends in
}

func indexKey(tenant, id string) string { return hashOf(tenant, id) }

func hashOf(parts ...string) string {
	sum := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(sum, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// place is what a state belongs to.
func (s *Source) place() string {
	return hashOf(s.Created.UTC().Format(time.RFC3339Nano), s.Connection, s.Cursor, s.Table)
}

// reading is how rows are told apart.
func (s *Source) reading() string { return hashOf(append([]string{s.Query}, s.Key...)...) }

func seenKey(id string, number int64) string { return fmt.Sprintf("%s/%016d", id, number) }

// load reads the state anew, and begins it where there is none for this source.
func (w *work) load(ctx context.Context) error {
	w.st, w.version, w.seen, w.pages, w.form = state{}, 0, map[string]position{}, nil, nil
	record, err := w.e.Record(ctx, stateSpace+w.src.Tenant, w.src.ID)
	if err != nil && !errors.Is(err, pawl.ErrNotFound) {
		return err
	}
	if err == nil {
		if err := json.Unmarshal(record.Data, &w.st); err != nil {
			return fmt.Errorf("its state can't be read: %w", err)
		}
		w.version = record.Version
	}
	if w.st.Place != w.src.place() {
		gone := w.st.Gone
		if w.st.Reader != "" {
			gone = append(gone, w.reader())
		}
		w.st = state{Place: w.src.place(), Reading: w.src.reading(), Gone: gone, First: w.st.Next, Next: w.st.Next}
		if err := w.forget(ctx); err != nil {
			return err
		}
	}
	if w.st.Reading != w.src.reading() { // rows can't be told apart as before: go on behind what was read
		w.st.Reading, w.st.Low, w.st.Marks, w.st.First = w.src.reading(), w.st.Max, nil, w.st.Next
		return w.forget(ctx)
	}
	for n := w.st.First; n < w.st.Next; n++ {
		record, err := w.e.Record(ctx, seenSpace+w.src.Tenant, seenKey(w.src.ID, n))
		if errors.Is(err, pawl.ErrNotFound) {
			return errMoved
		}
		if err != nil {
			return err
		}
		page := seen{number: n}
		if err := json.Unmarshal(record.Data, &page.rows); err != nil {
			return fmt.Errorf("what it has seen can't be read: %w", err)
		}
		w.remember(page)
	}
	return nil
}

// remember takes a page of started rows into memory.
func (w *work) remember(page seen) {
	for _, r := range page.rows {
		w.seen[r.ID] = r.At
		if page.max.zero() || r.At.compare(page.max) > 0 {
			page.max = r.At
		}
	}
	page.rows = nil
	w.pages = append(w.pages, page)
}

// forget deletes all pages.
func (w *work) forget(ctx context.Context) error {
	for {
		records, err := w.e.Records(ctx, seenSpace+w.src.Tenant, w.src.ID+"/", "", 100)
		if err != nil || len(records) == 0 {
			return err
		}
		var puts []pawl.Put
		for _, record := range records {
			puts = append(puts, pawl.Put{Space: record.Space, Key: record.Key, If: pawl.AnyVersion})
		}
		if err := w.save(ctx, puts...); err != nil { // with the state that has none
			return err
		}
	}
}

// save writes the state over the one that was read, and more beside it. errMoved: nothing was written.
func (w *work) save(ctx context.Context, puts ...pawl.Put) error {
	for len(w.pages) > 0 && w.pages[0].max.compare(w.st.Low) <= 0 { // nothing shows these rows any more
		puts = append(puts, pawl.Put{Space: seenSpace + w.src.Tenant, Key: seenKey(w.src.ID, w.pages[0].number), If: pawl.AnyVersion})
		w.pages = w.pages[1:]
		w.st.First++
	}
	data, err := json.Marshal(w.st)
	if err != nil {
		return err
	}
	versions, err := w.e.Write(ctx, append([]pawl.Put{{Space: stateSpace + w.src.Tenant, Key: w.src.ID, If: w.version, Data: data}}, puts...)...)
	if errors.Is(err, pawl.ErrConflict) {
		return errMoved
	}
	if err != nil {
		return err
	}
	w.version = versions[0]
	return nil
}

// passed writes that rows are done with, of which some have started and some were refused; those of a query as seen.
func (w *work) passed(ctx context.Context, rows []row, started int, refused []Refusal) error {
	var puts []pawl.Put
	var page seen
	now := time.Now().UTC()
	asSeen := w.src.Query != ""
	if asSeen {
		page.number = w.st.Next
		for _, r := range rows {
			page.rows = append(page.rows, seenRow{At: r.at, ID: tail(r.id)})
			if r.at.compare(w.st.Max) > 0 {
				w.st.Max = r.at
			}
		}
		data, err := json.Marshal(page.rows)
		if err != nil {
			return err
		}
		w.st.Next++
		puts = append(puts, pawl.Put{Space: seenSpace + w.src.Tenant, Key: seenKey(w.src.ID, page.number), If: pawl.AnyVersion, Data: data})
	}
	for _, r := range refused {
		if r.again {
			continue
		}
		w.st.Refused++
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		w.st.LastRefused = r.Reason
		puts = append(puts, pawl.Put{Space: refusedSpace + w.src.Tenant, Key: w.refusedKey(r.Run), If: pawl.AnyVersion, Data: data, Until: now.Add(refusedFor)})
	}
	w.st.Rows += int64(started)
	if started > 0 {
		w.st.LastRow = now
	}
	if asSeen {
		w.remember(page)
	}
	return w.save(ctx, puts...)
}

// tail is what tells the runs of a source apart.
func tail(run string) string { return run[strings.LastIndexByte(run, '@')+1:] }
