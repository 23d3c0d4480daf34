package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// between is the least time between two notifications of one Store. Each is a transaction
// that locks all other notifying ones out until it is on the disk: one for every commit
// would make commits wait in line.
const between = 10 * time.Millisecond

// hint has the other processes told, soon and once for all who ask meanwhile.
func (s *Store) hint() {
	select {
	case s.notify <- struct{}{}:
	default:
	}
}

func (s *Store) notifier() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.notify:
		}
		pause := between
		if s.tell() != nil { // it would cost those who listen the time to their next poll
			s.hint()
			pause = time.Second
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (s *Store) tell() error {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	c, err := s.acquire(ctx, s.reads)
	if err != nil {
		return err
	}
	defer c.Release()
	_, err = c.Exec(ctx, "SELECT pg_notify($1, $2)", s.schema, s.id)
	return err
}

// Watch calls hint soon after another engine on this database has made a run ready or has
// sent a message, until ctx or the Store ends. It holds a connection of its own, and makes
// a new one when that is lost; what was sent meanwhile is made up for by one hint.
func (s *Store) Watch(ctx context.Context, hint func()) error {
	s.watchers.Add(1)
	defer s.watchers.Add(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	for pause := 50 * time.Millisecond; ; {
		listened := s.watch(ctx, hint)
		if ctx.Err() != nil {
			return nil
		}
		if listened {
			pause = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// watch listens until something fails; it reports whether it did listen.
func (s *Store) watch(ctx context.Context, hint func()) (listened bool) {
	c, err := pgx.ConnectConfig(ctx, s.listen)
	if err != nil {
		return false
	}
	defer c.Close(context.WithoutCancel(ctx))
	if _, err := c.Exec(ctx, "LISTEN "+pgx.Identifier{s.schema}.Sanitize()); err != nil {
		return false
	}
	hint()
	for {
		n, err := c.WaitForNotification(ctx)
		if err != nil {
			return true
		}
		// What this Store has sent itself is news only to its other engines.
		if n.Payload != s.id || s.watchers.Load() > 1 {
			hint()
		}
	}
}
