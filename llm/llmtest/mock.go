package llmtest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// DefaultFailWait is the wait that random refusals name.
const DefaultFailWait = time.Second

// maxRefusals is how many refusals a bill lists, and how many a Mock remembers.
const maxRefusals = 10_000

// MockOptions says how a [Mock] misbehaves. The zero value does not.
type MockOptions struct {
	// Rate is how many calls a second are let through, all together; 0 means no limit.
	// Others are refused with status 429 and the wait until there is room. While nobody
	// calls, room is saved up for Burst calls; 0 means as many as Rate has in a second,
	// but at least one.
	Rate  float64
	Burst int

	// FailRate is the share of calls, from 0 to 1, that are refused at random with status
	// 429. They name FailWait as their wait; 0 means DefaultFailWait.
	FailRate float64
	FailWait time.Duration

	// Latency is how long every call takes beside what its rule says, unless it is refused.
	Latency time.Duration

	// Seed makes the chance: with the same seed, the same of the calls that arrive are
	// refused, counted in the order in which they arrive.
	Seed uint64

	// Prices makes the bill one of money too; nil leaves it at tokens.
	Prices *llm.Prices
}

// Mock is [Server] that can limit its rate, fail at random and be slow, and that keeps a
// bill. It answers by its script, in both wire formats, and GET /bill with its [Bill] as
// JSON. It is safe for concurrent use.
type Mock struct {
	opt     MockOptions
	handler http.Handler

	mu       sync.Mutex
	chance   *rand.Rand
	room     float64 // calls that may come at once now
	at       time.Time
	models   map[modelAsked]*ModelBill
	refusals []*Refusal
	open     map[string]*Refusal // those whose call has not come again
	early    int
}

type modelAsked struct{ provider, model string }

// NewMock returns a mock that answers by s. Options that mean nothing are an error.
func NewMock(s *Scripted, opt MockOptions) (*Mock, error) {
	switch {
	case !(opt.Rate >= 0) || math.IsInf(opt.Rate, 0):
		return nil, fmt.Errorf("the rate is %v; it is a number of calls a second, or 0 for no limit", opt.Rate)
	case opt.Burst < 0:
		return nil, fmt.Errorf("the burst is %d; it is a number of calls, or 0 for what the rate has in a second", opt.Burst)
	case !(opt.FailRate >= 0 && opt.FailRate <= 1):
		return nil, fmt.Errorf("the fail rate is %v; it is a share from 0 to 1", opt.FailRate)
	case opt.FailWait < 0 || opt.Latency < 0:
		return nil, errors.New("a wait or latency is negative")
	}
	opt.Burst = cmp.Or(opt.Burst, max(1, int(min(opt.Rate, math.MaxInt32))))
	opt.FailWait = cmp.Or(opt.FailWait, DefaultFailWait)
	m := &Mock{
		opt: opt, chance: rand.New(rand.NewPCG(opt.Seed, 0)), room: float64(opt.Burst), at: time.Now(),
		models: map[modelAsked]*ModelBill{}, open: map[string]*Refusal{},
	}
	mux := http.NewServeMux()
	mux.Handle("/", (&server{script: s, gate: m}).handler())
	mux.HandleFunc("GET /bill", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, m.Bill()) })
	m.handler = mux
	return m, nil
}

// ServeHTTP answers a call.
func (m *Mock) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// Bill is what a [Mock] has done so far: the account of a provider, to compare one's own
// with. Nobody pays it, as no model was asked.
type Bill struct {
	Says         string      `json:"says"`         // that no model was asked
	Calls        int         `json:"calls"`        // that could be read: Answered, Refused and Failed together
	Answered     int         `json:"answered"`     // with status 200
	Refused      int         `json:"refused"`      // by the rate or at random
	Failed       int         `json:"failed"`       // by the script, or left by the caller before the answer
	Usage        llm.Usage   `json:"usage"`        // of all answers, and of failures whose script says so
	MicroUSD     int64       `json:"microUSD"`     // of all calls whose price is known
	Unpriced     int         `json:"unpriced"`     // calls with a usage whose price is not known
	RetriedEarly int         `json:"retriedEarly"` // calls that came again before the wait that they were given
	Models       []ModelBill `json:"models"`       // by provider and name
	Refusals     []Refusal   `json:"refusals"`     // the last ones that named a wait, at most 10,000
}

// ModelBill is the part of a [Bill] that is for one model, by the name that was asked.
type ModelBill struct {
	Provider string    `json:"provider"` // whose wire format was spoken: openai or anthropic
	Model    string    `json:"model"`
	Answered int       `json:"answered"`
	Refused  int       `json:"refused"`
	Failed   int       `json:"failed"`
	Usage    llm.Usage `json:"usage"`
	MicroUSD int64     `json:"microUSD"`
	Unpriced int       `json:"unpriced"`
}

// Refusal is a call that was sent away with a wait. The same call is known by its body: a
// refusal is settled by the next one with the same body.
type Refusal struct {
	Provider string        `json:"provider"`
	Model    string        `json:"model"`
	Call     string        `json:"call"` // the same for calls with the same body
	At       time.Time     `json:"at"`
	Wait     time.Duration `json:"wait"`              // as it was named, in nanoseconds
	Retried  bool          `json:"retried,omitempty"` // the call came again,
	After    time.Duration `json:"after,omitempty"`   // so long after it was refused,
	Early    bool          `json:"early,omitempty"`   // which is before the wait was over
}

// Bill returns the bill so far.
func (m *Mock) Bill() Bill {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := Bill{Says: ModelName, RetriedEarly: m.early, Models: []ModelBill{}, Refusals: []Refusal{}}
	for _, of := range m.models {
		b.Answered += of.Answered
		b.Refused += of.Refused
		b.Failed += of.Failed
		b.Usage = b.Usage.Add(of.Usage)
		b.MicroUSD += of.MicroUSD
		b.Unpriced += of.Unpriced
		b.Models = append(b.Models, *of)
	}
	b.Calls = b.Answered + b.Refused + b.Failed
	slices.SortFunc(b.Models, func(x, y ModelBill) int {
		return cmp.Or(cmp.Compare(x.Provider, y.Provider), cmp.Compare(x.Model, y.Model))
	})
	for _, r := range m.refusals {
		b.Refusals = append(b.Refusals, *r)
	}
	return b
}

// admit settles the refusal that this call may be the answer to, and decides about it.
func (m *Mock) admit(ctx context.Context, d *dialect, model string, body []byte) (llm.Limits, *llm.Error) {
	limits, wait, why := m.decide(d, model, body)
	if wait > 0 {
		return limits, &llm.Error{Kind: llm.RateLimited, Message: why, Wait: wait, Limits: limits}
	}
	_ = pause(ctx, model, m.opt.Latency) // who has left meanwhile is told so by the script
	return limits, nil
}

func (m *Mock) decide(d *dialect, model string, body []byte) (limits llm.Limits, wait time.Duration, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.settle(call(body), now)
	unlucky := m.opt.FailRate > 0 && m.chance.Float64() < m.opt.FailRate
	if m.opt.Rate > 0 {
		m.room = min(m.room+now.Sub(m.at).Seconds()*m.opt.Rate, float64(m.opt.Burst))
		m.at = now
		if m.room < 1 {
			wait, why = seconds((1-m.room)/m.opt.Rate), fmt.Sprintf("more than %v calls a second", m.opt.Rate)
		} else if !unlucky {
			m.room--
		}
		limits.Requests = llm.Limit{Limit: m.opt.Burst, Remaining: int(m.room), Reset: seconds((float64(m.opt.Burst) - m.room) / m.opt.Rate)}
	}
	if wait == 0 && unlucky {
		wait, why = m.opt.FailWait, "refused at random"
	}
	if wait > 0 {
		wait = d.named(wait)
		m.of(d, model).Refused++
		m.remember(d, model, body, wait, now)
	}
	return limits, wait, why
}

// done counts how a call that was let through has ended.
func (m *Mock) done(d *dialect, model string, body []byte, usage llm.Usage, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.of(d, model)
	if err == nil {
		of.Answered++
	} else {
		of.Failed++
		if e, ok := errors.AsType[*llm.Error](err); ok && e.Wait > 0 {
			m.remember(d, model, body, d.named(e.Wait), time.Now())
		}
	}
	if usage == (llm.Usage{}) {
		return
	}
	of.Usage = of.Usage.Add(usage)
	if m.opt.Prices != nil {
		if cost, known := m.opt.Prices.Cost(d.provider, model, time.Now(), usage); known {
			of.MicroUSD += cost
			return
		}
	}
	of.Unpriced++
}

func (m *Mock) of(d *dialect, model string) *ModelBill {
	key := modelAsked{d.provider, model}
	of := m.models[key]
	if of == nil {
		of = &ModelBill{Provider: d.provider, Model: model}
		m.models[key] = of
	}
	return of
}

func (m *Mock) remember(d *dialect, model string, body []byte, wait time.Duration, now time.Time) {
	r := &Refusal{Provider: d.provider, Model: model, Call: call(body), At: now, Wait: wait}
	m.refusals = append(m.refusals, r)
	m.open[r.Call] = r
	if len(m.refusals) > maxRefusals {
		if oldest := m.refusals[0]; m.open[oldest.Call] == oldest {
			delete(m.open, oldest.Call)
		}
		m.refusals = m.refusals[1:]
	}
}

func (m *Mock) settle(call string, now time.Time) {
	r := m.open[call]
	if r == nil {
		return
	}
	delete(m.open, call)
	r.Retried, r.After = true, now.Sub(r.At)
	if r.Early = r.After < r.Wait; r.Early {
		m.early++
	}
}

// call is the name of all calls with this body.
func call(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}

// seconds rounds up to a millisecond, the finest that a header tells.
func seconds(s float64) time.Duration {
	return time.Duration(math.Ceil(s*1000)) * time.Millisecond
}
