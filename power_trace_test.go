package pawl_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// This file makes a recording of what a worker asked of the kernel: strace runs it, and
// its lines become writes, syncs and names of files.

// recording is what one or more workers, one after the other, did to the files of a
// database and to the ledger.
//
// Moments are numbers of lines of the trace. strace holds a thread at the entry and at the
// exit of each call and writes about it meanwhile. So where one call was the reason for
// another, be it in another thread, the line of the first one's exit stands before the
// line of the other's entry; and a call has taken place between the lines of its entry and
// its exit. All that is read from the order of lines rests on this: a sync covers the
// writes whose exit stands before its entry, and is done at its exit; a write may be on
// the disk from its entry on; a ledger line counts from its entry on, because what it says
// was known by then.
type recording struct {
	dir    string // of the database
	ledger string

	end      int // the moment after the last line
	ready    int // when the newest worker had its store open
	files    []*file
	names    []naming
	dirSyncs []barrier
	lines    []ledgerLine
	faults   []faulted // syncs that failed

	live map[string]*file // the directory as the worker sees it
	open map[int]*handle
}

// file is one file, whatever its name. Its changes are in the order in which they were made.
type file struct {
	name    string // the one that it was made under
	changes []change
	syncs   []barrier
}

// change is a write, or a truncation where data is nil.
type change struct {
	begin, end int
	offset     int64
	data       []byte
	lost       bool // a sync of it failed: no later one is believed to have brought it to the disk
}

// naming is the making of a name in the directory, or its removal where file is nil.
type naming struct {
	begin, end int
	name       string
	file       *file
}

// barrier is a sync that succeeded: the first covers changes are on the disk from end on.
type barrier struct{ end, covers int }

type ledgerLine struct {
	begin int
	at    time.Time
	text  string
}

// faulted is a sync that failed, and how many changes were waiting for it.
type faulted struct {
	line    int
	at      time.Time
	what    string
	pending int
}

type handle struct {
	file   *file
	offset int64
}

// traced are the calls that change files, and those by which a file could be changed
// unseen: one of these on the database's files spoils the recording. A question mark lets
// a kernel be without a call.
const traced = "write,pwrite64,fsync,fdatasync,ftruncate,openat,?open,?unlink,unlinkat,close," +
	"writev,pwritev,pwritev2,sync_file_range,truncate,fallocate,?creat,?rename,renameat,renameat2,?link,linkat,lseek,mmap,copy_file_range,sendfile,splice"

// trace runs a worker under strace until it ends and adds what it did to the recording.
// patience is for the whole of it; args are more arguments for strace. It returns the
// worker's exit code, -1 if patience ended, what it wrote to stderr, and the time of its end.
func (r *recording) trace(t *testing.T, cfg crashConfig, patience time.Duration, args ...string) (code int, stderr string, ended time.Time) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "trace")
	args = append([]string{"-f", "-y", "-xx", "-ttt", "-s", strconv.Itoa(2 << 20), "-o", out, "-e", "trace=" + traced}, args...)
	args = append(args, exe, "-test.run=^TestCrashWorker$", fmt.Sprintf("-test.timeout=%v", 2*patience))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "strace", args...)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // all of them
	env, _ := json.Marshal(cfg)
	cmd.Env = append(os.Environ(), envWorker+"="+string(env))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatalf("strace is needed (make test installs it on Debian): %v", err)
	}
	err = cmd.Wait()
	ended = time.Now()
	in, operr := os.Open(out)
	if operr != nil {
		t.Fatalf("strace did not start: %v %v\n%s", err, operr, errs.String())
	}
	defer in.Close()
	if err := r.read(in); err != nil {
		t.Fatalf("the trace can't be understood: %v\n%s", err, errs.String())
	}
	return cmd.ProcessState.ExitCode(), errs.String(), ended
}

// kernelCall is one system call: where it began and ended, its arguments and its result.
type kernelCall struct {
	begin, end int
	at         time.Time // of its end
	name       string
	args       []string
	result     string
}

// read adds the calls of a trace. Calls that a thread did not come back from may have had
// their effect at any time, or never.
func (r *recording) read(in io.Reader) error {
	type begun struct {
		line int
		text string
	}
	under := map[string]begun{} // by thread
	r.open = map[int]*handle{}
	r.ready = math.MaxInt
	lines := bufio.NewReaderSize(in, 1<<20)
	for ; ; r.end++ {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		pid, line, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		stamp, text, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
		seconds, err := strconv.ParseFloat(stamp, 64)
		if err != nil {
			return fmt.Errorf("line %d: no time in %.100q", r.end, line)
		}
		at := time.UnixMicro(int64(seconds * 1e6))
		begin := r.end
		switch head, ok := strings.CutSuffix(text, " <unfinished ...>"); {
		case strings.HasPrefix(text, "---"), strings.HasPrefix(text, "+++"):
			continue
		case ok:
			under[pid] = begun{r.end, head}
			continue
		case strings.HasPrefix(text, "<... "):
			_, rest, _ := strings.Cut(text, " resumed>")
			begin, text = under[pid].line, under[pid].text+rest
			delete(under, pid)
		}
		if err := r.take(parseCall(text, begin, r.end, at)); err != nil {
			return fmt.Errorf("line %d: %w in %.200q", r.end, err, text)
		}
	}
	for _, b := range under {
		if err := r.take(parseCall(b.text+") = ?", b.line, math.MaxInt, time.Time{})); err != nil {
			return fmt.Errorf("line %d: %w in %.200q", b.line, err, b.text)
		}
	}
	slices.SortStableFunc(r.lines, func(a, b ledgerLine) int { return a.begin - b.begin })
	return nil
}

// parseCall takes a line apart. As strings and paths are hexadecimal throughout, what looks
// like punctuation is punctuation.
func parseCall(text string, begin, end int, at time.Time) kernelCall {
	c := kernelCall{begin: begin, end: end, at: at}
	head, result, _ := cutLast(text, "= ")
	c.result = result
	c.name, head, _ = strings.Cut(head, "(")
	head, _, _ = cutLast(head, ")")
	c.args = strings.Split(head, ", ")
	return c
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// take adds one call.
func (r *recording) take(c kernelCall) error {
	failed := strings.HasPrefix(c.result, "-1")
	fd, path := descriptor(c.args[0])
	_, ours := r.tracked(path)
	switch c.name {
	case "close":
		delete(r.open, fd)
	case "open":
		return r.opened(c, c.args[0], c.args[1])
	case "openat":
		return r.opened(c, c.args[1], c.args[2])
	case "unlink", "unlinkat":
		path := c.args[0]
		if c.name == "unlinkat" {
			path = c.args[1]
		}
		if name, ours := r.tracked(text(path)); ours && !failed {
			r.names = append(r.names, naming{begin: c.begin, end: c.end, name: name})
			delete(r.live, name)
		}
	case "fsync", "fdatasync":
		if path == r.dir {
			if covers := countBefore(r.names, func(n naming) int { return n.end }, c.begin); !failed {
				r.dirSyncs = append(r.dirSyncs, barrier{c.end, covers})
			} else {
				r.faults = append(r.faults, faulted{c.end, c.at, "the directory", covers - coveredAt(r.dirSyncs, c.begin)})
			}
		} else if ours {
			return r.synced(c, r.open[fd], failed)
		}
	case "write":
		if fd == 1 && text(c.args[1]) == "ready\n" {
			r.ready = c.begin
			return nil
		}
		if path == r.ledger {
			r.lines = append(r.lines, ledgerLine{c.begin, c.at, strings.TrimSuffix(text(c.args[1]), "\n")})
			return nil
		}
		if h := r.open[fd]; ours && h != nil && !failed {
			err := r.wrote(c, h.file, h.offset)
			h.offset += c.number()
			return err
		}
	case "pwrite64":
		if ours && !failed {
			offset, err := strconv.ParseInt(c.args[3], 10, 64)
			if err != nil || r.open[fd] == nil {
				return fmt.Errorf("a write to nowhere")
			}
			return r.wrote(c, r.open[fd].file, offset)
		}
	case "ftruncate":
		if ours && !failed {
			length, err := strconv.ParseInt(c.args[1], 10, 64)
			if err != nil || r.open[fd] == nil {
				return fmt.Errorf("a truncation of nothing")
			}
			return r.open[fd].file.add(change{begin: c.begin, end: c.end, offset: length})
		}
	case "mmap":
		if name, ours := r.mapped(c); ours {
			return fmt.Errorf("%s is mapped for writing: writes to it can't be seen", name)
		}
	default:
		for _, a := range c.args {
			_, path := descriptor(a)
			_, ours := r.tracked(path)
			_, ourName := r.tracked(text(a))
			if ours || ourName {
				return fmt.Errorf("%s on the database is unknown here", c.name)
			}
		}
	}
	return nil
}

func (r *recording) mapped(c kernelCall) (string, bool) {
	if len(c.args) < 5 || !strings.Contains(c.args[2], "PROT_WRITE") || !strings.Contains(c.args[3], "MAP_SHARED") {
		return "", false
	}
	_, path := descriptor(c.args[4])
	return r.tracked(path)
}

// tracked tells whether a path is a file of the database that outlives a power cut. The
// -shm is rebuilt and the lock is empty then.
func (r *recording) tracked(path string) (name string, ok bool) {
	name = filepath.Base(path)
	return name, filepath.Dir(path) == r.dir && !strings.HasSuffix(name, "-shm") && !strings.HasSuffix(name, ".lock")
}

func (r *recording) opened(c kernelCall, path, flags string) error {
	name, ours := r.tracked(text(path))
	if !ours || strings.HasPrefix(c.result, "-1") {
		return nil
	}
	f := r.live[name]
	switch {
	case strings.Contains(flags, "O_TRUNC"), strings.Contains(flags, "O_APPEND"):
		return fmt.Errorf("flags %s are unknown here", flags)
	case f == nil && !strings.Contains(flags, "O_CREAT"):
		return fmt.Errorf("%s was there before the recording", name)
	case f == nil:
		f = &file{name: name}
		r.live[name] = f
		r.files = append(r.files, f)
		r.names = append(r.names, naming{c.begin, c.end, name, f})
	}
	fd, _ := descriptor(c.result)
	r.open[fd] = &handle{file: f}
	return nil
}

func (r *recording) synced(c kernelCall, h *handle, failed bool) error {
	if h == nil {
		return fmt.Errorf("a sync of nothing")
	}
	f := h.file
	if !failed {
		f.syncs = append(f.syncs, barrier{c.end, countBefore(f.changes, func(ch change) int { return ch.end }, c.begin)})
		return nil
	}
	durable := 0
	if n := len(f.syncs); n > 0 {
		durable = f.syncs[n-1].covers
	}
	pending := 0
	for i := durable; i < len(f.changes); i++ {
		if !f.changes[i].lost {
			f.changes[i].lost = true
			pending++
		}
	}
	r.faults = append(r.faults, faulted{c.end, c.at, f.name, pending})
	return nil
}

func (r *recording) wrote(c kernelCall, f *file, offset int64) error {
	data, ok := unhex(c.args[1])
	if !ok {
		return fmt.Errorf("data that was cut short")
	}
	if c.result != "?" {
		data = data[:c.number()]
	}
	return f.add(change{begin: c.begin, end: c.end, offset: offset, data: data})
}

// add takes changes one after the other: of two at once nobody could say which came last.
func (f *file) add(ch change) error {
	if n := len(f.changes); n > 0 && f.changes[n-1].end > ch.begin {
		return fmt.Errorf("two writes to %s at the same time", f.name)
	}
	f.changes = append(f.changes, ch)
	return nil
}

// countBefore returns how many of the first elements have ended before a moment.
func countBefore[T any](all []T, end func(T) int, moment int) int {
	n := slices.IndexFunc(all, func(e T) bool { return end(e) >= moment })
	if n < 0 {
		return len(all)
	}
	return n
}

// number is the result as a number.
func (c kernelCall) number() int64 {
	n, _ := strconv.ParseInt(c.result, 10, 64)
	return n
}

// descriptor reads "7<\x2f\x74>", with what the file was called.
func descriptor(s string) (fd int, path string) {
	number, rest, ok := strings.Cut(s, "<")
	if !ok {
		return -1, ""
	}
	fd, err := strconv.Atoi(number)
	if err != nil {
		return -1, ""
	}
	name, _, _ := strings.Cut(rest, ">")
	return fd, text(`"` + name + `"`)
}

func text(s string) string {
	b, _ := unhex(s)
	return string(b)
}

// unhex reads "\x2f\x74"; ok is false where strace left something out.
func unhex(s string) (data []byte, ok bool) {
	s, open := strings.CutPrefix(s, `"`)
	s, closed := strings.CutSuffix(s, `"`)
	if !open || !closed || len(s)%4 != 0 {
		return nil, false
	}
	data = make([]byte, len(s)/4)
	for i := range data {
		data[i] = nibble(s[4*i+2])<<4 | nibble(s[4*i+3])
	}
	return data, true
}

func nibble(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}
