package trigger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pawlrun/pawl"
)

// Control holds the starts of a trigger together, or apart. All of it is kept in the store: what was accepted is started, whatever dies.
// Each part may have a key, an expression over event whose value (a text, a number, true or false) tells apart what is counted
// apart; "" is one for all. For a webhook, event has the delivery's id, the path as its name, and the body as its data.
type Control struct {
	// Debounce starts one run for deliveries that follow each other closely, with the newest.
	Debounce *Debounce `json:"debounce,omitempty"`
	// Batch starts one run for several deliveries; its input is {"events": […]}, with what would have been the input of each, as they came. Not
	// with Debounce or Singleton.
	Batch *Batch `json:"batch,omitempty"`
	// RateLimit lets runs that are beyond it wait for their beginning: see [pawl.StartRate].
	RateLimit *RateLimit `json:"rateLimit,omitempty"`
	// Singleton lets one run at a time go on.
	Singleton *Singleton `json:"singleton,omitempty"`
}

// Debounce waits until nothing has come for Period, but no longer than Timeout after the first; 0: as long as things come.
type Debounce struct {
	Period  time.Duration `json:"period"`
	Timeout time.Duration `json:"timeout,omitempty"`
	Key     string        `json:"key,omitempty"`
}

// Batch waits until MaxSize deliveries have come, or Timeout has passed since the first. A batch is also complete when it has 1 MiB.
type Batch struct {
	MaxSize int           `json:"maxSize"` // 1 to 1,000
	Timeout time.Duration `json:"timeout"`
	Key     string        `json:"key,omitempty"`
}

// RateLimit is how many runs may begin in any Period.
type RateLimit struct {
	Limit  int           `json:"limit"`
	Period time.Duration `json:"period"`
	Key    string        `json:"key,omitempty"`
}

// Singleton says what becomes of a start while a run of the same key has not ended: it is skipped, or with Cancel that run is
// cancelled, and the new one begins when it has ended.
type Singleton struct {
	Key    string `json:"key,omitempty"`
	Cancel bool   `json:"cancel,omitempty"`
}

// mostBatch is how many deliveries a batch may have.
const mostBatch = 1000

func (c *Control) check() error {
	if c == nil {
		return nil
	}
	if b := c.Batch; b != nil {
		switch {
		case c.Debounce != nil:
			return errors.New("debounce keeps the newest and batch keeps all: choose one")
		case c.Singleton != nil:
			return errors.New("a batch that singleton skips would be lost: choose one")
		case b.MaxSize < 1 || b.MaxSize > mostBatch:
			return fmt.Errorf("a batch has 1 to %d deliveries, not %d", mostBatch, b.MaxSize)
		case b.Timeout <= 0:
			return errors.New("a batch needs a timeout, after which it is started though it is not full")
		}
	}
	if d := c.Debounce; d != nil && (d.Period <= 0 || d.Timeout < 0 || d.Timeout > 0 && d.Timeout < d.Period) {
		return errors.New("the period of debounce must be over zero, and its timeout no shorter")
	}
	if r := c.RateLimit; r != nil && (r.Limit < 1 || r.Period <= 0) {
		return errors.New("the limit and the period of rateLimit must be over zero")
	}
	for _, source := range c.keys() {
		if _, err := keyOf(source); err != nil {
			return err
		}
	}
	return nil
}

// keys are the expressions.
func (c *Control) keys() (out []string) {
	if c.Debounce != nil {
		out = append(out, c.Debounce.Key)
	}
	if c.Batch != nil {
		out = append(out, c.Batch.Key)
	}
	if c.RateLimit != nil {
		out = append(out, c.RateLimit.Key)
	}
	if c.Singleton != nil {
		out = append(out, c.Singleton.Key)
	}
	return out
}

// gathers reports whether deliveries are not started one by one.
func (c *Control) gathers() bool { return c != nil && (c.Debounce != nil || c.Batch != nil) }

// bounds are what is said of a run as it starts, with the keys that its event has.
type bounds struct {
	Rate   string        `json:"rate,omitempty"` // the key; "": no limit
	Limit  int           `json:"limit,omitempty"`
	Per    time.Duration `json:"per,omitempty"`
	Single string        `json:"single,omitempty"` // the key; "": it is no singleton
	Cancel bool          `json:"cancel,omitempty"`
}

// bind finds the keys that an event has. *MatchError.
func (c *Control) bind(ctx context.Context, trigger string, of *subject) (b bounds, gate string, err error) {
	if c == nil {
		return b, "", nil
	}
	value := func(what, source string) string {
		k, kerr := keyOf(source)
		var text string
		if kerr == nil {
			text, kerr = k.of(ctx, of)
		}
		err = errors.Join(err, kerr)
		return hashOf(what, trigger, text)
	}
	if r := c.RateLimit; r != nil {
		b.Rate, b.Limit, b.Per = value("rate", r.Key), r.Limit, r.Period
	}
	if s := c.Singleton; s != nil {
		b.Single, b.Cancel = value("single", s.Key), s.Cancel
	}
	switch {
	case c.Debounce != nil:
		gate = value("gate", c.Debounce.Key)
	case c.Batch != nil:
		gate = value("gate", c.Batch.Key)
	}
	return b, gate, err
}

// options are those of the start.
func (b *bounds) options() (opts []pawl.StartOption) {
	if b.Rate != "" {
		opts = append(opts, pawl.StartRate(b.Limit, b.Per, b.Rate))
	}
	policy := pawl.ReturnExisting
	if b.Single != "" {
		opts = append(opts, pawl.SingletonKey(b.Single))
		if b.Cancel {
			policy = pawl.CancelOld
		}
	}
	return append(opts, pawl.OnConflict(policy))
}

// Key is an expression over event that tells events apart: as a [Match], but its value is a text, a number, true or false.
type Key struct{ m *Match }

// ParseKey reads and checks an expression. *MatchError, an ErrInput.
func ParseKey(source string) (*Key, error) {
	m, err := parse(source, true)
	if err != nil {
		return nil, err
	}
	return &Key{m}, nil
}

// keyOf is ParseKey; "" is nil, for which all events are alike.
func keyOf(source string) (*Key, error) {
	if source == "" {
		return nil, nil
	}
	return ParseKey(source)
}

// of is the key of an event. *MatchError.
func (k *Key) of(ctx context.Context, of *subject) (string, error) {
	if k == nil {
		return "", nil
	}
	v, err := k.m.value(ctx, of)
	if err != nil {
		return "", err
	}
	switch v := v.(type) {
	case string:
		return "s" + v, nil
	case int64:
		return "n" + strconv.FormatInt(v, 10), nil
	case float64:
		if whole := int64(v); float64(whole) == v {
			return "n" + strconv.FormatInt(whole, 10), nil
		}
		return "n" + strconv.FormatFloat(v, 'g', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", &MatchError{Source: k.m.source, Err: fmt.Errorf("it yielded %T and no text, number or bool", v)}
}
