package load

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Server is a peer's server, as a process of its own in a folder of its own.
type Server struct {
	Dir  string // fresh, removed by Stop
	cmd  *exec.Cmd
	done chan error
	log  *os.File
}

// NewDir makes the fresh folder in which a server will keep its data.
func NewDir(name string) (*Server, error) {
	dir, err := os.MkdirTemp("", "pawl-bench-"+name)
	return &Server{Dir: dir}, err
}

// Start starts the server's program in its folder; what it prints goes to a file there. The program gets SIGTERM when ctx
// ends. env is added to this process's own environment.
func (s *Server) Start(ctx context.Context, env []string, program string, args ...string) (err error) {
	if s.log, err = os.Create(filepath.Join(s.Dir, "server.log")); err != nil {
		return err
	}
	s.cmd = exec.CommandContext(ctx, program, args...)
	s.cmd.Dir, s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.Dir, append(os.Environ(), env...), s.log, s.log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 30 * time.Second
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan error, 1)
	go func() { s.done <- s.cmd.Wait() }()
	return nil
}

// Ready tries ask every 100 ms until it succeeds, for a minute at most or until the server ends.
func (s *Server) Ready(ask func() error) error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case ended := <-s.done:
			s.done <- ended
			return fmt.Errorf("%s ended before it was ready: %v\n%s", s.cmd.Path, ended, s.lastOutput())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s was not ready after a minute: %w\n%s", s.cmd.Path, err, s.lastOutput())
		}
	}
}

func (s *Server) lastOutput() []byte {
	out, _ := os.ReadFile(s.log.Name())
	return out[max(0, len(out)-2000):]
}

// Stop ends the server, by force after 30 seconds, and removes its folder.
func (s *Server) Stop() {
	if s.done != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.done:
		case <-time.After(30 * time.Second):
			_ = s.cmd.Process.Kill()
			<-s.done
		}
	}
	if s.log != nil {
		s.log.Close()
	}
	os.RemoveAll(s.Dir)
}

// FreePorts returns n ports of the loopback interface that nobody listens on.
func FreePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that none is given twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
