//go:build unix

package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// startLimit bounds the wait for a server to accept connections, recovery after a crash included.
const startLimit = time.Minute

// Options says how a private server runs. The zero value is right for ordinary tests.
type Options struct {
	// Fsync makes the server flush to disk as one in production does. Off by default: tests are faster, and what was committed
	// survives [Server.Crash] either way. Only a crash of the whole machine tells the difference.
	Fsync bool
	// Settings are further server settings by name, such as "max_connections" ("200" by default).
	Settings map[string]string
}

// Server is a private PostgreSQL server. Its methods are safe for concurrent use.
type Server struct {
	dir      string
	programs programs
	settings map[string]string
	keeper   *keeper

	mu      sync.Mutex
	process *exec.Cmd
	exited  chan struct{} // closed once process has ended; nil before the first start
	stopped bool
}

// parentDir is where the directory of a server is made. What is to reach a disk is never in [EnvDir], which may be in memory.
func parentDir(opt Options) string {
	if opt.Fsync {
		return os.TempDir()
	}
	return cmp.Or(os.Getenv(EnvDir), os.TempDir())
}

// Start makes a new server in a temporary directory and returns when it accepts connections. [Server.Stop] ends it; a server
// that is not stopped ends with the test process. [EnvURL] has no bearing on it.
func Start(opt Options) (*Server, error) {
	programs, err := findPrograms()
	if err != nil {
		return nil, err
	}
	keeper, err := startKeeper(parentDir(opt))
	if err != nil {
		return nil, err
	}
	s := &Server{dir: keeper.dir, programs: programs, settings: serverSettings(keeper.dir, opt), keeper: keeper}
	if err := s.initialize(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// URL returns the address of the server's own database, which is named postgres and empty at first.
func (s *Server) URL() string {
	return "postgres://postgres@/postgres?host=" + url.QueryEscape(s.dir) + "&port=5432&sslmode=disable"
}

// NewDatabase creates an empty database and returns its address.
func (s *Server) NewDatabase(name string) (string, error) {
	return createDatabase(s.URL(), name)
}

// Crash ends the server at once, without a checkpoint and without a word to its clients, as "pg_ctl stop -m immediate" does,
// and returns when it is gone. [Server.Start] then recovers from the write-ahead log.
func (s *Server) Crash() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return errors.New("crash PostgreSQL: it is not running")
	}
	if err := s.process.Process.Signal(syscall.SIGQUIT); err != nil {
		return fmt.Errorf("crash PostgreSQL: %w", err)
	}
	<-s.exited
	return nil
}

// Start starts the server again after [Server.Crash], on the same address, and returns when it accepts connections.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("start PostgreSQL: Stop was called and its data is gone")
	}
	if s.running() {
		return errors.New("start PostgreSQL: it is running")
	}
	if err := s.launch(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := s.awaitConnections(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w\n%s", err, s.log())
	}
	return nil
}

// Stop ends the server for good and removes its data. Further calls do nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	err := s.keeper.finish()
	if s.exited != nil {
		<-s.exited
	}
	return err
}

func serverSettings(dir string, opt Options) map[string]string {
	settings := map[string]string{
		"listen_addresses":        "",
		"port":                    "5432",
		"unix_socket_directories": dir,
		"max_connections":         "200",
		// In the data directory rather than in /dev/shm, so that removing the directory removes everything.
		"dynamic_shared_memory_type": "mmap",
	}
	if !opt.Fsync {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	for name, value := range opt.Settings {
		settings[name] = value
	}
	return settings
}

func (s *Server) data() string    { return filepath.Join(s.dir, "data") }
func (s *Server) logPath() string { return filepath.Join(s.dir, "log") }

// initialize makes the data directory. Everything in s.dir belongs to the user that the server runs as.
func (s *Server) initialize() error {
	if c := s.programs.credential; c != nil {
		if err := os.Chown(s.dir, int(c.Uid), int(c.Gid)); err != nil {
			return err
		}
	}
	// No flush here even with Fsync: nothing is committed yet.
	cmd := s.programs.command(s.dir, "initdb", "-D", s.data(), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	log, err := os.Create(s.logPath())
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	err = s.keeper.start(cmd)
	if err == nil {
		err = errors.Join(cmd.Wait(), s.keeper.forget())
	}
	if err != nil {
		return fmt.Errorf("initdb in %s: %w (%s must be able to enter that directory; TMPDIR chooses another)\n%s", s.dir, err, s.programs.user(), s.log())
	}
	return nil
}

func (s *Server) launch() error {
	args := []string{"-D", s.data()}
	for name, value := range s.settings {
		args = append(args, "-c", name+"="+value)
	}
	cmd := s.programs.command(s.dir, "postgres", args...)
	log, err := os.Create(s.logPath())
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := s.keeper.start(cmd); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		// Neither error has a reader: a server that ended unasked shows in the test's connections, a lost keeper at the next start.
		_ = cmd.Wait()
		_ = s.keeper.forget()
		close(exited)
	}()
	s.process, s.exited = cmd, exited
	return nil
}

func (s *Server) awaitConnections() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.exited:
			return errors.New("the server ended; its log follows")
		case <-ctx.Done():
			return fmt.Errorf("no connection within %v: %w; its log follows", startLimit, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *Server) running() bool {
	if s.exited == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// log returns the last output of initdb or the server, for an error.
func (s *Server) log() string {
	text, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}
