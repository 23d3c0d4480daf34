// Package postgres keeps pawl's runs in a PostgreSQL database that many workers share.
//
// Each method is one transaction at READ COMMITTED. Who may write is decided by rows of the
// database, never by this process's memory or the database's clock. The package never
// touches tables outside its schema, and never relies on a notification: those only spare
// the wait for the next poll.
//
// It needs PostgreSQL 13 or newer and sessions of its own: a pooler between must not share
// a session among transactions.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// Options are settings of a Store. The zero value works.
type Options struct {
	// Schema is the schema (namespace) that holds all of pawl's tables. It is made if it is
	// missing. "" means pawl.
	Schema string
	// Writers is how many connections write at most. One engine needs two. 0 means 4.
	Writers int
	// Readers is how many connections read at most. 0 means 4. Besides these there is one
	// for heartbeats and one for each engine's notifications.
	Readers int
	// Unsafe gives up durability against a power cut of the database's machine
	// (synchronous_commit=off): the last commits before it may be lost, though none is torn.
	Unsafe bool
	// Trace, if not nil, is told every statement before it is sent, and the values that are
	// bound to it, from several goroutines at once. It must not keep args, nor call the store.
	Trace func(query string, args []any)
}

// Store is a pawl.Store in a PostgreSQL database.
type Store struct {
	schema string
	name   string // for people: database and host

	writes *pgxpool.Pool
	reads  *pgxpool.Pool
	// Heartbeats wait neither for writers nor for readers.
	beats  *pgxpool.Pool
	listen *pgx.ConnConfig

	id       string // of this Store, in notifications
	notify   chan struct{}
	watchers atomic.Int32
	ctx      context.Context // ends with Close
	stop     context.CancelFunc
	helpers  sync.WaitGroup
	closed   atomic.Bool
}

var (
	_ pawl.Store   = (*Store)(nil)
	_ pawl.Watcher = (*Store)(nil)
)

// Open connects to the database that url names (postgres://user:password@host:port/name)
// and brings the schema up to date; several processes may do so at once. ErrSchema: the
// schema belongs to a newer pawl, or holds tables of another program. opt may be nil.
func Open(ctx context.Context, url string, opt *Options) (*Store, error) {
	var o Options
	if opt != nil {
		o = *opt
	}
	return open(ctx, url, o, nil)
}

// open is Open; tune, where tests give one, has the last word on connections.
func open(ctx context.Context, url string, o Options, tune func(*pgx.ConnConfig)) (*Store, error) {
	if o.Schema == "" {
		o.Schema = "pawl"
	}
	if len(o.Schema) > 63 || !isText(o.Schema) {
		return nil, fmt.Errorf("open a PostgreSQL database: %q is no name for a schema: it needs 1 to 63 bytes of text", o.Schema)
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("open a PostgreSQL database: %w", err)
	}
	cc := cfg.ConnConfig
	s := &Store{schema: o.Schema, name: fmt.Sprintf("database %s on %s", cc.Database, cc.Host), id: newID(), notify: make(chan struct{}, 1)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	settings(cc, o)
	if tune != nil {
		tune(cc)
	}
	if err := s.connect(ctx, cfg, o); err != nil {
		err = errors.Join(err, s.Close())
		return nil, fmt.Errorf("open %s: %w", s.name, err)
	}
	s.helpers.Go(s.notifier)
	return s, nil
}

// settings gives sessions what this package relies on, except what the URL itself sets.
func settings(cc *pgx.ConnConfig, o Options) {
	if cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = 10 * time.Second
	}
	for k, v := range map[string]string{
		"application_name": "pawl",
		// A process that vanished in the middle of a transaction must not hold its locks
		// for longer than a lease or so: whoever buries its worker waits for them.
		"idle_in_transaction_session_timeout": "10s",
		"tcp_keepalives_idle":                 "10",
		"tcp_keepalives_interval":             "5",
		"tcp_keepalives_count":                "3",
		"lock_timeout":                        "3s",
		"jit":                                 "off",
	} {
		if _, ok := cc.RuntimeParams[k]; !ok {
			cc.RuntimeParams[k] = v
		}
	}
	cc.RuntimeParams["search_path"] = pgx.Identifier{o.Schema}.Sanitize()
	cc.RuntimeParams["default_transaction_isolation"] = "read committed"
	if o.Unsafe {
		cc.RuntimeParams["synchronous_commit"] = "off"
	}
	if o.Trace != nil {
		cc.Tracer = tracer(o.Trace)
	}
}

// tracer tells of the statements of a connection.
type tracer func(query string, args []any)

func (t tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	t(q.SQL, q.Args)
	return ctx
}

func (t tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (t tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchStartData) context.Context {
	for _, q := range b.Batch.QueuedQueries {
		t(q.SQL, q.Arguments)
	}
	return ctx
}

func (t tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (t tracer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (s *Store) connect(ctx context.Context, cfg *pgxpool.Config, o Options) error {
	if err := s.migrate(ctx, cfg.ConnConfig, !o.Unsafe); err != nil {
		return err
	}
	s.listen = cfg.ConnConfig.Copy()
	pool := func(n int, params map[string]string) (*pgxpool.Pool, error) {
		c := cfg.Copy()
		c.MaxConns, c.MinConns, c.MinIdleConns = int32(n), 0, 0
		for k, v := range params {
			c.ConnConfig.RuntimeParams[k] = v
		}
		return pgxpool.NewWithConfig(ctx, c)
	}
	var err error
	// Every statement of a writer finds its rows through an index. A plan made while a
	// table was small would read all of it long after it has grown.
	if s.writes, err = pool(or(o.Writers, 4), map[string]string{"enable_seqscan": "off", "application_name": s.session()}); err != nil {
		return err
	}
	if s.reads, err = pool(or(o.Readers, 4), nil); err != nil {
		return err
	}
	s.beats, err = pool(1, nil)
	return err
}

// session is what the writing connections of this Store are called on the server: whoever
// buries one of its workers finds them by it.
func (s *Store) session() string { return "pawl/" + s.id }

func or(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// Close waits for calls under way and gives back all connections.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.stop()
	s.helpers.Wait()
	for _, p := range []*pgxpool.Pool{s.writes, s.reads, s.beats} {
		if p != nil {
			p.Close()
		}
	}
	return nil
}

// read runs fn on a connection for reads.
func (s *Store) read(ctx context.Context, what string, fn func(c *pgxpool.Conn) error) error {
	c, err := s.acquire(ctx, s.reads)
	if err == nil {
		err = fn(c)
		c.Release()
	}
	return s.wrap(what, err)
}

var errClosed = fmt.Errorf("%w: Close of the store was called", pawl.ErrClosed)

func (s *Store) acquire(ctx context.Context, p *pgxpool.Pool) (*pgxpool.Conn, error) {
	if s.closed.Load() {
		return nil, errClosed
	}
	c, err := p.Acquire(ctx)
	if err != nil && s.closed.Load() {
		err = errClosed
	}
	return c, err
}

// wrap says what was being done where. Sentinels that are an answer stay as they are.
func (s *Store) wrap(what string, err error) error {
	if err == nil || errors.Is(err, pawl.ErrNotFound) || errors.Is(err, pawl.ErrFenced) {
		return err
	}
	if refusal(err) {
		err = fmt.Errorf("%w: %w", pawl.ErrRefused, err)
	}
	return fmt.Errorf("%s (%s): %w", what, s.name, err)
}
