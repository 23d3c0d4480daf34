package dbchange

import (
	"context"
	"log/slog"
	"sync"
	"time"
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

// listen returns what has an element when there may be something for a reader; nil where nobody can be heard.
func (e *ears) listen(connection string, db database, reader string) <-chan struct{} {
	if db.listen == nil {
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
		err := db.listen(e.ctx, "pawl_outbox", func() { e.wake(connection) })
		if e.ctx.Err() != nil {
			return
		}
		e.log.Warn("database triggers: listening has ended and begins again; until then the outbox is looked at by its interval", "connection", connection, "error", err)
		if time.Since(began) > time.Minute { // it went well for a while
			continue
		}
		select {
		case <-e.ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
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
