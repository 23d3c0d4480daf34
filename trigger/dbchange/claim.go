package dbchange

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pawlrun/pawl"
)

// claim says which Runner watches a source. It is a courtesy that keeps others from doing the same work: two who believe
// that they hold it start the same runs, and one of them moves the state.
type claim struct {
	Holder   string    `json:"holder,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	Polled   time.Time `json:"polled,omitzero"` // the last look that went well
	Error    string    `json:"error,omitempty"` // of the last look
	Failures int       `json:"failures,omitempty"`
}

// errLost says that the claim has run out, or that somebody else has it.
var errLost = errors.New("the lease of this source is over")

func readClaim(ctx context.Context, e *pawl.Engine, tenant, id string) (c claim, version int64, err error) {
	record, err := e.Record(ctx, claimSpace+tenant, id)
	if errors.Is(err, pawl.ErrNotFound) {
		return c, 0, nil
	}
	if err != nil {
		return c, 0, err
	}
	return c, record.Version, json.Unmarshal(record.Data, &c)
}

// take takes the claim if nobody has it. false: somebody does.
func (w *work) take(ctx context.Context) (bool, error) {
	c, version, err := readClaim(ctx, w.e, w.src.Tenant, w.src.ID)
	if err != nil || c.Holder != "" && c.Until.After(time.Now()) {
		return false, err
	}
	w.mu.Lock()
	w.told, w.claimVersion = c, version
	w.told.Failures = 0 // it is tried at once here
	w.mu.Unlock()
	err = w.renew(ctx)
	if errors.Is(err, errLost) {
		return false, nil
	}
	return err == nil, err
}

// renew prolongs the claim, and tells how the source stands.
func (w *work) renew(ctx context.Context) error {
	w.mu.Lock()
	until := time.Now().Add(w.house.lease)
	w.told.Holder, w.told.Until = w.holder, until.UTC()
	c, version := w.told, w.claimVersion
	w.mu.Unlock()
	versions, err := w.writeClaim(ctx, c, version)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.claimVersion, w.until = versions, until
	w.mu.Unlock()
	return nil
}

// release lets others have the claim at once, and leaves how the source stood.
func (w *work) release(ctx context.Context) error {
	w.mu.Lock()
	w.told.Holder, w.told.Until = "", time.Time{}
	c, version := w.told, w.claimVersion
	w.until = time.Time{}
	w.mu.Unlock()
	if version == 0 {
		return nil
	}
	_, err := w.writeClaim(ctx, c, version)
	if errors.Is(err, errLost) {
		return nil
	}
	return err
}

func (w *work) writeClaim(ctx context.Context, c claim, version int64) (int64, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return 0, err
	}
	versions, err := w.e.Write(ctx, pawl.Put{Space: claimSpace + w.src.Tenant, Key: w.src.ID, If: version, Data: data})
	if errors.Is(err, pawl.ErrConflict) {
		return 0, errLost
	}
	if err != nil {
		return 0, err
	}
	return versions[0], nil
}

// holds reports whether the claim is valid by this machine's clock.
func (w *work) holds() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Before(w.until)
}

// beat renews the claim until ctx ends, and calls lost when it can't.
func (w *work) beat(ctx context.Context, lost func()) {
	tick := time.NewTicker(w.house.lease / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := w.renew(ctx); errors.Is(err, errLost) || err != nil && !w.holds() {
			lost()
			return
		}
	}
}
