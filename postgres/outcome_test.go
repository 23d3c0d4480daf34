package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// wire is a network that loses what the server answers from a given moment on.
type wire struct {
	deaf   atomic.Bool // answers are lost
	strike atomic.Int32
}

type wireConn struct {
	net.Conn
	w *wire
}

func (c wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.w.deaf.Load() {
		time.Sleep(50 * time.Millisecond) // the server does what it was told meanwhile
		_ = c.Close()
		return 0, errors.New("the connection is lost")
	}
	return n, err
}

// Write loses answers to the strike-th write from now.
func (c wireConn) Write(b []byte) (int, error) {
	if c.w.strike.Load() > 0 && c.w.strike.Add(-1) == 0 {
		c.w.deaf.Store(true)
	}
	return c.Conn.Write(b)
}

func wired(t *testing.T, url string) (*Store, *wire) {
	t.Helper()
	w := &wire{}
	s, err := open(t.Context(), url, Options{}, func(cc *pgx.ConnConfig) {
		dial := cc.DialFunc
		cc.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			return wireConn{c, w}, err
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, w
}

func held(t *testing.T, s *Store, id string) (worker int64, info pawl.RunInfo) {
	t.Helper()
	now := time.Now()
	worker, err := s.Join(t.Context(), pawl.WorkerInfo{}, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	st := &pawl.Start{Run: pawl.NewRun{ID: id, Workflow: "flow", Input: json.RawMessage("1"), Eager: true}}
	if err := s.Commit(t.Context(), &pawl.Batch{Worker: worker, Now: now, Room: 1, Workflows: []string{"flow"}, Starts: []*pawl.Start{st}}); err != nil {
		t.Fatal(err)
	}
	return worker, st.Info
}

func entryOf(seq int64) []pawl.Entry {
	return []pawl.Entry{{Seq: seq, Kind: pawl.KindStep, Key: "s", At: time.Now(), Data: json.RawMessage("1")}}
}

// The answer to a commit is lost: nobody can say whether it was one.
func TestALostAnswerToACommitIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	for _, move := range []bool{false, true} {
		s, w := wired(t, url)
		worker, r := held(t, s, fmt.Sprint("run", move))
		change := func(seq int64) *pawl.Change {
			ch := &pawl.Change{Run: r.Key, Epoch: r.Epoch, Entries: entryOf(seq)}
			if move && seq == 2 {
				ch.To = &pawl.Move{State: pawl.Completed}
			}
			return ch
		}
		commit := func(seq int64) error {
			return s.Commit(t.Context(), &pawl.Batch{Worker: worker, Now: time.Now(), Changes: []*pawl.Change{change(seq)}})
		}
		if err := commit(1); err != nil {
			t.Fatal(err)
		}
		if move {
			// The statements are prepared by a commit that fails: the next one makes one
			// round trip to look and one to write.
			w2, r2 := held(t, s, "other")
			end := &pawl.Change{Run: r2.Key, Epoch: r2.Epoch, Entries: entryOf(1), To: &pawl.Move{State: pawl.Completed}}
			if err := s.Commit(t.Context(), &pawl.Batch{Worker: w2, Now: time.Now(), Changes: []*pawl.Change{end}}); err != nil {
				t.Fatal(err)
			}
			w.strike.Store(2)
		} else {
			w.strike.Store(1)
		}
		err := commit(2)
		if !errors.Is(err, pawl.ErrUnknownOutcome) {
			t.Errorf("with a move %v: got %v; want ErrUnknownOutcome", move, err)
		}
		w.deaf.Store(false)
		all, err := s.Journal(t.Context(), r.Key, -1, 10)
		if err != nil || len(all) != 3 {
			t.Errorf("with a move %v: %d entries, error %v; this one was committed, which makes 3", move, len(all), err)
		}
	}
}

// A connection lost before COMMIT was sent leaves nothing, and says so.
func TestAConnectionLostBeforeTheCommitIsAPlainError(t *testing.T) {
	t.Parallel()
	s, w := wired(t, pgtest.URL(t))
	worker, r := held(t, s, "a")
	w2, r2 := held(t, s, "other")
	for _, x := range []struct {
		worker int64
		run    pawl.RunInfo
		lose   bool
	}{{w2, r2, false}, {worker, r, true}} {
		if x.lose {
			w.strike.Store(1)
		}
		ch := &pawl.Change{Run: x.run.Key, Epoch: x.run.Epoch, Entries: entryOf(1), To: &pawl.Move{State: pawl.Completed}}
		err := s.Commit(t.Context(), &pawl.Batch{Worker: x.worker, Now: time.Now(), Changes: []*pawl.Change{ch}})
		if x.lose != (err != nil) || errors.Is(err, pawl.ErrUnknownOutcome) {
			t.Fatalf("lost %v: got %v; want a plain error exactly then", x.lose, err)
		}
	}
	w.deaf.Store(false)
	if all, err := s.Journal(t.Context(), r.Key, -1, 10); err != nil || len(all) != 1 {
		t.Errorf("%d entries, error %v; want the input alone", len(all), err)
	}
}

// The server refuses at COMMIT, which a deferred constraint of somebody else's can make it do.
func TestAnErrorOfCommitIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s, _ := wired(t, url)
	worker, r := held(t, s, "a")
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for _, q := range []string{
		"CREATE FUNCTION pawl.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = TG_ARGV[0]; END $$",
		"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON pawl.journal DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.key = 's') EXECUTE FUNCTION pawl.refuse('P0001')",
		"CREATE CONSTRAINT TRIGGER roll AFTER INSERT ON pawl.journal DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.key = 't') EXECUTE FUNCTION pawl.refuse('40001')",
	} {
		if _, err := c.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for _, to := range []*pawl.Move{nil, {State: pawl.Completed}} {
		for key, unknown := range map[string]bool{"s": true, "t": false} {
			ch := &pawl.Change{Run: r.Key, Epoch: r.Epoch, Entries: entryOf(1), To: to}
			ch.Entries[0].Key = key
			err := s.Commit(t.Context(), &pawl.Batch{Worker: worker, Now: time.Now(), Changes: []*pawl.Change{ch}})
			if err == nil || errors.Is(err, pawl.ErrUnknownOutcome) != unknown {
				t.Errorf("move %v, key %s: got %v; want an error, of an unknown outcome: %v", to, key, err, unknown)
			}
			if ch.Err != nil || len(ch.Mail) > 0 {
				t.Errorf("the change has answers: %v, %v", ch.Err, ch.Mail)
			}
		}
	}
	if all, err := s.Journal(t.Context(), r.Key, -1, 10); err != nil || len(all) != 1 {
		t.Errorf("%d entries, error %v; want the input alone", len(all), err)
	}
}
