package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/pawlrun/pawl"
)

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
