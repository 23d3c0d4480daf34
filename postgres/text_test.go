package postgres_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// A start, a send or an order that PostgreSQL can't store is refused by itself: the others in
// the batch are stored. A change that it can't store, it refuses with all the batch.
func TestTextThatIsNoneSpoilsNoBatch(t *testing.T) {
	t.Parallel()
	d := newDesk(t, openAt(t, pgtest.URL(t))).join()
	good, bad := d.eager("good"), d.eager("bad")
	for _, text := range []string{"a\x00b", "a\xffb"} {
		wrong := step(bad, 1)
		wrong.Entries[0].Key = text
		starts := []*pawl.Start{{Run: newRun("new" + text[:1])}, {Run: newRun(text)}, {Run: newRun("x")}, {Run: newRun("y")}}
		starts[2].Run.Single = text
		starts[3].Run.Attrs = []pawl.Attr{{Name: text}}
		sends := []*pawl.Send{signal("good"), signal(text), {Token: text}, {Publish: text, Name: pawl.MsgEvent + text}, {RunID: "good", Name: pawl.MsgEvent + text}}
		orders := []*pawl.Order{{Verb: pawl.VerbWake, RunID: "good"}, {Verb: pawl.VerbWake, RunID: text}}
		fine := step(good, int64(d.entries(good.Key)))
		d.is("a change with "+text, d.commit(&pawl.Batch{Worker: d.worker, Changes: []*pawl.Change{wrong, fine}, Starts: starts}), pawl.ErrRefused)
		d.must(&pawl.Batch{Worker: d.worker, Changes: []*pawl.Change{fine}, Starts: starts, Sends: sends, Orders: orders})
		for i, err := range []error{starts[1].Err, starts[2].Err, starts[3].Err, sends[3].Err, sends[4].Err} {
			if !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%q, thing %d: %v; want ErrInput", text, i, err)
			}
		}
		for i, err := range []error{sends[1].Err, sends[2].Err, orders[1].Err} {
			if !errors.Is(err, pawl.ErrNotFound) {
				t.Errorf("%q, look-up %d: %v; want ErrNotFound", text, i, err)
			}
		}
		for i, err := range []error{fine.Err, starts[0].Err, sends[0].Err, orders[0].Err} {
			if err != nil {
				t.Errorf("%q, good thing %d: %v", text, i, err)
			}
		}
		if _, err := d.Lookup(t.Context(), text, text); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("look up %q: %v; want ErrNotFound", text, err)
		}
		if _, err := d.FindHook(t.Context(), "", text, time.Now()); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("find hook %q: %v; want ErrNotFound", text, err)
		}
	}
	if n := d.entries(bad.Key); n != 1 {
		t.Errorf("the bad run has %d entries; want its input alone", n)
	}
}

func TestKeysTooLongForAnIndexAreRefused(t *testing.T) {
	t.Parallel()
	d := newDesk(t, openAt(t, pgtest.URL(t)))
	long := strings.Repeat("x", 5000)
	single, limit := &pawl.Start{Run: newRun("a")}, &pawl.Start{Run: newRun("b")}
	single.Run.Single = long
	limit.Run.Limits = []pawl.RunLimit{{Key: long, N: 1}}
	d.must(&pawl.Batch{Starts: []*pawl.Start{single, limit}})
	d.is("a singleton key", single.Err, pawl.ErrTooLarge)
	d.is("a limit's key", limit.Err, pawl.ErrTooLarge)
}

func TestAReasonLosesWhatPostgreSQLCannotKeep(t *testing.T) {
	t.Parallel()
	d := newDesk(t, openAt(t, pgtest.URL(t))).join()
	ch := step(d.eager("a"), 1)
	ch.Entries[0].Data = json.RawMessage("{\"raw\":\"a\x00b\"}")
	ch.To = &pawl.Move{State: pawl.Failed, Reason: "a\x00b\xffc"}
	d.must(&pawl.Batch{Worker: d.worker, Changes: []*pawl.Change{ch}})
	if ch.Err != nil {
		t.Fatal(ch.Err)
	}
	if got := d.look("a").Reason; got != "a\uFFFDb\uFFFDc" {
		t.Errorf("the reason is %q", got)
	}
	e, err := d.Result(t.Context(), ch.Run)
	if err != nil || string(e.Data) != string(ch.Entries[0].Data) {
		t.Errorf("the payload is %q, %v", e.Data, err)
	}
}
