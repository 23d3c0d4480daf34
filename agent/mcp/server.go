package mcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// The limits that are not options.
const (
	maxMessage     = 8 << 20 // bytes of one message of a server; a larger one fails the call it answers
	maxArguments   = 1 << 20 // bytes of a call's arguments
	connectTimeout = 30 * time.Second
	stopTimeout    = 2 * time.Second // for a process to end by itself, and again after SIGTERM
)

// How long a process may take; variables so that tests need not wait so long.
var (
	writeTimeout = 10 * time.Second // to take a message in
	pingTimeout  = 10 * time.Second // to show that it lives, after a call timed out
)

// The defaults of Options.
const (
	DefaultTimeout   = time.Minute
	DefaultMaxResult = 64 << 10
	DefaultMaxTools  = 128
)

// Options describes a server: a Command or a URL, never both.
type Options struct {
	// Name is put before the names of the server's tools: 1 to 32 of A-Z, a-z, 0-9 and "-".
	// It becomes part of journals, so it should not change while runs are under way.
	Name string

	// Command is a program and its arguments, spoken to over stdin and stdout. It is looked
	// up in the PATH of this process and runs in a process group of its own.
	Command []string
	// Dir is where Command runs; "" is where this process does.
	Dir string
	// Env is the whole environment of Command, as KEY=value: nothing is inherited. Many
	// programs need PATH and HOME; say so with "PATH=" + os.Getenv("PATH").
	Env []string

	// URL is the endpoint of a server that speaks streamable HTTP. Keys go into Header, as
	// URLs come to be logged.
	URL string
	// Header is sent with each request to the host of URL, and to no other.
	Header http.Header
	// Client makes the requests. It is not changed. Nil means one without a proxy. Redirects
	// to another scheme, host or port are refused whatever it says.
	Client *http.Client

	// Allow names the tools that may be listed and called, as the server calls them. Empty
	// allows all.
	Allow []string
	// MaxTools bounds how many tools are listed; 0 means DefaultMaxTools. A server that
	// offers more is an error that asks for Allow.
	MaxTools int

	// Timeout bounds a call, the making of a session included; 0 means DefaultTimeout.
	Timeout time.Duration
	// MaxResult is how many bytes of a result are handed on; the rest is cut, with a note. 0
	// means DefaultMaxResult. A single message of over 8 MiB is not read at all: that call
	// fails.
	MaxResult int
	// Steps are options of the steps in which the tools are called.
	Steps []pawl.StepOption

	// Log gets what the process writes to stderr, at most 64 KiB per session in lines of at
	// most 1 KiB, and the making and loss of sessions. Nil means slog.Default().
	Log *slog.Logger
}

// Server is an MCP server and the session with it. It may be used by many goroutines.
type Server struct {
	o      Options
	log    *slog.Logger
	http   *http.Client // nil: stdio
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup // all goroutines of this package

	mu      sync.Mutex
	closed  bool
	current *session
	dial    *dialing
	fails   int       // sessions in a row that could not be made, or served nothing
	next    time.Time // no session is made before
	lastErr error     // why fails is not 0
}

var serverName = regexp.MustCompile(`^[A-Za-z0-9-]{1,32}$`)

// New returns the server that o describes. It starts and connects nothing: the first call
// does.
func New(o Options) (*Server, error) {
	if !serverName.MatchString(o.Name) {
		return nil, fmt.Errorf("mcp: Options.Name is %q; it must be 1 to 32 of A-Z, a-z, 0-9 and -", o.Name)
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("mcp server %s: %w", o.Name, err)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxResult == 0 {
		o.MaxResult = DefaultMaxResult
	}
	if o.MaxTools == 0 {
		o.MaxTools = DefaultMaxTools
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	o.Command, o.Env, o.Allow, o.Steps = slices.Clone(o.Command), slices.Clone(o.Env), slices.Clone(o.Allow), slices.Clone(o.Steps)
	o.Header = o.Header.Clone()
	s := &Server{o: o, log: o.Log.With("mcp", o.Name)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if o.URL != "" {
		s.http = httpClient(&s.o)
	}
	return s, nil
}

func (o *Options) check() error {
	switch {
	case len(o.Command) == 0 && o.URL == "":
		return errors.New("neither Options.Command nor Options.URL is set; set one")
	case len(o.Command) > 0 && o.URL != "":
		return errors.New("both Options.Command and Options.URL are set; set one")
	case len(o.Command) > 0 && o.Command[0] == "":
		return errors.New("the program in Options.Command is empty")
	case o.Timeout < 0 || o.MaxResult < 0 || o.MaxTools < 0:
		return errors.New("Options.Timeout, MaxResult and MaxTools can't be negative")
	case o.MaxResult > maxMessage:
		return fmt.Errorf("Options.MaxResult is over %d, the most that is read of a message", maxMessage)
	case slices.Contains(o.Allow, ""):
		return errors.New("Options.Allow contains an empty name")
	}
	if o.URL == "" {
		return nil
	}
	for key := range o.Header {
		if key = http.CanonicalHeaderKey(key); strings.HasPrefix(key, "Mcp-") {
			return fmt.Errorf("Options.Header has %s, which is the protocol's to set", key)
		}
	}
	u, err := url.Parse(o.URL)
	switch {
	case err != nil:
		return errors.New("Options.URL is not a URL") // the parser's error would repeat it, keys and all
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return errors.New("Options.URL must begin with http:// or https:// and a host")
	case u.User != nil:
		return errors.New("Options.URL contains a user or password; put them into Options.Header")
	}
	return nil
}

// Name returns Options.Name.
func (s *Server) Name() string { return s.o.Name }

// Close ends the session, and the server's process with all that it started in its process
// group; it waits until they are gone, for some seconds at most. Calls under way, and
// later ones, fail with [Closed]. The error is nil unless the process can't be killed.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	sess := s.current
	s.mu.Unlock()
	s.cancel()
	if sess != nil {
		sess.wire.quiet(time.Second)
		s.drop(sess)
	}
	s.work.Wait()
	if s.http != nil && s.o.Client == nil {
		s.http.CloseIdleConnections()
	}
	if sess != nil && sess.process != nil && sess.process.stuck {
		return fmt.Errorf("close mcp server %s: its process %d does not end, even when killed", s.o.Name, sess.process.cmd.Process.Pid)
	}
	return nil
}

func (s *Server) allows(tool string) bool {
	return len(s.o.Allow) == 0 || slices.Contains(s.o.Allow, tool)
}

// begin runs f in a goroutine that Close waits for, unless Close was called.
func (s *Server) begin(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Go(f)
	return true
}
