package dbchange

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
)

// Sources keeps sources in the store of an engine, and tells of them. They belong to the store: no process that ends
// takes one along. All methods are safe for concurrent use in many processes.
type Sources struct{ Engine *pawl.Engine }

const (
	sourceSpace  = "dbchange.sources:" // + tenant; a source by its id
	indexSpace   = "dbchange.all"      // all sources of all tenants, for Runners
	stateSpace   = "dbchange.states:"  // + tenant; how far it has come
	seenSpace    = "dbchange.seen:"    // + tenant; rows that were started and that a query may still show
	claimSpace   = "dbchange.claims:"  // + tenant; who watches it
	refusedSpace = "dbchange.refused:" // + tenant; rows that can't start a run
)

// kept is a source as it is stored.
type kept struct {
	Source
	Removed bool `json:"removed,omitempty"` // a Runner takes it out of its database, and then away
}

// Put writes a source. Revision is what it must have: 0 it must be new, [trigger.AnyRevision] whichever; else it is an
// ErrConflict. One that is there already and stays the same is not written. A source begins with what is changed from its
// first look on. One whose query, key, interval or workflow has changed goes on where it is; another connection, cursor or table
// begins anew. ErrInput, ErrState: the id belongs to a flow.
func (s Sources) Put(ctx context.Context, src Source) (Source, error) {
	if src.Owner != "" || strings.HasPrefix(src.ID, trigger.OwnedPrefix) {
		return Source{}, fmt.Errorf("%w: database source %.160s: what begins with %s belongs to a flow: deploy the flow, or choose another id", pawl.ErrState, src.ID, trigger.OwnedPrefix)
	}
	if err := src.Check(); err != nil {
		return Source{}, err
	}
	return s.change(ctx, src.Tenant, src.ID, func(k *kept, now time.Time) error {
		have := k.Revision
		if k.Removed {
			have = 0
		}
		if src.Revision >= 0 && src.Revision != have {
			return conflict(src.ID, src.Revision, have)
		}
		return k.become(src, now)
	})
}

// Get returns a source. ErrNotFound.
func (s Sources) Get(ctx context.Context, tenant, id string) (Source, error) {
	k, _, err := s.read(ctx, tenant, id)
	if err == nil && (k.Revision == 0 || k.Removed) {
		err = missing(id)
	}
	if err != nil {
		return Source{}, err
	}
	return k.Source, nil
}

// List returns a page of a tenant's sources whose id comes after after, in the order of their ids. limit 0 means 100; at
// most 1,000. A page may be shorter than limit; the last is empty.
func (s Sources) List(ctx context.Context, tenant, after string, limit int) ([]Source, error) {
	for {
		page, err := s.Engine.Records(ctx, sourceSpace+tenant, "", after, limit)
		if err != nil {
			return nil, fmt.Errorf("list database sources: %w", err)
		}
		var out []Source
		for _, record := range page {
			k, err := decode(record)
			if err != nil {
				return nil, err
			}
			if after = record.Key; !k.Removed {
				out = append(out, k.Source)
			}
		}
		if len(out) > 0 || len(page) == 0 {
			return out, nil
		}
	}
}

// Remove ends a source: no Runner that has heard of it starts a run any more, within seconds. A Runner with its connection also
// takes what it has left in its outbox away; the triggers stay, see [Outbox.Uninstall]. ErrNotFound, ErrState.
func (s Sources) Remove(ctx context.Context, tenant, id string, must ...trigger.IfRevision) error {
	return s.owned(ctx, tenant, id, must, func(k *kept) { k.Removed = true })
}

// Pause leaves the changes where they are, or goes on with them. ErrNotFound, ErrState.
func (s Sources) Pause(ctx context.Context, tenant, id string, paused bool, must ...trigger.IfRevision) error {
	return s.owned(ctx, tenant, id, must, func(k *kept) { k.Paused = paused })
}

func (s Sources) owned(ctx context.Context, tenant, id string, must []trigger.IfRevision, f func(*kept)) error {
	_, err := s.change(ctx, tenant, id, func(k *kept, now time.Time) error {
		if k.Revision == 0 || k.Removed {
			return missing(id)
		}
		if k.Owner != "" {
			return fmt.Errorf("%w: database source %s belongs to %s: change its triggers and deploy it, or deactivate it", pawl.ErrState, id, strings.Replace(k.Owner, ":", " ", 1))
		}
		for _, want := range must {
			if int64(want) != k.Revision {
				return conflict(id, int64(want), k.Revision)
			}
		}
		old := *k
		if f(k); old.Paused == k.Paused && old.Removed == k.Removed {
			return errSame
		}
		k.stamp(now)
		return nil
	})
	return err
}

// Replace returns what is to be written so that an owner has these sources in a tenant and no others; nothing is
// written yet: the owner adds its own to it and gives all to one Engine.Write. The write is an ErrConflict if anything has
// changed meanwhile; then Replace is asked again. The owner begins with "flow:", and the id of each source with the
// owner and ":". What stays the same is not written. ErrInput: one can't be.
func Replace(ctx context.Context, e *pawl.Engine, tenant, owner string, want []Source) ([]pawl.Put, error) {
	if !strings.HasPrefix(owner, trigger.OwnedPrefix) {
		return nil, fmt.Errorf("%w: the owner %.100q must begin with %s", pawl.ErrInput, owner, trigger.OwnedPrefix)
	}
	left := map[string]Source{}
	for _, src := range want {
		if src.Tenant != tenant || src.Owner != owner || !strings.HasPrefix(src.ID, owner+":") {
			return nil, fmt.Errorf("%w: database source %.160q of tenant %.128q is none of %s", pawl.ErrInput, src.ID, src.Tenant, owner)
		}
		if err := src.Check(); err != nil {
			return nil, err
		}
		left[src.ID] = src
	}
	now := time.Now().UTC()
	var puts []pawl.Put
	change := func(k *kept, version int64, f func() error) error {
		err := f()
		if errors.Is(err, errSame) {
			return nil
		}
		if err != nil {
			return err
		}
		more, err := k.puts(version)
		puts = append(puts, more...)
		return err
	}
	for after := ""; ; {
		page, err := e.Records(ctx, sourceSpace+tenant, owner+":", after, 1000)
		if err != nil {
			return nil, fmt.Errorf("read the database sources of %s: %w", owner, err)
		}
		for _, record := range page {
			after = record.Key
			k, err := decode(record)
			if err != nil {
				return nil, err
			}
			src, stays := left[record.Key]
			delete(left, record.Key)
			err = change(k, record.Version, func() error {
				switch {
				case stays:
					return k.become(src, now)
				case k.Removed:
					return errSame
				}
				k.Removed = true
				k.stamp(now)
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		if len(page) == 0 {
			break
		}
	}
	for _, src := range left {
		k := &kept{}
		if err := change(k, 0, func() error { return k.become(src, now) }); err != nil {
			return nil, err
		}
	}
	return puts, nil
}

// errSame lets a change end without a write.
var errSame = errors.New("nothing to change")

func missing(id string) error {
	return fmt.Errorf("%w: database source %.160q", pawl.ErrNotFound, id)
}

func conflict(id string, want, have int64) error {
	return fmt.Errorf("%w: database source %s has revision %d and not %d (0: there is none): somebody has changed it; read it again", pawl.ErrConflict, id, have, want)
}

// become makes it that source. errSame: it is already.
func (k *kept) become(src Source, now time.Time) error {
	there := k.Revision != 0 && !k.Removed
	if there && same(k.Source, src) {
		return errSame
	}
	old := k.Source
	k.Source, k.Removed = src, false
	k.Revision, k.Created = old.Revision, old.Created
	k.stamp(now)
	if !there {
		k.Created = k.Updated
	}
	return nil
}

// stamp gives it a new revision. No number comes again after a removal.
func (k *kept) stamp(now time.Time) {
	k.Updated = now
	k.Revision = max(k.Revision+1, now.UnixMicro())
}

func same(a, b Source) bool {
	plain := func(s Source) []byte {
		s.Revision, s.Created, s.Updated = 0, time.Time{}, time.Time{}
		data, _ := json.Marshal(s)
		return data
	}
	return bytes.Equal(plain(a), plain(b))
}

// entry is a source in the index.
type entry struct {
	Tenant string `json:"tenant,omitempty"`
	ID     string `json:"id"`
}

func (k *kept) puts(version int64) ([]pawl.Put, error) {
	data, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	at, _ := json.Marshal(entry{k.Tenant, k.ID})
	return []pawl.Put{
		{Space: sourceSpace + k.Tenant, Key: k.ID, If: version, Data: data},
		{Space: indexSpace, Key: indexKey(k.Tenant, k.ID), If: pawl.AnyVersion, Data: at},
	}, nil
}

func decode(record pawl.Record) (*kept, error) {
	k := &kept{}
	if err := json.Unmarshal(record.Data, k); err != nil {
		return nil, fmt.Errorf("database source %s: its record can't be read: %w", record.Key, err)
	}
	return k, nil
}

func (s Sources) read(ctx context.Context, tenant, id string) (*kept, int64, error) {
	if trigger.CheckID(id) != nil || len(tenant) > 128 {
		return nil, 0, missing(id)
	}
	record, err := s.Engine.Record(ctx, sourceSpace+tenant, id)
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return &kept{}, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("database source %s: %w", id, err)
	}
	k, err := decode(record)
	return k, record.Version, err
}

// change applies f to what is there, again if somebody else was faster.
func (s Sources) change(ctx context.Context, tenant, id string, f func(*kept, time.Time) error) (Source, error) {
	for {
		k, version, err := s.read(ctx, tenant, id)
		if err != nil {
			return Source{}, err
		}
		err = f(k, time.Now().UTC())
		if errors.Is(err, errSame) {
			return k.Source, nil
		}
		if err != nil {
			return Source{}, err
		}
		puts, err := k.puts(version)
		if err != nil {
			return Source{}, err
		}
		_, err = s.Engine.Write(ctx, puts...)
		if err == nil {
			return k.Source, nil
		}
		var faster *pawl.RecordConflictError
		if !errors.As(err, &faster) {
			return Source{}, fmt.Errorf("database source %s: %w", id, err)
		}
	}
}
