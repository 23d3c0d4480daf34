package trigger

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

func TestExpressionsOnFieldsThatNoEventHas(t *testing.T) {
	for source, want := range map[string]string{
		"event.dta.amount > 1":                             `no dta (did you mean data?)`,
		"event.data.amount > 1 && event.nmae == 'x'":       `no nmae (did you mean name?)`,
		"has(event.datas.x)":                               `no datas (did you mean data?)`,
		"event['amount'] > 1":                              `no amount; it has`,
		"event.data.dta > 1":                               "",
		"event['data'].x == event.id":                      "",
		"event.data.list.exists(event, event.nothing > 1)": "", // another event
	} {
		_, err := ParseMatch(source)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", source, err)
		case want != "" && (!errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", source, err, want)
		}
	}
}

func TestASetRefusesWorkflowsThatNobodyHas(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store := open()
		e, bare := client(t, store, taker), client(t, store)
		declare := map[string]func(*Set) error{
			"schedule tick": func(s *Set) error {
				return s.OnSchedule(Schedule{ID: "tick", Workflow: "tkaer", Every: time.Hour})
			},
			"subscription orders": func(s *Set) error { return s.OnEvent(Subscription{ID: "orders", Event: "order", Workflow: "tkaer"}) },
			"webhook w": func(s *Set) error {
				return s.OnWebhook(Webhook{ID: "w", Path: "/w", Workflow: "tkaer", Signature: SignatureOptions{Scheme: None}})
			},
		}
		for name, on := range declare {
			set := NewSet(e)
			if err := set.OnSchedule(Schedule{ID: "good", Workflow: "taker", Every: time.Hour}); err != nil {
				t.Fatal(err)
			}
			if err := on(set); err != nil {
				t.Fatal(err)
			}
			err := set.Run(t.Context())
			if !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), name+` starts workflow "tkaer"`) || !strings.Contains(err.Error(), "did you mean taker?") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if all, err := (Schedules{e}).List(t.Context(), "", "", "", 10); err != nil || len(all) != 0 {
			t.Errorf("a Set that was refused has written %v, %v", all, err)
		}
		for name, on := range declare {
			set := NewSet(e)
			set.Elsewhere("tkaer")
			if err := errors.Join(on(set), set.Sync(t.Context())); err != nil {
				t.Errorf("%s, of another program: %v", name, err)
			}
			set = NewSet(bare)
			if err := errors.Join(on(set), set.Sync(t.Context())); err != nil {
				t.Errorf("%s, of a client: %v", name, err)
			}
		}
	})
}

func TestMissedSlotsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		e := client(t, s, taker)
		if _, err := (Schedules{e}).Put(t.Context(), Schedule{ID: "tick", Workflow: "taker", Every: time.Hour, CatchUp: CatchUpNone, Input: []byte(`{"n":1}`), Revision: AnyRevision}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*time.Hour + 30*time.Minute) // nobody is there
		var log logBuffer
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- (&Runner{Engine: e, Logger: slog.New(slog.NewTextHandler(&log, nil))}).Run(ctx) }()
		time.Sleep(time.Minute)
		if n := log.count("were missed"); n != 1 || log.count("schedule=tick") != 1 || log.count("missed slots are not caught up") != 1 {
			t.Errorf("%d lines: %s", n, log.buf.String())
		}
		time.Sleep(2 * time.Hour)
		if n := log.count("were missed"); n != 1 {
			t.Errorf("slots on time are told of: %s", log.buf.String())
		}
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
