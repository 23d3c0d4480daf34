package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// once asks a provider once: in turn, if its breaker lets it, and if there is money for it.
// Where there is an answer, the caller leaves the note of it, when it knows what it is worth.
func (a *attempt) once(ctx context.Context, r route, why string, req *llm.Request) (*llm.Response, *Made, error) {
	made := &Made{Why: why, Model: r.name, Prompt: a.prompt, Vars: a.vars, Fork: a.fork, Shape: a.q.Shape.written(), Hash: hashOf(req), Known: min(a.q.Known, len(req.Messages)), Window: a.q.window, At: time.Now()}
	shown := *req
	shown.Messages = req.Messages[made.Known:]
	made.Request = &shown

	var b bill
	if a.prompt != nil {
		r.label = fmt.Sprintf("%s@%d", a.prompt.Name, a.prompt.Version)
	}
	ask := func(ctx context.Context) (res *llm.Response, err error) {
		b, err = a.m.pay(ctx, r, llm.EstimateInput(req), req.MaxTokens, func(ctx context.Context) (u llm.Usage, l llm.Limits, id string, err error) {
			if res, err = a.call(ctx, r, req); err != nil {
				return u, l, id, err
			}
			return res.Usage, res.Limits, res.RequestID, nil
		})
		return res, err
	}
	res, err := a.cached(ctx, r, req, made, ask)
	made.Paced, made.Took, made.Usage, made.Cost, made.Guess, made.RequestID = b.paced, b.took, b.usage, b.cost, b.guess, b.requestID
	a.answer.Usage = a.answer.Usage.Add(b.usage)
	a.answer.Cost += b.cost
	a.took += b.took
	a.answer.Guess = a.answer.Guess || b.guess
	if err != nil {
		a.note(ctx, made, err)
		return nil, nil, err
	}
	made.Response = res
	a.asked = a.asked || !made.Cached
	if a.q.Arrived != nil {
		a.q.Arrived(ctx, len(res.Text)+len(res.Raw))
	}
	return res, made, nil
}

// cached answers from the cache where the call allows it, and asks else.
func (a *attempt) cached(ctx context.Context, r route, req *llm.Request, made *Made, ask func(context.Context) (*llm.Response, error)) (*llm.Response, error) {
	if a.q.Cache.For <= 0 {
		return ask(ctx)
	}
	key := CacheKey{Scope: a.q.Cache.Scope, Tenant: a.info.Tenant, Workflow: a.info.Workflow, Provider: r.provider, Request: req}
	if a.prompt != nil {
		key.Prompt = fmt.Sprintf("%s@%d", a.prompt.Name, a.prompt.Version)
	}
	res, source, err := a.m.cache.Generate(ctx, a.engine, key, a.q.Cache.For, ask)
	if name, bad := key.name(); err == nil && bad == nil {
		a.kept = append(a.kept, name)
	}
	if err == nil && source != CacheMiss {
		made.Cached = true
		if a.stream != nil {
			err = a.stream.Write(Delta{Step: a.info.Step, Attempt: a.info.Attempt, Text: res.Text})
		}
	}
	return res, err
}

// forget has the cache forget the answers that led nowhere: whoever asks next is to ask the
// model. Where the store does not take that, they are kept for their time.
func (a *attempt) forget(ctx context.Context) {
	for _, name := range a.kept {
		_ = a.m.cache.forget(ctx, a.engine, name)
	}
}

// pay makes a call of a provider: if its breaker lets it, in its turn, and if there is money
// for it. What it cost is settled with the attempt, whatever came of it.
func (m *Models) pay(ctx context.Context, r route, input, output int, call func(context.Context) (llm.Usage, llm.Limits, string, error)) (b bill, err error) {
	engine, came := pawl.EngineOf(ctx), time.Now()
	if err := m.breaker.Open(ctx, engine, r.provider); err != nil { // nobody needs a turn for that
		return b, err
	}
	slot, err := m.pacer.Take(ctx, engine, m.bucket(r), int64(input)+int64(output), pawl.InfoOf(ctx).Priority)
	b.paced = time.Since(came)
	if err != nil {
		return b, err
	}
	pass, err := m.breaker.Allow(ctx, engine, r.provider) // it may have opened meanwhile, and one that tries must not wait
	if err != nil {
		slot.Done(0, Seen{})
		return b, err
	}
	price, known := m.opt.Prices.Of(r.provider, r.model, time.Now())
	most := m.opt.WorstCase
	if known {
		most = price.Most(input, output)
	}
	money, err := pawl.Spend(ctx, pawl.Spending{Item: r.name, Most: most, Label: r.label})
	if err != nil {
		_ = pass.Done(context.Canceled) // nobody was called
		slot.Done(0, Seen{})
		return b, err
	}
	limited, cancel := context.WithTimeout(ctx, m.opt.Timeout)
	defer cancel()
	began := time.Now()
	usage, limits, id, err := call(limited)
	b.took, b.usage, b.requestID = time.Since(began), usage, id
	_ = pass.Done(err) // where the store fails, others learn it by calls of their own
	said := seen(limits, 0, false)
	var e *llm.Error
	if errors.As(err, &e) {
		b.usage, b.requestID = e.Usage, e.RequestID
		said = seen(e.Limits, e.Wait, e.Kind == llm.RateLimited)
	}
	used := int64(b.usage.Input) + int64(b.usage.Output)
	if b.usage == (llm.Usage{}) && (err == nil || paidUnseen(err)) {
		used = -1 // not known: they stay taken
	}
	slot.Done(used, said)
	switch {
	case b.usage != (llm.Usage{}) && known:
		b.cost = price.Cost(b.usage)
	case err == nil || b.usage != (llm.Usage{}) || paidUnseen(err): // the price, or what was used, is not known
		b.cost, b.guess = most, true
	}
	return b, errors.Join(err, money.Settle(b.cost, b.guess, paid{b.usage, b.requestID}))
}

// paidUnseen reports whether a call that failed so may have been worked on: one that was cut
// off takes nobody knows what, one that was refused takes nothing.
func paidUnseen(err error) bool {
	switch llm.KindOf(err) {
	case llm.Timeout, llm.Truncated, "": // "": cancelled here
		return true
	}
	return false
}

// paid is what the ledger keeps of a call.
type paid struct {
	Usage     llm.Usage `json:"usage"`
	RequestID string    `json:"requestId,omitempty"`
}

// call asks the provider, as a stream if somebody may be reading.
func (a *attempt) call(ctx context.Context, r route, req *llm.Request) (*llm.Response, error) {
	streamer, ok := r.asks.(llm.Streamer)
	if a.stream == nil || !ok {
		res, err := r.asks.Generate(ctx, req)
		if err == nil && a.stream != nil {
			err = a.stream.Write(Delta{Step: a.info.Step, Attempt: a.info.Attempt, Text: res.Text})
		}
		return res, err
	}
	w := &writer{a: a}
	res, err := streamer.Stream(ctx, req, w.each)
	return res, errors.Join(err, w.end())
}

// Delta is a chunk of the stream to which a call writes: a part of the text of an answer.
type Delta struct {
	Step    string `json:"step"` // the step's key
	Attempt int    `json:"attempt"`
	Text    string `json:"text,omitempty"`
	Restart bool   `json:"restart,omitempty"` // the answer begins here: what came before of this step was cut off, or did not do
}

// writer passes an answer on in pieces that are not too small, and none of them late.
type writer struct {
	a *attempt

	mu    sync.Mutex
	text  []byte
	last  time.Time // of the last piece; zero: none yet, so the first goes out at once
	timer *time.Timer
	err   error // of a piece that the timer wrote
}

const (
	pieceBytes = 1 << 10
	pieceTime  = 30 * time.Millisecond
)

func (w *writer) each(d llm.Delta) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, d.Text...)
	switch {
	case w.err != nil:
	case len(w.text) >= pieceBytes || time.Since(w.last) >= pieceTime:
		w.flush()
	case w.timer == nil:
		w.timer = time.AfterFunc(pieceTime, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.flush()
		})
	}
	return w.err
}

// flush writes what there is. Caller holds mu.
func (w *writer) flush() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	w.last = time.Now()
	if len(w.text) == 0 || w.err != nil {
		return
	}
	d := Delta{Step: w.a.info.Step, Attempt: w.a.info.Attempt, Text: string(w.text)}
	w.text = w.text[:0]
	w.err = w.a.stream.Write(d)
}

// end writes the last piece.
func (w *writer) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	return w.err
}

// restart tells readers of the stream that the answer begins anew.
func (a *attempt) restart() {
	if a.stream != nil {
		_ = a.stream.Write(Delta{Step: a.info.Step, Attempt: a.info.Attempt, Restart: true}) // the next write meets the same error
	}
}

// note leaves a request and what came of it in the journal. Of one that is too large for that, what the provider said byte for byte
// is left out first, then the answer but for its beginning, then the request.
func (a *attempt) note(ctx context.Context, made *Made, err error) {
	if err != nil {
		made.Error, made.Kind = err.Error(), llm.KindOf(err)
	}
	var res llm.Response
	if made.Response != nil {
		res = *made.Response // which others have
		made.Response = &res
	}
	for _, less := range []func(){
		func() { res.Raw = nil },
		func() { res, made.Value = *cut(&res), nil },
		func() { made.Request, made.Vars, made.Fork = nil, nil, nil },
	} {
		// As JSON texts are no shorter, so what is too large for sure is not written at all.
		if len(res.Raw)+len(res.Text)+len(made.Value) <= a.info.MaxPayload && !errors.Is(pawl.Note(ctx, made), pawl.ErrTooLarge) {
			return
		}
		less()
	}
	_ = pawl.Note(ctx, made) // what is left is small
}

// maxShown is how much of an answer that is no use is shown: to the model that is to mend it,
// and in a note that has no room for all of it.
const maxShown = 16 << 10

// shortened is a text of which the end is left out, where it is long, and that says so.
func shortened(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return fmt.Sprintf("%s\n[cut: it was %d bytes long]", strings.ToValidUTF8(text[:maxShown], ""), len(text))
}

// cut is a response without what may be large.
func cut(res *llm.Response) *llm.Response {
	short := *res
	short.Text, short.ToolCalls, short.Raw = shortened(res.Text), nil, nil
	return &short
}

// hashOf tells requests apart.
func hashOf(req *llm.Request) string {
	data, err := json.Marshal(req)
	if err != nil { // it has tools or a schema that are not JSON: the provider's client says so
		data = fmt.Append(nil, req)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

func seen(l llm.Limits, wait time.Duration, refused bool) Seen {
	return Seen{
		RequestsLimit: int64(l.Requests.Limit), RequestsLeft: int64(l.Requests.Remaining), RequestsReset: l.Requests.Reset,
		TokensLimit: int64(l.Tokens.Limit), TokensLeft: int64(l.Tokens.Remaining), TokensReset: l.Tokens.Reset,
		Wait: wait, Refused: refused,
	}
}
