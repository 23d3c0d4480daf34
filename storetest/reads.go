package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// reads: what can be found, in which order and in which pieces, and that it is what was
// written, to the byte and to the microsecond.
var reads = []promise{
	{"what is not there is ErrNotFound", func(d *desk) {
		d.missing("nobody")
		_, err := d.store.Result(d.ctx, 987654)
		d.is("Result", err, pawl.ErrNotFound)
		_, err = d.store.FindHook(d.ctx, "", "nobody", d.now)
		d.is("FindHook", err, pawl.ErrNotFound)
	}},
	{"of a run that is not there everything is empty", func(d *desk) {
		const nobody = 987654
		e, err := d.store.Journal(d.ctx, nobody, -1, 10)
		d.ok(err)
		c, err := d.store.Chunks(d.ctx, nobody, "out", 0, 10)
		d.ok(err)
		s, err := d.store.Streams(d.ctx, nobody)
		d.ok(err)
		h, err := d.store.ListHooks(d.ctx, pawl.HookFilter{Run: nobody})
		d.ok(err)
		m, err := d.store.Mail(d.ctx, nobody)
		d.ok(err)
		d.same("how much there is", len(e)+len(c)+len(s)+len(h)+len(m), 0)
	}},

	{"attributes are set, changed and unset", func(d *desk) {
		r := d.hold(d.join("w"), "a", func(n *pawl.NewRun) {
			n.Attrs = []pawl.Attr{{Name: "x", Value: value("1")}, {Name: "y", Value: value("2")}}
		})
		d.say(r, &pawl.Change{Attrs: []pawl.Attr{{Name: "x", Value: value("3")}, {Name: "y"}, {Name: "z", Value: value("")}}})
		want := map[string]string{"x": "3", "z": ""}
		d.same("looked up", d.look("a").Attrs, want)
		found, err := d.store.List(d.ctx, pawl.Filter{Limit: 10})
		d.ok(err)
		d.same("listed", found[0].Attrs, want)
	}},
	{"an attribute may be any text", func(d *desk) {
		odd := "nul \x00 quote ' \" percent % under _ é 漢 \U0001f9ea"
		d.start("a", func(n *pawl.NewRun) { n.Attrs = []pawl.Attr{{Name: "x", Value: &odd}} })
		d.same("looked up", d.look("a").Attrs, map[string]string{"x": odd})
		d.listed(pawl.Filter{Attrs: map[string]string{"x": odd}}, "a")
	}},

	{"runs are listed newest first", func(d *desk) {
		for _, id := range []string{"a", "b", "c"} {
			d.start(id)
		}
		d.listed(pawl.Filter{}, "c", "b", "a")
	}},
	{"a list is of one tenant", func(d *desk) {
		d.start("a")
		d.start("b", tenant("acme"))
		d.listed(pawl.Filter{}, "a")
		d.listed(pawl.Filter{Tenant: "acme"}, "b")
		d.listed(pawl.Filter{Tenant: "other"})
	}},
	{"a list may span all tenants", func(d *desk) {
		d.start("a")
		d.start("b", tenant("acme"))
		d.listed(pawl.Filter{AllTenants: true}, "b", "a")
		d.listed(pawl.Filter{AllTenants: true, Tenant: "acme"}, "b", "a")
	}},
	{"a list may be of ids that begin with a text, taken as it is", func(d *desk) {
		for _, id := range []string{"run_1", "run_2", "run%2", "Run_1", "rvn", "run", "\U0010ffff"} {
			d.start(id)
		}
		d.start("run_3", tenant("acme"))
		d.listed(pawl.Filter{Query: "run_"}, "run_2", "run_1")
		d.listed(pawl.Filter{Query: "run"}, "run", "run%2", "run_2", "run_1")
		d.listed(pawl.Filter{Query: "\U0010ffff"}, "\U0010ffff")
		d.listed(pawl.Filter{Query: "run_", AllTenants: true}, "run_3", "run_2", "run_1")
	}},
	{"a list may be of one workflow, of some states, of one parent", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "parent")
		d.spawn(r, "kid", "k")
		d.start("x", of("another"))
		d.end(d.again(w, "kid").Info, pawl.Completed, `1`)
		d.listed(pawl.Filter{Workflow: "another"}, "x")
		d.listed(pawl.Filter{States: []pawl.State{pawl.Completed}}, "kid")
		d.listed(pawl.Filter{States: []pawl.State{pawl.Completed, pawl.Pending}}, "x", "kid")
		d.listed(pawl.Filter{Parent: r.Key}, "kid")
		d.listed(pawl.Filter{Workflow: "another", States: []pawl.State{pawl.Completed}})
	}},
	{"a list may be of runs with all of some attributes", func(d *desk) {
		attrs := func(pairs ...string) func(*pawl.NewRun) {
			return func(n *pawl.NewRun) {
				for i := 0; i < len(pairs); i += 2 {
					n.Attrs = append(n.Attrs, pawl.Attr{Name: pairs[i], Value: value(pairs[i+1])})
				}
			}
		}
		d.start("a", attrs("color", "red", "size", "s"))
		d.start("b", attrs("color", "red", "size", "l"))
		d.start("c", attrs("size", "red"))
		d.listed(pawl.Filter{Attrs: map[string]string{"color": "red"}}, "b", "a")
		d.listed(pawl.Filter{Attrs: map[string]string{"color": "red", "size": "s"}}, "a")
		d.listed(pawl.Filter{Attrs: map[string]string{"color": "blue"}})
	}},
	{"a list may be of a span of time: from its first moment on, before its last", func(d *desk) {
		var at []time.Time
		for _, id := range []string{"a", "b", "c"} {
			d.pass(time.Second)
			at = append(at, d.now)
			d.start(id)
		}
		d.listed(pawl.Filter{After: at[1]}, "c", "b")
		d.listed(pawl.Filter{Before: at[1]}, "a")
		d.listed(pawl.Filter{After: at[1], Before: at[2]}, "b")
	}},
	{"pages have every run once, whatever comes meanwhile", func(d *desk) {
		for i := range 7 {
			d.start(fmt.Sprint("run", i))
		}
		var got []string
		for f := (pawl.Filter{Limit: 3}); ; {
			page, err := d.store.List(d.ctx, f)
			d.ok(err)
			for _, r := range page {
				got = append(got, r.ID)
				f.Cursor = r.Key
			}
			if len(page) < 3 {
				break
			}
			d.start(fmt.Sprint("late", len(got)))
		}
		d.same("runs", got, []string{"run6", "run5", "run4", "run3", "run2", "run1", "run0"})
	}},
	{"a page has 50 runs if nothing is said, and 1000 at most", func(d *desk) {
		b := &pawl.Batch{}
		for i := range 1001 {
			b.Starts = append(b.Starts, &pawl.Start{Run: newRun(fmt.Sprint("run", i))})
		}
		d.commit(b)
		for limit, want := range map[int]int{0: 50, 5000: 1000, 7: 7} {
			got, err := d.store.List(d.ctx, pawl.Filter{Limit: limit})
			d.ok(err)
			d.same(fmt.Sprint("runs with limit ", limit), len(got), want)
		}
	}},

	{"chunks of a stream come in order, from where one asks", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		for i := range 5 {
			d.say(r, &pawl.Change{Chunks: []pawl.Chunk{
				{Stream: "out", Index: int64(i), At: d.now, Data: json.RawMessage(fmt.Sprint(i)), Step: "a/b#2", Attempt: i + 1, Epoch: int64(i) << 40, First: i == 2},
				{Stream: "log", Index: int64(i), At: d.now, Data: json.RawMessage(`"x"`)},
			}})
		}
		got, err := d.store.Chunks(d.ctx, r.Key, "out", 1, 3)
		d.ok(err)
		d.same("number", len(got), 3)
		for i, c := range got {
			d.same("index", c.Index, int64(i+1))
			d.data("data", c.Data, []byte(fmt.Sprint(i+1)))
			d.same("closed", c.Closed, false)
			d.same("who wrote it", fmt.Sprint(c.Step, " ", c.Attempt, " ", c.Epoch, " ", c.First), fmt.Sprint("a/b#2 ", i+2, " ", int64(i+1)<<40, " ", i == 1))
			if !c.At.Equal(d.now) {
				d.Errorf("at %v; want %v", c.At, d.now)
			}
		}
		log, err := d.store.Chunks(d.ctx, r.Key, "log", 0, 1)
		d.ok(err)
		d.same("of the workflow function", fmt.Sprint(log[0].Step, log[0].Attempt, log[0].Epoch, log[0].First), "0 0 false")
		rest, err := d.store.Chunks(d.ctx, r.Key, "out", 5, 3)
		d.ok(err)
		d.same("after the last", len(rest), 0)
	}},
	{"streams tell how far they have come, and whether they are closed", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.say(r, &pawl.Change{Chunks: []pawl.Chunk{
			{Stream: "done", Index: 0, At: d.now, Data: json.RawMessage(`1`)}, {Stream: "done", Index: 1, At: d.now, Data: json.RawMessage(`2`)},
			{Stream: "done", Index: 2, At: d.now, Closed: true},
			{Stream: "empty", Index: 0, At: d.now, Closed: true},
			{Stream: "open", Index: 0, At: d.now, Data: json.RawMessage(`1`)},
		}})
		all, err := d.store.Streams(d.ctx, r.Key)
		d.ok(err)
		got := map[string]pawl.StreamInfo{}
		for _, s := range all {
			got[s.Name] = s
		}
		d.same("streams", got, map[string]pawl.StreamInfo{
			"done": {Name: "done", Tail: 1, Closed: true}, "empty": {Name: "empty", Tail: -1, Closed: true}, "open": {Name: "open", Tail: 0},
		})
		end, err := d.store.Chunks(d.ctx, r.Key, "done", 2, 10)
		d.ok(err)
		d.same("the end is closed", len(end) == 1 && end[0].Closed, true)
	}},
	{"a stream stays when its run has ended", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.say(r, &pawl.Change{Chunks: []pawl.Chunk{{Stream: "out", At: d.now, Data: json.RawMessage(`1`)}}})
		d.end(r, pawl.Completed, `1`)
		got, err := d.store.Chunks(d.ctx, r.Key, "out", 0, 10)
		d.ok(err)
		d.same("chunks", len(got), 1)
	}},

	{"a journal comes in pages, in order, each entry once", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		ch := &pawl.Change{}
		for i := range 25 {
			ch.Entries = append(ch.Entries, d.entry(r, pawl.KindStep, fmt.Sprint("s", i), `1`))
		}
		d.say(r, ch)
		after := int64(-1)
		for _, want := range []int{10, 10, 6, 0} {
			page, err := d.store.Journal(d.ctx, r.Key, after, 10)
			d.ok(err)
			d.same("entries of a page", len(page), want)
			for _, e := range page {
				if after++; e.Seq != after {
					d.Fatalf("entry %d comes where %d should", e.Seq, after)
				}
			}
		}
	}},
	{"a page of a journal is about four mebibytes at most, and never empty before the end", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		big := `"` + strings.Repeat("x", 2<<20-2) + `"`
		for range 6 {
			d.say(r, &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindStep, "s", big)}})
		}
		var all []pawl.Entry
		for pages := 0; ; pages++ {
			page, err := d.store.Journal(d.ctx, r.Key, int64(len(all)-1), 100)
			d.ok(err)
			size := 0
			for _, e := range page {
				size += len(e.Data)
			}
			if size > 7<<20 {
				d.Errorf("a page has %d bytes", size)
			}
			if len(page) == 0 {
				break
			}
			all = append(all, page...)
		}
		d.same("entries", len(all), 7)
	}},
	{"an index is a journal without what is long", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		ch := &pawl.Change{}
		for i := range 20 {
			data := `"` + strings.Repeat("x", 100*i) + `"`
			if i == 7 {
				data = ""
			}
			ch.Entries = append(ch.Entries, d.entry(r, pawl.KindStep, fmt.Sprint("s", i), data))
		}
		d.say(r, ch)
		whole := d.journal(r.Key)
		var index []pawl.Entry
		for len(index) < len(whole) {
			page, err := d.store.Index(d.ctx, r.Key, int64(len(index)-1), 6, 1002)
			d.ok(err)
			d.same("entries of a page", len(page), min(6, len(whole)-len(index)))
			index = append(index, page...)
		}
		left := 0
		for i, want := range whole {
			if len(want.Data) > 1002 {
				want.Size, want.Data = len(want.Data), nil
				left++
			}
			d.same("entry", index[i], want)
		}
		d.same("how many are long", left, 9)
		page, err := d.store.Index(d.ctx, r.Key, int64(len(whole)-1), 6, 1002)
		d.ok(err)
		d.same("entries after the last", len(page), 0)
	}},
	{"a page of an index may be long where its journal is large", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		big := `"` + strings.Repeat("x", 2<<20-2) + `"`
		for range 6 {
			d.say(r, &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindStep, "s", big)}})
		}
		page, err := d.store.Index(d.ctx, r.Key, -1, 100, 1000)
		d.ok(err)
		d.same("entries", len(page), 7)
	}},
	{"the result of a run is its newest entry", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		e, err := d.store.Result(d.ctx, r.Key)
		d.ok(err)
		d.same("kind at first", e.Kind, pawl.KindInput)
		d.step(r, "s")
		d.end(r, pawl.Completed, `{"out":1}`)
		e, err = d.store.Result(d.ctx, r.Key)
		d.ok(err)
		d.same("kind at the end", e.Kind, pawl.KindResult)
		d.data("data", e.Data, []byte(`{"out":1}`))
	}},

	{"payloads of 2 MiB and with any character come back to the byte, from everywhere", func(d *desk) {
		w := d.join("w")
		odd := []byte("{\"nul\":\"\\u0000 \x00\",\"é\":\"漢\U0001f9ea\",\"b\":1,\"a\":1.00,\"a\":  2}")
		big := append(append([]byte(`"`), bytes.Repeat([]byte("x\x00é漢"), 2<<20/7)...), '"')
		for i, want := range [][]byte{odd, big} {
			id := fmt.Sprint("run", i)
			r := d.hold(w, id, func(n *pawl.NewRun) { n.Input = want })
			d.hook(r, pawl.HookSpec{Key: "h", Token: "tok" + id, Meta: want, Schema: want})
			d.say(r, &pawl.Change{
				Entries: []pawl.Entry{d.entry(r, pawl.KindStep, "s", string(want))},
				Chunks:  []pawl.Chunk{{Stream: "out", At: d.now, Data: want}},
			})
			d.ok(d.send(pawl.Send{RunID: id, Name: "event:e", Data: want}).Err)
			e := d.journal(r.Key)
			d.data("input", e[0].Data, want)
			d.data("a step's result", e[2].Data, want)
			d.data("a message", d.mailOf(w)[0].Data, want)
			h, err := d.store.FindHook(d.ctx, "", "tok"+id, d.now)
			d.ok(err)
			d.data("a hook's meta", h.Meta, want)
			d.data("a hook's schema", h.Schema, want)
			c, err := d.store.Chunks(d.ctx, r.Key, "out", 0, 1)
			d.ok(err)
			d.data("a chunk", c[0].Data, want)
			d.same("the same start again is the same run", d.start(id, func(n *pawl.NewRun) { n.Input = want }).Existed, true)
			d.end(r, pawl.Completed, string(want))
			last, err := d.store.Result(d.ctx, r.Key)
			d.ok(err)
			d.data("the result", last.Data, want)
		}
	}},
	{"a reason may be any text: an error's words end no run's hopes", func(d *desk) {
		w := d.join("w")
		for i, reason := range []string{"nul \x00 in it", "not UTF-8: \xff\xfe", strings.Repeat("long ", 20_000)} {
			id := fmt.Sprint("run", i)
			d.move(d.hold(w, id), &pawl.Change{}, pawl.Move{State: pawl.Failed, Reason: reason, Keep: -1})
			got := d.look(id)
			d.same("state", got.State, pawl.Failed)
			if !strings.HasPrefix(got.Reason, reason[:3]) {
				d.Errorf("the reason is %.40q; want %.40q", got.Reason, reason)
			}
		}
	}},
	{"times are kept to the microsecond", func(d *desk) {
		w := d.join("w")
		d.now = d.now.Add(123456789 * time.Nanosecond)
		cut := func(t time.Time) time.Time { return t.Truncate(time.Microsecond) }
		at, deadline, due := d.now.Add(1111111), d.now.Add(time.Hour+2222222), d.now.Add(time.Minute+3333333)
		d.start("later", notBefore(at), func(n *pawl.NewRun) { n.Deadline = deadline })
		r := d.hold(w, "a")
		e := d.entry(r, pawl.KindStep, "s", `1`)
		e.At, e.Took = at, 4444444
		d.move(r, &pawl.Change{Entries: []pawl.Entry{e}, Chunks: []pawl.Chunk{{Stream: "out", At: at}}}, pawl.Move{State: pawl.Waiting, Due: due})
		d.signal("a", "e", `1`)
		later, got := d.look("later"), d.journal(r.Key)[1]
		chunks, err := d.store.Chunks(d.ctx, r.Key, "out", 0, 1)
		d.ok(err)
		c := d.again(w, "a")
		for what, pair := range map[string][2]time.Time{
			"created": {later.Created, d.now}, "not before": {later.NotBefore, at}, "deadline": {later.Deadline, deadline},
			"an entry": {got.At, at}, "a chunk": {chunks[0].At, at}, "a message": {c.Mail[0].At, d.now}, "updated": {c.Info.Updated, d.now},
		} {
			if !pair[0].Equal(cut(pair[1])) {
				d.Errorf("%s: %v; want %v", what, pair[0], cut(pair[1]))
			}
		}
		d.same("how long the step took", got.Took, time.Duration(4444444))
	}},

	{"a client may read while others write", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		now := d.now
		done := make(chan error, 1)
		go func() {
			for i := range 100 {
				err := d.store.Commit(d.ctx, &pawl.Batch{Worker: w, Now: now, Changes: []*pawl.Change{{Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{{Seq: int64(i + 1), Kind: pawl.KindStep, At: now}}}}})
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		seen := 0
		for seen < 101 {
			select {
			case err := <-done:
				d.ok(err)
				d.same("entries at the end", len(d.journal(r.Key)), 101)
				return
			default:
			}
			n := len(d.journal(r.Key))
			if n < seen {
				d.Fatalf("a journal of %d entries became one of %d", seen, n)
			}
			seen = n
			d.state("a", pawl.Running)
		}
		d.ok(<-done)
	}},

	{"what is queued and what is unread is counted by tenant and run, up to a bound", func(d *desk) {
		w := d.join("w")
		tenant := func(name string) func(*pawl.NewRun) { return func(n *pawl.NewRun) { n.Tenant = name } }
		for _, s := range []pawl.State{pawl.Waiting, pawl.Completed, pawl.Running} {
			d.inState(w, s.String(), s)
		}
		for _, id := range []string{"1", "2", "3"} {
			d.start(id, tenant("red"))
		}
		d.start("4", tenant("red"), notBefore(d.now.Add(time.Hour)))
		d.start("5", tenant("blue"))
		queued := func(tenant string, most, want int) {
			d.T.Helper()
			n, err := d.store.Queued(d.ctx, tenant, most)
			d.ok(err)
			d.same("queued of "+tenant, n, want)
		}
		queued("red", 10, 4)
		queued("red", 3, 3)
		queued("blue", 10, 1)
		queued("", 10, 0)
		queued("nobody", 10, 0)
		d.claim(w)
		queued("red", 10, 1)
		a, b := d.hold(w, "a"), d.hold(w, "b")
		unread := func(r pawl.RunInfo, most, want int) {
			d.T.Helper()
			n, err := d.store.Unread(d.ctx, r.Key, most)
			d.ok(err)
			d.same("unread of "+r.ID, n, want)
		}
		unread(a, 10, 0)
		for range 3 {
			d.ok(d.send(pawl.Send{RunID: "a", Name: "event:e"}).Err)
		}
		unread(a, 10, 3)
		unread(a, 2, 2)
		unread(b, 10, 0)
	}},
	{"stats count runs by state, workers, and what is ready", func(d *desk) {
		w := d.join("w")
		d.join("another")
		for _, s := range []pawl.State{pawl.Waiting, pawl.Paused, pawl.Blocked, pawl.Completed, pawl.Failed, pawl.Cancelled, pawl.Running} {
			d.inState(w, s.String(), s)
		}
		d.start("ready1")
		d.pass(2 * time.Second)
		d.start("ready2")
		d.start("later", notBefore(d.now.Add(time.Hour)))
		d.pass(3 * time.Second)
		st, err := d.store.Stats(d.ctx, d.now)
		d.ok(err)
		d.same("runs", st.Runs, map[pawl.State]int64{
			pawl.Pending: 3, pawl.Running: 1, pawl.Waiting: 1, pawl.Completed: 1, pawl.Failed: 1, pawl.Cancelled: 1, pawl.Paused: 1, pawl.Blocked: 1,
		})
		d.same("workers", st.Workers, int64(2))
		d.same("ready", st.Ready, int64(2))
		d.same("how long the oldest has waited", st.Oldest, 5*time.Second)
		d.to(d.now.Add(time.Hour))
		st, err = d.store.Stats(d.ctx, d.now)
		d.ok(err)
		d.same("ready an hour later", st.Ready, int64(3))
		d.to(d.now.Add(time.Hour * 24))
		st, err = d.store.Stats(d.ctx, d.now)
		d.ok(err)
		d.same("workers when their leases have ended", st.Workers, int64(0))
	}},
	{"stats do not count workers that are gone, nor runs in a queue as ready", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.ok(d.store.Leave(d.ctx, w1, d.now))
		d.hold(w2, "a", single("k"))
		d.ok(d.tryStart(pawl.Queue, "b", single("k")).Err)
		d.ok(d.tryStart(pawl.Queue, "c", single("k"), notBefore(d.now.Add(time.Second))).Err)
		d.pass(2 * time.Second)
		st, err := d.store.Stats(d.ctx, d.now)
		d.ok(err)
		d.same("workers", st.Workers, int64(1))
		d.same("ready", st.Ready, int64(0))
	}},

	{"holders tell what a run waits for", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.spawn(r, "kid1", "k1")
		d.spawn(r, "kid2", "k2")
		for _, c := range d.claimed(w, "kid1", "kid2") {
			if c.Info.ID == "kid1" {
				d.end(c.Info, pawl.Completed, `1`)
			}
		}
		d.move(r, &pawl.Change{Waits: []pawl.Wait{{Key: "w", Event: "go"}}}, pawl.Move{State: pawl.Waiting, Seen: newest(d.mailOf(w))})
		h := d.holders("a")
		d.same("events", h.Events, []pawl.Wait{{Key: "w", Event: "go"}})
		d.same("hooks", len(h.Hooks), 1)
		d.same("token of the hook", h.Hooks[0].Token, "tok")
		d.same("children that have not ended", names(h.Children), []string{"kid2"})
		d.same("worker", h.Worker, "")
		d.same("slot", h.Slot, (*pawl.RunLimit)(nil))
	}},
	{"holders tell who works a run", func(d *desk) {
		d.hold(d.join("host/17"), "a")
		d.same("worker", d.holders("a").Worker, "host/17")
	}},
	{"holders tell which limit is full, who fills it, and who is ahead", func(d *desk) {
		w := d.join("w")
		for i := range 5 {
			d.start(fmt.Sprint("run", i), limited(atOnce("l", 2)))
		}
		d.claimed(w, "run0", "run1")
		h := d.holders("run4")
		d.same("slot", h.Slot, &pawl.RunLimit{Key: "l", N: 2})
		d.same("who holds it", names(h.Holds), []string{"run0", "run1"})
		d.same("how many are ahead", h.Ahead, 2)
	}},
	{"holders tell who holds the singleton key, and who is ahead", func(d *desk) {
		w := d.join("w")
		d.hold(w, "a", single("k"))
		d.ok(d.tryStart(pawl.Queue, "b", single("k")).Err)
		d.ok(d.tryStart(pawl.Queue, "c", single("k")).Err)
		h := d.holders("c")
		d.same("who holds it", names(h.Holds), []string{"a"})
		d.same("how many are ahead", h.Ahead, 1)
		d.same("slot", h.Slot, (*pawl.RunLimit)(nil))
	}},
}

func (d *desk) holders(id string) pawl.Holders {
	d.Helper()
	h, err := d.store.Holders(d.ctx, d.look(id).Key, d.now)
	d.ok(err)
	return h
}

// listed wants a filter to find these runs in this order.
func (d *desk) listed(f pawl.Filter, want ...string) {
	d.Helper()
	f.Limit = 100
	got, err := d.store.List(d.ctx, f)
	d.ok(err)
	d.same(fmt.Sprintf("runs with %+v", f), names(got), want)
}

func names(runs []pawl.RunInfo) []string {
	var out []string
	for _, r := range runs {
		out = append(out, r.ID)
	}
	return out
}
