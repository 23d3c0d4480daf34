package mcp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// process is a server's process and the connection over its pipes, one JSON message a line.
//
// The SDK's own transport for commands is not used: a line that is too long, or no message,
// ends its connection, and with it the calls of all other tools; a server that stops reading
// blocks it for good; and what the server started outlives it.
type process struct {
	cmd      *exec.Cmd
	in, out  *os.File // its stdin and stdout, our ends
	log      *slog.Logger
	stray    *capped
	stopping chan struct{}
	stopOnce sync.Once
	gone     chan struct{} // closed when the process has been reaped, or given up
	status   string        // how it ended; set before gone is closed
	stuck    bool          // it did not end, whatever was tried; set before gone is closed

	lines   *bufio.Reader
	pending []jsonrpc.Message // the rest of a batch
	write   sync.Mutex
}

// startProcess starts the command; wait must then be called.
func startProcess(o *Options, log *slog.Logger) (*process, error) {
	cmd := exec.Command(o.Command[0], o.Command[1:]...)
	cmd.Dir = o.Dir
	cmd.Env = append([]string{}, o.Env...) // nil would be all of ours
	cmd.WaitDelay = time.Second            // for a stderr that others hold open
	ownGroup(cmd)
	quota := &capped{left: 64 << 10}
	stderr := &lineLog{say: func(line string) { quota.log(log, "mcp server's stderr", line) }}
	cmd.Stderr = stderr
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		_ = theirIn.Close()
		_ = in.Close()
		return nil, err
	}
	cmd.Stdin, cmd.Stdout = theirIn, theirOut
	err = cmd.Start()
	_ = theirIn.Close()
	_ = theirOut.Close()
	if err != nil {
		_ = in.Close()
		_ = out.Close()
		return nil, fmt.Errorf("start %s: %w", o.Command[0], rootExec(err))
	}
	return &process{
		cmd: cmd, in: in, out: out, log: log, stray: quota,
		stopping: make(chan struct{}), gone: make(chan struct{}),
		lines: bufio.NewReaderSize(out, 64<<10),
	}, nil
}

// rootExec drops the name of the program, which the message has already.
func rootExec(err error) error {
	if e, ok := errors.AsType[*exec.Error](err); ok {
		return e.Err
	}
	return err
}

// wait sees the process to its end: by itself, or after stop by ever stronger means.
func (p *process) wait() {
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-p.stopping:
		_ = p.in.Close() // by which a server is asked to end
		var over bool
		for _, signal := range []func(*exec.Cmd){terminateGroup, killGroup, func(*exec.Cmd) {}} {
			if over, err = within(ended, stopTimeout); over {
				break
			}
			signal(p.cmd)
		}
		if !over { // it can't be killed, such as in a system call that hangs: WaitDelay can't help either
			p.log.Error("mcp server's process does not end", "pid", p.cmd.Process.Pid)
			p.stuck, err = true, errors.New("it does not end")
		}
	}
	killGroup(p.cmd) // what it started
	p.status = "exit status 0"
	if err != nil {
		p.status = err.Error()
	}
	close(p.gone)
	p.stop()
	_ = p.in.Close()
	// What it said last is still read; but not for long, as one that left the group may hold
	// the pipe open.
	_ = p.out.SetReadDeadline(time.Now().Add(time.Second))
}

func within(ended <-chan error, d time.Duration) (bool, error) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case err := <-ended:
		return true, err
	case <-t.C:
		return false, nil
	}
}

// stop makes wait end the process. It does not wait for that.
func (p *process) stop() { p.stopOnce.Do(func() { close(p.stopping) }) }

// Connect implements sdk.Transport.
func (p *process) Connect(context.Context) (sdk.Connection, error) { return p, nil }

// SessionID implements sdk.Connection.
func (p *process) SessionID() string { return "" }

// Close implements sdk.Connection. The SDK calls it under a lock.
func (p *process) Close() error {
	p.stop()
	return p.out.Close()
}

// Write implements sdk.Connection. A process that takes nothing in for long breaks it.
func (p *process) Write(ctx context.Context, m jsonrpc.Message) error {
	data, err := jsonrpc.EncodeMessage(m)
	if err != nil {
		return err
	}
	p.write.Lock()
	defer p.write.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_ = p.in.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := p.in.Write(append(data, '\n')); err != nil {
		p.stop() // half a message may be out
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("the server's process read nothing for %v", writeTimeout)
		}
		return p.ended(err)
	}
	return nil
}

// Read implements sdk.Connection. It is called by one goroutine.
func (p *process) Read(context.Context) (jsonrpc.Message, error) {
	for {
		if len(p.pending) > 0 {
			m := p.pending[0]
			p.pending = p.pending[1:]
			return m, nil
		}
		line, id, err := readMessage(p.lines, maxMessage)
		if errors.Is(err, errTooLong) {
			p.stray.log(p.log, "mcp server's message is too long and was not read", fmt.Sprintf("id %v", id.Raw()))
			if id.IsValid() {
				return &jsonrpc.Response{ID: id, Error: &Error{Kind: TooLarge, Message: fmt.Sprintf("the answer is over %d bytes; ask for less", maxMessage)}}, nil
			}
			continue
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			var bad error
			if p.pending, bad = decodeLine(line); bad != nil {
				p.stray.log(p.log, "mcp server's stdout has what is no message", shorten(string(line), 256))
				if id.IsValid() {
					return &jsonrpc.Response{ID: id, Error: &Error{Kind: Malformed, Message: "the answer can't be read: " + words(bad.Error())}}, nil
				}
			}
			if err == nil || len(p.pending) > 0 {
				continue
			}
		}
		if err != nil {
			return nil, p.ended(err)
		}
	}
}

// ended says how the process ended, if it did.
func (p *process) ended(err error) error {
	select {
	case <-p.gone:
	case <-p.stopping:
	case <-time.After(stopTimeout):
	}
	switch {
	case isClosed(p.gone):
		return fmt.Errorf("the server's process ended: %s", p.status)
	case isClosed(p.stopping):
		return errors.New("the server's process was stopped")
	case errors.Is(err, io.EOF):
		return errors.New("the server's process closed its stdout")
	}
	return err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// decodeLine decodes a message, or the batch of them that old servers may send.
func decodeLine(line []byte) ([]jsonrpc.Message, error) {
	if line[0] != '[' {
		m, err := jsonrpc.DecodeMessage(line)
		if err != nil {
			return nil, err
		}
		return []jsonrpc.Message{m}, nil
	}
	parts, ok := array(line)
	if !ok {
		return nil, errors.New("it is not JSON")
	}
	var all []jsonrpc.Message
	for _, part := range parts {
		m, err := jsonrpc.DecodeMessage(part)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}
