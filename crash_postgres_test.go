package pawl_test

import (
	"context"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func openPostgresStore(url string) (pawl.Store, error) {
	return postgres.Open(context.Background(), url, nil)
}

// crew is several workers on one database.
type crew struct {
	*story
	workers []*exec.Cmd
}

func (s *story) crew(n int) *crew {
	c := &crew{story: s}
	c.cfg.Lease = time.Second
	for range n {
		c.workers = append(c.workers, c.spawn(c.worker()))
	}
	return c
}

// worker is the setting of a worker that only works: the driver starts runs and sends.
func (c *crew) worker() crashConfig {
	cfg := c.cfg
	cfg.Drive = false
	return cfg
}

func (c *crew) kill(i int) {
	kill(c.t, c.workers[i])
	c.kills++
	c.workers[i] = c.spawn(c.worker())
}

func (c *crew) end() {
	for _, w := range c.workers {
		kill(c.t, w)
	}
}

// TestCrashKillPostgres kills workers that share a database, one at a time, at random
// moments, while another drives (P1, P2, P3, P5).
func TestCrashKillPostgres(t *testing.T) {
	kills := 30
	if long() {
		kills = 2000
	}
	s := newStory(t, pgtest.URL(t), "")
	c := s.crew(2)
	for n := range kills {
		if n%15 == 0 { // new runs, and a driver that is killed too
			s.cfg.Runs += 40
			s.cfg.Drive = true
			c.workers = append(c.workers[:2], s.spawn(s.cfg))
		}
		time.Sleep(time.Duration(5+s.random.IntN(200)) * time.Millisecond)
		c.kill(s.random.IntN(2))
		if n%15 == 14 {
			kill(t, c.workers[2])
			c.workers = c.workers[:2]
		}
	}
	if err := s.finish(); err != nil {
		t.Fatal(err)
	}
	c.end()
	s.check()
}

// TestCrashZombie stops workers for longer than their lease, so that others take their
// runs, and lets them go on: what they say then is refused (P1, P3).
func TestCrashZombie(t *testing.T) {
	zombies := 6
	if long() {
		zombies = 200
	}
	s := newStory(t, pgtest.URL(t), "")
	if err := s.zombies(zombies); err != nil {
		t.Fatal(err)
	}
	s.check()
}

// zombies makes n of them, in the middle of steps: while one is stopped, another worker has
// the same step under way.
func (s *story) zombies(n int) error {
	s.cfg.Slow = 25
	c := s.crew(3)
	defer c.end()
	d := s.cfg
	d.Client, d.Pace = true, 30*time.Millisecond
	d.Runs = s.cfg.Runs + 60*n // about as long as the zombies take
	s.cfg.Runs = d.Runs
	driver := s.spawn(d)
	store, err := openPostgresStore(s.cfg.Store)
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	for range n {
		s.awaitWorkers(store, func(alive int64) bool { return alive == 3 })
		time.Sleep(time.Duration(20+s.random.IntN(150)) * time.Millisecond)
		worker := c.workers[s.random.IntN(3)].Process
		if err := worker.Signal(syscall.SIGSTOP); err != nil {
			s.t.Fatal(err)
		}
		s.awaitWorkers(store, func(alive int64) bool { return alive < 3 })
		time.Sleep(time.Duration(s.random.IntN(400)) * time.Millisecond) // others have begun its steps again
		if err := worker.Signal(syscall.SIGCONT); err != nil {
			s.t.Fatal(err)
		}
		s.kills++
	}
	kill(s.t, driver)
	return s.finish()
}

// awaitWorkers waits until as many workers are alive as ok wants.
func (s *story) awaitWorkers(store pawl.Store, ok func(alive int64) bool) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		stats, err := store.Stats(s.t.Context(), time.Now())
		if err == nil && ok(stats.Workers) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("after a minute %d workers are alive, %v", stats.Workers, err)
		}
	}
}

// TestCrashDatabase stops PostgreSQL as a power cut of the server would, under work (P2, P5).
func TestCrashDatabase(t *testing.T) {
	stops := 3
	if long() {
		stops = 50
	}
	server, err := pgtest.Start(pgtest.Options{Fsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := newStory(t, server.URL(), "")
	c := s.crew(2)
	for range stops {
		s.cfg.Runs += 20
		driver := s.spawn(s.cfg)
		time.Sleep(time.Duration(100+s.random.IntN(400)) * time.Millisecond)
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(s.random.IntN(300)) * time.Millisecond)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		kill(t, driver)
		s.kills++
	}
	if err := s.finish(); err != nil {
		t.Fatal(err)
	}
	c.end()
	s.check()
}

// TestCrashNoticesNoFence: what a worker says after it was declared dead is refused; in a
// database in which its row is not gone, and that makes room for what comes late, its step
// is recorded a second time (P1), which is what check looks for.
func TestCrashNoticesNoFence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql      string
		recorded int
	}{"with a fence": {"SELECT", 1}, "without": {noFence, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := postgresStores(t)
			store := p.open()
			if err := p.exec(c.sql); err != nil {
				t.Fatal(err)
			}
			var bodies counts
			at, goOn := make(chan none, 10), make(chan none)
			w := pawl.Define("late", func(c *pawl.Context, _ none) (int, error) {
				return pawl.Step(c, "step", func(context.Context) (int, error) {
					n := bodies.add("step")
					if n == 1 {
						at <- none{}
						<-goOn
					}
					return n, nil
				})
			})
			ice := &frozen{Store: store}
			one := boot(t, ice, &pawl.Options{Lease: 500 * time.Millisecond, Drain: 10 * time.Millisecond}, w)
			r := start(one, w, none{})
			<-at
			_, thaw := ice.freeze()
			defer thaw()
			two := boot(t, p.open(), nil, w)
			equal(t, "result of the second worker", result(two, r), 2)
			close(goOn)
			recorded := func() int { return len(two.keys(r.ID(), pawl.KindStep)) }
			one.until("the first worker to have said what it had to say", func() bool { return !one.Working() || recorded() > 1 })
			equal(t, "times that the step was recorded", recorded(), c.recorded)
		})
	}
}

// noFence brings back workers that were declared dead, with an hour to live (else they are
// declared dead again at every claim, which fences what meets it), and lets the journal take
// what comes late behind what is there.
const noFence = `
	CREATE FUNCTION pawl.rise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO pawl.workers (id, name, session, started, until) OVERRIDING SYSTEM VALUE VALUES (old.id, old.name, old.session, old.started, old.until + 3600000000);
		RETURN NULL;
	END $$;
	CREATE TRIGGER rise AFTER DELETE ON pawl.workers FOR EACH ROW EXECUTE FUNCTION pawl.rise();
	CREATE FUNCTION pawl.yield() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF EXISTS (SELECT FROM pawl.journal WHERE run = new.run AND seq = new.seq) THEN
			new.seq := (SELECT max(seq) + 1 FROM pawl.journal WHERE run = new.run);
		END IF;
		RETURN new;
	END $$;
	CREATE TRIGGER yield BEFORE INSERT ON pawl.journal FOR EACH ROW EXECUTE FUNCTION pawl.yield()`
