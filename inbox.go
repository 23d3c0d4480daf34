package pawl

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// deliver hands a message to the run while this worker holds it.
func (r *live) deliver(m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.dead.Load(): // it is in the inbox, where the next owner finds it
	case r.root == nil: // begin takes it, before any that comes later
		r.early = append(r.early, m)
	default:
		r.take(m)
	}
}

// take sorts a message. Caller holds mu.
func (r *live) take(m Message) {
	if m.ID <= r.seen {
		return
	}
	r.seen = m.ID
	switch m.Name {
	case MsgCancel:
		r.pend.Consumed = append(r.pend.Consumed, m.ID)
		if r.order == nil {
			f := orderOf("cancelled", m.Data)
			f.Code = "cancelled"
			r.order = f
			data, _ := json.Marshal(f)
			r.note(Entry{Kind: KindOrder, Key: "$cancel", At: now(), Data: data})
			r.interrupt(orderedError(f))
		}
	case MsgPause:
		r.pend.Consumed = append(r.pend.Consumed, m.ID)
		if r.pausing == nil && r.order == nil {
			r.pausing = m.Data
			if r.pausing == nil {
				r.pausing = json.RawMessage("{}")
			}
			r.note(Entry{Kind: KindOrder, Key: "$pause", At: now(), Data: m.Data})
			r.cancel(errPausing)
			if r.active == 0 {
				r.quiet()
			}
		}
	case MsgWake:
		if !r.began || r.replaying.Load() && !r.acts {
			r.wakes = append(r.wakes, m)
		} else if !r.wakeByOrder(m) && r.active == 0 && r.phase == running {
			r.quiet()
		}
	default:
		if hook, ok := strings.CutPrefix(m.Name, MsgClaim); ok {
			r.takenOver(hook, m)
			return
		}
		if strings.HasPrefix(m.Name, MsgChild) {
			delete(r.children, childOf(m.Data))
		}
		if waiting := r.byName[m.Name]; len(waiting) > 0 {
			b := waiting[0]
			b.got = m
			r.wake(b, forMessage)
			return
		}
		if r.inbox == nil {
			r.inbox = map[string][]Message{}
		}
		r.inbox[m.Name] = append(r.inbox[m.Name], m)
	}
}

func orderOf(what string, data json.RawMessage) *Failure {
	reason := ReasonOf(data)
	if reason == "" {
		reason = what
	}
	return &Failure{Message: cut(reason, 1000), Type: "order"}
}

// ReasonOf returns the reason that an order's data gives; of data that is no JSON, none.
func ReasonOf(order json.RawMessage) string {
	var o struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(order, &o) // o stays empty
	return o.Reason
}

// ordered reports whether f cancelled a whole run: by an order, or by its deadline.
func (f *Failure) ordered() bool { return f.Type == "order" || f.Type == "deadline" }

// orderedError is the error that durable calls return in a run that is being cancelled.
func orderedError(f *Failure) error { return f }

// interrupt cancels every branch, and the children at once: they need not wait for the end
// of their parent. A run that does not return within Options.CancelGrace is ended all the
// same.
func (r *live) interrupt(why error) {
	r.cancel(why)
	r.wakeCancelled()
	if len(r.children) > 0 {
		ch := r.collect(&Change{})
		for child := range r.children {
			ch.Cancels = append(ch.Cancels, child)
		}
		r.e.pipe.post(&item{worker: r.worker, change: ch, then: func(it *item) {
			if err := errors.Join(it.err, ch.Err); err != nil {
				r.lost(err)
			}
		}})
	}
	if r.force == nil {
		r.force = time.AfterFunc(r.e.opt.CancelGrace, func() {
			r.e.log.Warn("pawl: a cancelled run did not return and is ended over its head", "run", r.info.ID, "workflow", r.info.Workflow)
			r.mu.Lock()
			order, state := r.order, Cancelled
			r.mu.Unlock()
			if order.Code == "timeout" {
				state = Failed
			}
			r.conclude(&branch{r: r}, state, order, nil)
		})
	}
}

// wakeByOrder ends sleeps and waits early: the one with the key that the order names, or
// all that have a time to end. It reports whether there was one.
func (r *live) wakeByOrder(m Message) bool {
	r.pend.Consumed = append(r.pend.Consumed, m.ID)
	var o struct {
		Key  string          `json:"key"`
		Data json.RawMessage `json:"data"`
	}
	if err := decode("an order to wake", m.Data, &o); err != nil {
		r.e.log.Error("pawl: wake", "run", r.info.ID, "error", err)
		return false
	}
	var keys []string
	for el := r.waits.Front(); el != nil; {
		b := el.Value.(*branch)
		el = el.Next()
		if b.key == "" || o.Key != "" && o.Key != b.key || o.Key == "" && b.due.IsZero() {
			continue
		}
		keys = append(keys, b.key)
		b.got = Message{Name: MsgWake, Data: o.Data}
		r.wake(b, forOrder)
	}
	if len(keys) > 0 {
		data, _ := json.Marshal(map[string]any{"keys": keys})
		r.note(Entry{Kind: KindOrder, Key: "$wake", At: now(), Data: data})
	}
	return len(keys) > 0
}
