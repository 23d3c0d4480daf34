// Package sqlite keeps pawl's runs in one SQLite file.
//
// It is the embedded default: no server, one process per file. Commits are durable against
// a power cut (write-ahead log, synchronous=FULL) and made cheap by being shared. It never
// opens the database's files beside SQLite's back while they are in use, and never runs
// with a SQLite older than 3.51.3, whose log could be corrupted.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pressly/goose/v3"
	gosestore "github.com/pressly/goose/v3/database"
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
}

// Store is a pawl.Store in a SQLite file.
type Store struct {
	path string
	lock *os.File
	dsn  string

	mu     sync.Mutex // of the writer
	w      *conn
	broken error // set: the file can't be believed any more
	tx     tx

	readers chan *conn // nil: reads use the writer (in memory)
	dialed  int        // how many readers there are
	closing chan struct{}
	once    sync.Once // of Close

	hints struct {
		sync.Mutex
		all map[*func()]bool
	}
}

var (
	_ pawl.Store   = (*Store)(nil)
	_ pawl.Watcher = (*Store)(nil)
)

//go:embed migration/*.sql
var migrations embed.FS

// applicationID marks a file as pawl's: "pawl" as a number.
const applicationID = 0x7061776c

// Open opens or makes the database in a file, and brings its schema up to date. While it
// is open no other process can open it: ErrLocked. ErrSchema: the file belongs to a newer
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
		if s.w, err = dial(s.dsn); err != nil {
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
			r, err := dial(s.dsn + "&_pragma=query_only(1)")
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

// lockFile takes the lock that keeps a second process away. The database's own locks would
// not: they let writers take turns.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(path)
		return nil, errors.Join(fmt.Errorf("%w: process %s has it open; talk to it over its API, stop it, or use PostgreSQL for several workers",
			pawl.ErrLocked, strings.TrimSpace(string(owner))), f.Close())
	}
	// For people only, so that a full disk does not matter; always as long, so that nothing of
	// an earlier owner is left.
	_, _ = fmt.Fprintf(f, "%-19d\n", os.Getpid())
	return f, nil
}

// prepareFile makes a new database file readable for its owner only. Nobody has it open here.
func prepareFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(ours(f), f.Close())
}

// prepareLog gives a database without a log one of zeros: a log that exists is overwritten
// in place, and a sync of blocks that were written before costs a fraction of one that grows
// the file. SQLite takes a log without a valid header as empty. A log that a process left
// behind is written anew. Nobody has the files open here.
func prepareLog(path string, size int) error {
	if size < 0 {
		return nil
	}
	if size == 0 {
		size = 16 << 20
	}
	wal, err := os.OpenFile(path+"-wal", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return rewrite(path + "-wal")
	}
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for n := 0; n < size && err == nil; n += len(zeros) {
		_, err = wal.Write(zeros)
	}
	if err == nil {
		err = wal.Sync()
	}
	err = errors.Join(err, wal.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("make room for the log: %w", err), os.Remove(path+"-wal"))
	}
	return nil
}

// syncDir makes the names of the database's files durable. SQLite does that too, but takes
// no notice when it fails.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // this file system has no such thing
	}
	if err = errors.Join(err, dir.Close()); err != nil {
		return fmt.Errorf("make the directory durable: %w", err)
	}
	return nil
}

// ours refuses a file of another program before anything is made beside it. A database of
// ours has the mark in its header before it has a second page; until then nobody's work is
// in it. One whose first transaction was cut short may have no header yet, but its journal.
func ours(f *os.File) error {
	var header [72]byte
	n, err := f.ReadAt(header[:], 0)
	if err != nil && err != io.EOF {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch {
	case n == 0:
		return nil // new
	case !strings.HasPrefix(string(header[:]), "SQLite format 3\x00"):
		if _, err := os.Stat(f.Name() + "-journal"); err == nil {
			return nil
		}
		return fmt.Errorf("%w: the file is no database", pawl.ErrSchema)
	case binary.BigEndian.Uint32(header[68:]) != applicationID && info.Size() > 4096:
		return fmt.Errorf("%w: the file is a database of another program", pawl.ErrSchema)
	}
	return nil
}

// rewrite writes a log over itself and syncs it. A log that is there was left by a process
// that died, perhaps because a sync had failed: then the kernel may show pages that the
// disk does not have, and believes them written. All that comes later in the log would
// hang from them.
func rewrite(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); err == nil; {
		var n int
		if n, err = f.ReadAt(buf, at); n > 0 {
			if _, werr := f.WriteAt(buf[:n], at); werr != nil {
				err = werr
			}
			at += int64(n)
		}
	}
	if err == io.EOF {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("make the log safe: %w", err)
	}
	return nil
}

// setUp checks the library and the file, and migrates. fresh: the file had nothing in it.
func (s *Store) setUp(path string) (fresh bool, err error) {
	var version string
	var id, tables int64
	get := func(q string, to func(r row)) error {
		_, err := s.w.one(q, nil, func(r row) error { to(r); return nil })
		return err
	}
	if err := get("SELECT sqlite_version()", func(r row) { version = r.str(0) }); err != nil {
		return false, err
	}
	if !atLeast(version, 3, 51, 3) {
		return false, fmt.Errorf("SQLite %s is linked in, 3.51.3 is needed: older ones can corrupt a write-ahead log", version)
	}
	if err := get("PRAGMA application_id", func(r row) { id = r.int(0) }); err != nil {
		return false, err
	}
	if err := get("SELECT count(*) FROM sqlite_schema", func(r row) { tables = r.int(0) }); err != nil {
		return false, err
	}
	if tables > 0 && id != applicationID {
		return false, fmt.Errorf("%w: the file is a database of another program", pawl.ErrSchema)
	}
	if tables == 0 {
		for _, q := range []string{"PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA page_size = 4096", "PRAGMA application_id = " + strconv.Itoa(applicationID)} {
			if _, err := s.w.exec(q); err != nil {
				return false, err
			}
		}
	}
	if path != Memory {
		for _, q := range []string{"PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 2000", "PRAGMA journal_size_limit = -1"} {
			if err := get(q, func(row) {}); err != nil {
				return false, err
			}
		}
	}
	return tables == 0, s.migrate()
}

func atLeast(version string, want ...int) bool {
	for i, part := range strings.SplitN(version, ".", 4) {
		n, _ := strconv.Atoi(part)
		if i < len(want) && n != want[i] {
			return n > want[i]
		}
	}
	return true
}

// schemaTable is where the versions of the schema are kept.
const schemaTable = "pawl_schema"

func (s *Store) migrate() error {
	db := sql.OpenDB(only{s.w.c})
	defer db.Close()
	db.SetMaxOpenConns(1)
	store, err := gosestore.NewStore(gosestore.DialectSQLite3, schemaTable)
	if err != nil {
		return err
	}
	dir, err := fs.Sub(migrations, "migration")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider("", db, dir, goose.WithStore(store), goose.WithLogger(log.New(nowhere{}, "", 0)))
	if err != nil {
		return err
	}
	ctx := context.Background()
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	sources := p.ListSources()
	if newest := sources[len(sources)-1].Version; have > newest {
		return fmt.Errorf("%w: its schema is version %d, this pawl knows up to %d: use a newer pawl", pawl.ErrSchema, have, newest)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the schema from version %d: %w", have, err)
	}
	return nil
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

// only lends one connection to database/sql, which migrations are written for.
type only struct{ c driver.Conn }

func (o only) Connect(context.Context) (driver.Conn, error) { return lent{o.c}, nil }
func (o only) Driver() driver.Driver                        { return nil }

type lent struct{ driver.Conn }

func (lent) Close() error { return nil }

func (l lent) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return l.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
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
			s.broken = pawl.ErrClosed
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
			s.broken = fmt.Errorf("%w: roll back: %w", pawl.ErrUnknownOutcome, rerr)
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
		s.broken = fmt.Errorf("%w: commit to %s: %w; restart to find out", pawl.ErrUnknownOutcome, s.path, err)
		return s.broken
	}
	return nil
}

func (s *Store) failed(what string, err error) error {
	if code(err) == sqlite3.SQLITE_FULL {
		return fmt.Errorf("%s %s: %w (%w): free some space; nothing was written", what, s.path, syscall.ENOSPC, err)
	}
	if fatal(err) {
		s.broken = fmt.Errorf("%w: %s %s: %w; the disk or the file is at fault, see to it and restart", pawl.ErrUnknownOutcome, what, s.path, err)
		return s.broken
	}
	if refusal(err) {
		return fmt.Errorf("%w: %s %s: %w", pawl.ErrRefused, what, s.path, err)
	}
	return err
}

// refused is the answer to calls on a store that is closed or broken: ErrClosed, by which an
// engine knows that joining again is of no use. Caller holds mu.
func (s *Store) refused() error {
	if s.broken == pawl.ErrClosed {
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
	select {
	case c := <-s.readers:
		defer func() { s.readers <- c }()
		return fn(c)
	case <-s.closing:
		return pawl.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
