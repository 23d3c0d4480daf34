// Package sqlite keeps pawl's runs in one SQLite file.
//
// It is the embedded default: no server, one process per file. Commits are durable against
// a power cut (write-ahead log, synchronous=FULL) and made cheap by being shared. It never
// opens the database's files beside SQLite's back while they are in use, and never runs
// with a SQLite older than 3.51.3, whose log could be corrupted.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pawlrun/pawl"
	sqlite3 "modernc.org/sqlite/lib"
)

// Memory is a path for Open: a database in memory, for tests.
const Memory = ":memory:"

// Options are settings of a Store. The zero value works.
type Options struct {
	// Unsafe gives up durability against a power cut (synchronous=NORMAL): the last
	// commits before it may be lost, though none is torn. A kill loses nothing either way.
	Unsafe bool
	// Readers is the number of connections for reads. 0 means 4.
	Readers int
	// WALSize is how large the write-ahead log is made at once, in bytes: a log that need
	// not grow syncs several times faster. 0 means 16 MiB; negative: none.
	WALSize int
	// Trace, if not nil, is told every statement before it is run, and the values that are
	// bound to it, from several goroutines at once. It must not keep args, nor call the store.
	Trace func(query string, args []any)
}

// Store is a pawl.Store in a SQLite file.
type Store struct {
	path string
	lock *os.File
	dsn  string

	mu     sync.Mutex // of the writer
	w      *conn
	broken error       // set: the file can't be believed any more
	stale  atomic.Bool // broken is set; for readers, who do not wait for mu
	tx     tx

	readers chan *conn // nil: reads use the writer (in memory)
	dialed  int        // how many readers there are
	closing chan struct{}
	once    sync.Once // of Close

	listeners []*reader // of news; under mu

	hints struct {
		sync.Mutex
		all map[*func()]bool
	}
}

var (
	_ pawl.Store   = (*Store)(nil)
	_ pawl.Watcher = (*Store)(nil)
)

// Open opens or makes the database in a file, and brings its schema up to date. While it
// is open no other process can open it: pawl.ErrLocked. pawl.ErrSchema: the file belongs to a newer
// pawl or to another program. opt may be nil.
func Open(path string, opt *Options) (*Store, error) {
	var o Options
	if opt != nil {
		o = *opt
	}
	s, err := open(path, o)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

// readerPragmas are those of the connections that only read. There are several, and what they read again is in the system's cache, so
// theirs are small.
const readerPragmas = "&_pragma=query_only(1)&_pragma=cache_size(-8192)"

func open(path string, o Options) (_ *Store, err error) {
	s := &Store{path: path, closing: make(chan struct{})}
	s.hints.all = map[*func()]bool{}
	sync := "FULL"
	if o.Unsafe {
		sync = "NORMAL"
	}
	pragmas := "_pragma=busy_timeout(5000)&_pragma=synchronous(" + sync + ")&_pragma=temp_store(MEMORY)&_pragma=cache_size(-32768)"
	defer func() {
		if err != nil {
			_ = s.Close() // err says why it is
		}
	}()
	if path == Memory {
		s.dsn = "file::memory:?" + pragmas
	} else {
		if s.lock, err = lockFile(path + ".lock"); err != nil {
			return nil, err
		}
		if err := prepareFile(path); err != nil {
			return nil, err
		}
		if err := prepareLog(path, o.WALSize); err != nil {
			return nil, err
		}
		s.dsn = "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path) + "?" + pragmas
	}
	for {
		if s.w, err = dial(s.dsn, o.Trace); err != nil {
			return nil, err
		}
		fresh, err := s.setUp(path)
		if err != nil {
			return nil, err
		}
		if !fresh || path == Memory {
			break
		}
		// SQLite took the log away while the database had no page. Now it has.
		if err := s.w.close(); err != nil {
			return nil, err
		}
		if err := prepareLog(path, o.WALSize); err != nil {
			return nil, err
		}
	}
	if path != Memory {
		if err := syncDir(filepath.Dir(path)); err != nil {
			return nil, err
		}
		n := o.Readers
		if n <= 0 {
			n = 4
		}
		s.readers = make(chan *conn, n)
		for range n {
			r, err := dial(s.dsn+readerPragmas, o.Trace)
			if err != nil {
				return nil, err
			}
			s.readers <- r
			s.dialed++
		}
	}
	if err := s.tx.init(s.w); err != nil {
		return nil, err
	}
	return s, s.buryAll()
}

// Close waits for calls under way and closes the file. A second Close does nothing.
func (s *Store) Close() (err error) {
	s.once.Do(func() {
		close(s.closing)
		err = s.shut()
	})
	return err
}

func (s *Store) shut() error {
	var errs []error
	for range s.dialed {
		select {
		case r := <-s.readers:
			errs = append(errs, r.close())
		case <-time.After(10 * time.Second):
			errs = append(errs, errors.New("a read does not end"))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w != nil {
		if s.broken == nil {
			s.broken = errClosed
			_, err := s.w.exec("PRAGMA incremental_vacuum(1000)")
			errs = append(errs, err)
		}
		errs = append(errs, s.w.close())
		s.w = nil
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}

// Watch calls hint when another engine on this store has made a run ready or has sent a
// message, until ctx ends.
func (s *Store) Watch(ctx context.Context, hint func()) error {
	s.hints.Lock()
	s.hints.all[&hint] = true
	s.hints.Unlock()
	<-ctx.Done()
	s.hints.Lock()
	delete(s.hints.all, &hint)
	s.hints.Unlock()
	return nil
}

func (s *Store) hint() {
	s.hints.Lock()
	defer s.hints.Unlock()
	for h := range s.hints.all {
		(*h)()
	}
}

// write runs fn in a transaction. What fn returns rolls it back.
func (s *Store) write(fn func(t *tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.refused()
	}
	if _, err := s.w.exec("BEGIN IMMEDIATE"); err != nil {
		return s.failed("begin", err)
	}
	s.tx.begin()
	err := fn(&s.tx)
	if err == nil {
		err = s.tx.flush()
	}
	if err != nil {
		s.tx.forget()
		if _, rerr := s.w.exec("ROLLBACK"); rerr != nil && !strings.Contains(rerr.Error(), "no transaction") {
			_ = s.breaks(fmt.Errorf("%w: roll back: %w", pawl.ErrUnknownOutcome, rerr)) // the first error says more
		}
		return s.failed("write", err)
	}
	if _, err := s.w.exec("COMMIT"); err != nil {
		// A full disk is no reason to stop for good: what was written of the transaction lies
		// behind the end of the log, and the next one is written over it.
		if code(err) == sqlite3.SQLITE_FULL {
			if _, rerr := s.w.exec("ROLLBACK"); rerr == nil || strings.Contains(rerr.Error(), "no transaction") {
				s.tx.forget()
				return fmt.Errorf("%w: commit to %s: %w (%w): free some space", pawl.ErrUnknownOutcome, s.path, syscall.ENOSPC, err)
			}
		}
		// An error of COMMIT says nothing: the commit may be in the log. Nothing that this
		// process reads from here on can be believed; opening the file anew tells.
		s.tx.forget()
		return s.breaks(fmt.Errorf("%w: commit to %s: %w; restart to find out", pawl.ErrUnknownOutcome, s.path, err))
	}
	s.spread()
	return nil
}

func (s *Store) failed(what string, err error) error {
	if code(err) == sqlite3.SQLITE_FULL {
		return fmt.Errorf("%s %s: %w (%w): free some space; nothing was written", what, s.path, syscall.ENOSPC, err)
	}
	if fatal(err) {
		return s.breaks(fmt.Errorf("%w: %s %s: %w; the disk or the file is at fault, see to it and restart", pawl.ErrUnknownOutcome, what, s.path, err))
	}
	if refusal(err) {
		return fmt.Errorf("%w: %s %s: %w", pawl.ErrRefused, what, s.path, err)
	}
	return err
}

// breaks ends the use of the store: nothing that this process would read or write from here on
// can be believed. Caller holds mu.
func (s *Store) breaks(why error) error {
	s.broken = why
	s.stale.Store(true)
	return why
}

var errClosed = fmt.Errorf("%w: Close of the store was called", pawl.ErrClosed)

// refused is the answer to calls on a store that is closed or broken: ErrClosed, by which an
// engine knows that joining again is of no use. Caller holds mu.
func (s *Store) refused() error {
	if s.broken == errClosed {
		return s.broken
	}
	return fmt.Errorf("%w: no call after an earlier one failed: %w", pawl.ErrClosed, s.broken)
}

// read runs fn on a connection for reads, in one transaction if it is more than one
// statement that must agree.
func (s *Store) read(ctx context.Context, fn func(c *conn) error) error {
	if s.readers == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.broken != nil {
			return s.refused()
		}
		return fn(s.w)
	}
	if s.stale.Load() { // what readers see may not be on the disk
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.refused()
	}
	select {
	case c := <-s.readers:
		defer func() { s.readers <- c }()
		return fn(c)
	case <-s.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
