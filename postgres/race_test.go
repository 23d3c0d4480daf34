package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// A run suspends while another process sends it a message: it is told, or it is woken.
func TestNoMessageIsMissedByARunThatSuspends(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	w, client := newDesk(t, openAt(t, url)).join(), newDesk(t, openAt(t, url))
	told, woken := 0, 0
	for i := range 200 {
		id := fmt.Sprint("run", i)
		r := w.eager(id)
		ch := step(r, 1)
		ch.To = &pawl.Move{State: pawl.Waiting}
		ch.Waits = []pawl.Wait{{Key: "wait", Event: "e"}}
		var both sync.WaitGroup
		var m *pawl.Send
		both.Go(func() {
			if err := w.commit(&pawl.Batch{Worker: w.worker, Changes: []*pawl.Change{ch}}); err != nil || ch.Err != nil {
				t.Error(err, ch.Err)
			}
		})
		both.Go(func() {
			m = signal(id)
			if err := client.commit(&pawl.Batch{Sends: []*pawl.Send{m}}); err != nil || m.Err != nil {
				t.Error(err, m.Err)
			}
		})
		both.Wait()
		switch claims := w.claim(); {
		case len(ch.Mail) == 1 && len(claims) == 0:
			told++
		case len(ch.Mail) == 0 && len(claims) == 1 && len(claims[0].Mail) == 1:
			woken++
		default:
			t.Fatalf("%s: told of %v, claims %v; want the message exactly once", id, ch.Mail, claims)
		}
	}
	if told == 0 || woken == 0 {
		t.Errorf("told %d times, woken %d times: the race was none", told, woken)
	}
	w.sound()
}

// Whoever holds a run never sees a message with a smaller id after one with a larger.
func TestIdsOfMessagesGrowAsTheirRunSeesThem(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	w := newDesk(t, openAt(t, url)).join()
	r := w.eager("a")
	const senders, each = 6, 40
	var sending sync.WaitGroup
	for range senders {
		client := newDesk(t, openAt(t, url))
		sending.Go(func() {
			for range each {
				b := &pawl.Batch{}
				for range 1 + rand.IntN(3) {
					b.Sends = append(b.Sends, signal("a"))
				}
				if err := client.commit(b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { sending.Wait(); close(ended) }()
	var seen, newest int64
	for more := true; more; {
		select {
		case <-ended:
			more = false
		default:
		}
		mail, err := w.Mail(t.Context(), w.worker)
		if err != nil {
			t.Fatal(err)
		}
		var ids []int64
		for _, m := range mail {
			if m.ID <= newest {
				t.Fatalf("message %d became visible after %d", m.ID, newest)
			}
			ids = append(ids, m.ID)
		}
		seen += int64(len(ids))
		if len(ids) > 0 {
			newest = ids[len(ids)-1]
			w.must(&pawl.Batch{Worker: w.worker, Changes: []*pawl.Change{{Run: r.Key, Epoch: r.Epoch, Consumed: ids}}})
		}
	}
	if seen < senders*each {
		t.Errorf("%d messages were seen; want at least %d", seen, senders*each)
	}
}

// Two processes commit batches that touch the same runs in opposite orders.
func TestBatchesThatCrossEachOtherAreBothWritten(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	desks := []*desk{newDesk(t, openAt(t, url)).join(), newDesk(t, openAt(t, url)).join()}
	const n = 12
	for i := range n {
		r := desks[0].eager(fmt.Sprint("run", i))
		ch := step(r, 1)
		ch.To = &pawl.Move{State: pawl.Waiting}
		ch.Hooks = []pawl.HookSpec{{Key: "h", Token: fmt.Sprint("token", i)}}
		desks[0].must(&pawl.Batch{Worker: desks[0].worker, Changes: []*pawl.Change{ch}})
	}
	var both sync.WaitGroup
	const rounds = 40
	for _, d := range desks {
		both.Go(func() {
			for range rounds {
				b := &pawl.Batch{}
				for _, i := range rand.Perm(n) {
					m := signal(fmt.Sprint("run", i))
					if i%2 == 0 {
						m = &pawl.Send{Token: fmt.Sprint("token", i), Data: json.RawMessage("1")}
					}
					b.Sends = append(b.Sends, m)
				}
				if err := d.commit(b); err != nil {
					t.Error(err)
				}
				for _, m := range b.Sends {
					if m.Err != nil {
						t.Error(m.Err)
					}
				}
			}
		})
	}
	both.Wait()
	got := desks[0].claim()
	messages := 0
	for _, c := range got {
		messages += len(c.Mail)
	}
	if len(got) != n || messages != n*2*rounds {
		t.Errorf("%d runs were woken with %d messages; want %d with %d", len(got), messages, n, n*2*rounds)
	}
}

// Many workers claim, work and end runs under one limit.
func TestALimitHoldsAcrossWorkers(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	const limit, runs, workers = 3, 60, 4
	first := newDesk(t, openAt(t, url))
	for i := range runs {
		st := &pawl.Start{Run: newRun(fmt.Sprint("run", i))}
		st.Run.Limits = []pawl.RunLimit{{Key: "k", N: limit}}
		first.must(&pawl.Batch{Starts: []*pawl.Start{st}})
	}
	var atWork, most, ended atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(60 * time.Second)
	for range workers {
		d := newDesk(t, openAt(t, url)).join()
		all.Go(func() {
			for ended.Load() < runs && time.Now().Before(end) {
				claims, err := d.Claim(t.Context(), pawl.ClaimRequest{Worker: d.worker, Now: d.now, Limit: 2, Workflows: []string{"flow"}})
				if err != nil {
					t.Error(err)
					return
				}
				now := atWork.Add(int64(len(claims.Runs)))
				for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
				}
				for _, c := range claims.Runs {
					atWork.Add(-1)
					ch := step(c.Info, 1)
					ch.To = &pawl.Move{State: pawl.Completed}
					if err := d.commit(&pawl.Batch{Worker: d.worker, Changes: []*pawl.Change{ch}}); err != nil || ch.Err != nil {
						t.Error(err, ch.Err)
						return
					}
					ended.Add(1)
				}
			}
		})
	}
	all.Wait()
	if ended.Load() != runs {
		t.Errorf("%d of %d runs ended", ended.Load(), runs)
	}
	if most.Load() > limit {
		t.Errorf("%d runs were at work at once; the limit is %d", most.Load(), limit)
	}
	first.sound()
}

// Many processes start runs with one singleton key at the same moment.
func TestASingletonHasOneHolder(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	const clients = 6
	for _, policy := range []pawl.Policy{pawl.ReturnExisting, pawl.Reject, pawl.Queue, pawl.CancelOld} {
		key := fmt.Sprint("key", policy)
		starts := make([]*pawl.Start, clients)
		var all sync.WaitGroup
		for i := range clients {
			d := newDesk(t, openAt(t, url))
			starts[i] = &pawl.Start{Run: newRun(fmt.Sprint(key, "-", i)), Policy: policy}
			starts[i].Run.Single = key
			all.Go(func() {
				if err := d.commit(&pawl.Batch{Starts: starts[i : i+1]}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		c := session(t, url)
		if n := value[int](t, c, "SELECT count(*) FROM pawl.runs WHERE single = $1", key); n != 1 {
			t.Errorf("policy %d: %d runs hold the key; want 1", policy, n)
		}
		stored := map[pawl.Policy]int{pawl.ReturnExisting: 1, pawl.Reject: 1, pawl.Queue: clients, pawl.CancelOld: clients}[policy]
		if n := value[int](t, c, "SELECT count(*) FROM pawl.runs WHERE id LIKE $1 || '-%'", key); n != stored {
			t.Errorf("policy %d: %d runs are stored; want %d", policy, n, stored)
		}
		refused := 0
		for _, st := range starts {
			if errors.Is(st.Err, pawl.ErrExists) {
				refused++
			}
		}
		if want := map[pawl.Policy]int{pawl.Reject: clients - 1}[policy]; refused != want {
			t.Errorf("policy %d: %d starts were refused; want %d", policy, refused, want)
		}
		newDesk(t, openAt(t, url)).sound()
	}
}

// Two runs in two processes want one token.
func TestATokenHasOneOwner(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	desks := []*desk{newDesk(t, openAt(t, url)).join(), newDesk(t, openAt(t, url)).join()}
	for round := range 30 {
		var runs [2]pawl.RunInfo
		var changes [2]*pawl.Change
		var both sync.WaitGroup
		for i, d := range desks {
			runs[i] = d.eager(fmt.Sprint("run", round, "-", i))
			ch := &pawl.Change{Run: runs[i].Key, Epoch: 1, Entries: []pawl.Entry{{Seq: 1, Kind: pawl.KindHook, Key: "h", At: d.now, Data: json.RawMessage("{}")}}}
			ch.Hooks = []pawl.HookSpec{{Key: "h", Token: fmt.Sprint("token", round)}}
			changes[i] = ch
			both.Go(func() {
				if err := d.commit(&pawl.Batch{Worker: d.worker, Changes: []*pawl.Change{ch}}); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		h, err := desks[0].FindHook(t.Context(), "", fmt.Sprint("token", round), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for i, ch := range changes {
			won := runs[i].Key == h.Run.Key
			if failed := ch.Entries[0].Failed; failed == won || (ch.Hooks[0].Owner == "") != won || !won && ch.Hooks[0].Owner != h.Run.ID {
				t.Errorf("run %d: owner %q, entry failed %v; the token is %s's", i, ch.Hooks[0].Owner, failed, h.Run.ID)
			}
		}
	}
}
