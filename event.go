package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// WaitOption sets a property of one wait: [Timeout].
type WaitOption interface{ wait(*waitOptions) }

type waitOptions struct {
	timeout time.Duration
	timed   bool
}

// WaitFor waits for an event that was sent to this run ([Engine.Signal]) or to all that
// wait for it ([Engine.Publish]), and returns its data. Events of a name are buffered from
// the start of the run on: one that came early is not lost. They are delivered in the
// order in which they came, each to exactly one wait. With [Timeout] it returns ErrTimeout
// when none came in time. Data that does not fit T is a *DecodingError (ErrInput),
// and the event is spent.
func WaitFor[T any](c *Context, event string, opts ...WaitOption) (T, error) {
	var out T
	b := c.b
	if err := b.enter("WaitFor", event); err != nil {
		return out, err
	}
	defer b.exit()
	if err := checkName("name of an event", event); err != nil {
		return out, &MisuseError{Call: "WaitFor", Why: err.Error()}
	}
	key := b.nextKey("$event:" + event)
	data, err := c.receive(KindEvent, key, MsgEvent+event, event, opts)
	if err == nil {
		err = decode("event "+event, data, &out)
	}
	return out, err
}

// receive waits for a message and records what came of it under key. With event not empty
// the wait is registered in the store for Publish.
func (c *Context) receive(kind Kind, key, message, event string, opts []WaitOption) (json.RawMessage, error) {
	b, r := c.b, c.b.r
	var o waitOptions
	if err := apply(opts, func(opt WaitOption) { opt.wait(&o) }); err != nil {
		return nil, &MisuseError{Call: "wait for " + message, Why: err.Error()}
	}
	var until sleepEntry
	if o.timed {
		if e := c.recorded(KindScope, key+".until"); e != nil {
			if err := decode("a wait's entry", e.Data, &until); err != nil {
				return nil, err
			}
		}
	}
	if e := c.recorded(kind, key); e != nil {
		return stepResult(e)
	}
	if err := c.act(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	if queue := r.inbox[message]; len(queue) > 0 {
		m := queue[0]
		if r.inbox[message] = queue[1:]; len(queue) == 1 {
			delete(r.inbox, message)
		}
		r.received(b, kind, key, m)
		r.mu.Unlock()
		return m.Data, nil
	}
	if cl := r.claims[message]; cl != nil { // behind all that was delivered
		defer r.mu.Unlock()
		return nil, r.failed(b, kind, key, r.taken(cl))
	}
	if o.timed && until.Until.IsZero() {
		until.Until = inAWhile(o.timeout)
		at := now()
		r.note(Entry{Kind: KindScope, Key: key + ".until", At: at, Data: mustJSON(until)})
		b.tell(at)
	}
	if event != "" {
		r.pend.Waits = append(r.pend.Waits, Wait{Key: key, Event: event})
		if r.active > 1 { // the run will not suspend now: let Publish find the wait all the same
			r.register()
		}
	}
	why := b.wait(c.s, key, message, until.Until)
	r.mu.Lock()
	defer r.mu.Unlock()
	if event != "" {
		r.pend.Unwaits = append(r.pend.Unwaits, key)
	}
	switch why {
	case forMessage:
		cl := r.claims[message]
		over := cl != nil && b.got.Name != message
		if over && c.s.ctx.Err() == nil {
			return nil, r.failed(b, kind, key, r.taken(cl))
		}
		if over {
			return nil, context.Cause(c.s.ctx)
		}
		if c.s.ctx.Err() != nil { // it lost a race meanwhile: the message stays for the next wait
			if r.inbox == nil {
				r.inbox = map[string][]Message{}
			}
			r.inbox[message] = append([]Message{b.got}, r.inbox[message]...)
			return nil, context.Cause(c.s.ctx)
		}
		r.received(b, kind, key, b.got)
		return b.got.Data, nil
	case forOrder:
		if len(b.got.Data) > 0 {
			r.received(b, kind, key, b.got)
			return b.got.Data, nil
		}
	case forCancel:
		return nil, context.Cause(c.s.ctx)
	}
	return nil, r.failed(b, kind, key, fmt.Errorf("wait for %s: %w", message, ErrTimeout))
}

// failed notes that the branch's wait ended without a message, and returns the error that a
// replay will return.
func (r *live) failed(b *branch, kind Kind, key string, why error) error {
	at, f := now(), failureOf(why)
	r.note(Entry{Kind: kind, Key: key, Failed: true, At: at, Data: mustJSON(f)})
	b.tell(at)
	return f.err()
}

// received notes that the branch took m.
func (r *live) received(b *branch, kind Kind, key string, m Message) {
	at := now()
	if m.ID != 0 {
		r.pend.Consumed = append(r.pend.Consumed, m.ID)
	}
	r.note(Entry{Kind: kind, Key: key, At: at, Data: m.Data})
	b.tell(at)
}

// register makes the waits noted so far known to the store.
func (r *live) register() {
	ch := r.collect(&Change{})
	r.e.pipe.post(&item{worker: r.worker, change: ch, then: func(it *item) {
		if err := errors.Join(it.err, ch.Err); err != nil {
			r.lost(err)
		}
	}})
}
