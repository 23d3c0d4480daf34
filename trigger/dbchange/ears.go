package dbchange

import (
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
)

// ears hear the notifications of outboxes, one session for each connection. They are hints: what is not heard is found by the next look.
type ears struct {
	log  *slog.Logger
	ctx  context.Context // ends with close
	stop context.CancelFunc
	work sync.WaitGroup

	mu   sync.Mutex
	hear map[string]map[string]chan struct{} // of a connection: readers
}

func newEars(log *slog.Logger) *ears {
	e := &ears{log: log, hear: map[string]map[string]chan struct{}{}}
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e
}

// close ends all sessions.
func (e *ears) close() {
	e.stop()
	e.work.Wait()
}

// listen returns what has an element when there may be something for a reader; nil where the pool has no session to spare.
func (e *ears) listen(connection string, db database, reader string) <-chan struct{} {
	if most := db.Stats().MaxOpenConnections; most > 0 && most < 3 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	readers := e.hear[connection]
	if readers == nil {
		readers = map[string]chan struct{}{}
		e.hear[connection] = readers
		e.work.Go(func() { e.session(connection, db) })
	}
	if readers[reader] == nil {
		readers[reader] = make(chan struct{}, 1)
	}
	return readers[reader]
}

// session listens until close.
func (e *ears) session(connection string, db database) {
	for e.ctx.Err() == nil {
		began := time.Now()
		err := e.once(connection, db)
		if e.ctx.Err() != nil {
			return
		}
		if errors.Is(err, errDeaf) {
			e.log.Warn("database triggers: this connection can't be listened on: its driver is not pgx's; the outbox is looked at by its interval", "connection", connection)
			return
		}
		if time.Since(began) > time.Minute { // it was heard for a while
			continue
		}
		select {
		case <-e.ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
}

var errDeaf = errors.New("not a connection of pgx")

func (e *ears) once(connection string, db database) error {
	conn, err := db.Conn(e.ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var failed error
	_ = conn.Raw(func(c any) error {
		std, ok := c.(*stdlib.Conn)
		if !ok {
			failed = errDeaf
			return nil
		}
		if _, failed = std.Conn().Exec(e.ctx, "LISTEN pawl_outbox"); failed != nil {
			return driver.ErrBadConn
		}
		for {
			e.wake(connection) // also at first: what came before was not heard
			if _, failed = std.Conn().WaitForNotification(e.ctx); failed != nil {
				return driver.ErrBadConn // the pool gets no session that listens
			}
		}
	})
	return failed
}

func (e *ears) wake(connection string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.hear[connection] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
