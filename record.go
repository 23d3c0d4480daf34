package pawl

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Record is a small document that belongs to no run: a cached answer, a version of a
// prompt, the state of a bucket. Its space tells whose it is; the core knows no meaning.
type Record struct {
	Space   string          `json:"space"`
	Key     string          `json:"key"`
	Version int64           `json:"version"` // grows with each write; never comes again, even after a delete
	Data    json.RawMessage `json:"data"`
	Until   time.Time       `json:"until,omitzero"` // it is gone from then on; zero: it stays
}

// Put writes one record.
type Put struct {
	Space string
	Key   string
	If    int64           // the version that must be there: 0 none, AnyVersion whichever
	Data  json.RawMessage // nil deletes the record
	Until time.Time
}

// AnyVersion lets a Put write over whatever is there.
const AnyVersion = -1

// Write is a set of Puts, written whole or not at all.
type Write struct {
	Puts []Put

	// Answers.
	Versions []int64 // of the records written, in the order of Puts; 0: deleted
	Err      error   // ErrConflict: a Put met another version
}

// RecordConflictError reports that a record was not of the version that a Put named: somebody
// else has written it. It is an ErrConflict. Nothing was written.
type RecordConflictError struct {
	Space string
	Key   string
	Want  int64 // the version that was to be there; 0: none
}

func (e *RecordConflictError) Error() string {
	if e.Want == 0 {
		return fmt.Sprintf("record %q of %s is there already; read it, and write over its version", e.Key, e.Space)
	}
	return fmt.Sprintf("record %q of %s was written by somebody else since its version %d; read it again", e.Key, e.Space, e.Want)
}

// Is makes it an ErrConflict.
func (e *RecordConflictError) Is(target error) bool { return target == ErrConflict }

// Record returns one record. ErrNotFound.
func (e *Engine) Record(ctx context.Context, space, key string) (Record, error) {
	found, err := e.store.Records(ctx, space, key, "", 1, time.Now())
	if err == nil && (len(found) == 0 || found[0].Key != key) {
		err = fmt.Errorf("%w: record %q of %s", ErrNotFound, key, space)
	}
	if err != nil {
		return Record{}, err
	}
	return found[0], nil
}

// Records returns a page of the records of a space whose key begins with prefix, in the
// order of their keys, as bytes. The next page has the key of the last as its after.
func (e *Engine) Records(ctx context.Context, space, prefix, after string, limit int) ([]Record, error) {
	return e.store.Records(ctx, space, prefix, after, min(cmp.Or(max(limit, 0), 100), 1000), time.Now())
}

// PrefixEnd returns the least text that is behind all texts with a prefix, by their bytes, for
// stores to end a search at; "": there is none.
func PrefixEnd(prefix string) string {
	for prefix != "" {
		r, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		switch {
		case r == utf8.MaxRune: // nothing is behind it here
		case r == 0xd7ff:
			return prefix + "\ue000" // what lies between is no text
		default:
			return prefix + string(r+1)
		}
	}
	return ""
}

// Write writes records, all of them or none, and returns their versions. ErrConflict: one
// was not of the version that its Put names; what is there is to be read again. ErrInput,
// ErrTooLarge.
func (e *Engine) Write(ctx context.Context, puts ...Put) ([]int64, error) {
	if len(puts) == 0 {
		return nil, nil
	}
	if err := e.checkPuts(puts...); err != nil {
		return nil, err
	}
	w := &Write{Puts: puts}
	if err := e.submit(ctx, &item{write: w}); err != nil { // w may still be written to
		return nil, fmt.Errorf("write records of %s: %w", puts[0].Space, err)
	}
	return w.Versions, w.Err
}

// checkPuts says what no store would take. ErrInput, ErrTooLarge.
func (e *Engine) checkPuts(puts ...Put) error {
	seen := map[[2]string]bool{}
	for _, p := range puts {
		if err := checkName("name of a space of records", p.Space); err != nil {
			return fmt.Errorf("%w: %w", ErrInput, err)
		}
		at := [2]string{p.Space, p.Key}
		switch {
		case p.Key == "" || len(p.Key) > maxName || !isText(p.Key):
			return fmt.Errorf("%w: the key of a record of %s is no text of 1 to %d bytes without NUL: %.40q", ErrInput, p.Space, maxName, p.Key)
		case seen[at]:
			return fmt.Errorf("%w: record %q of %s is written twice at once", ErrInput, p.Key, p.Space)
		case p.Data != nil && !json.Valid(p.Data):
			return fmt.Errorf("%w: the data of record %q of %s is not JSON", ErrInput, p.Key, p.Space)
		case len(p.Data) > e.opt.MaxPayload:
			return &TooLargeError{What: fmt.Sprintf("record %q of %s", p.Key, p.Space), Size: len(p.Data), Limit: e.opt.MaxPayload}
		}
		seen[at] = true
	}
	return nil
}
