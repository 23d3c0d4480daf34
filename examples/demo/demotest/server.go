package demotest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a program under way that serves.
type Server struct {
	URL string
	cmd *exec.Cmd
	log string // a file, so that nobody has to read along
}

// Launch starts a program in dir on a free port, with nothing set but what env says, and returns
// when it serves.
func Launch(t *testing.T, program, dir string, env []string, args ...string) *Server {
	t.Helper()
	log, err := os.CreateTemp(dir, "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s := &Server{cmd: exec.Command(program, append([]string{"-listen", "127.0.0.1:0"}, args...)...), log: log.Name()}
	s.cmd.Dir, s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = dir, append([]string{}, env...), log, log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // both fail if it has ended, as it should have
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	Await(t, "the program serves", func() bool {
		_, rest, found := strings.Cut(s.Said(), "serving    ")
		url, _, whole := strings.Cut(rest, "\n")
		s.URL = url
		return found && whole
	}, s.Said)
	return s
}

// Said is all that the program has printed.
func (s *Server) Said() string {
	b, _ := os.ReadFile(s.log) // what is missing is reported by who looks for it
	return string(b)
}

// End sends a signal and returns the exit code, -1 after a kill.
func (s *Server) End(t *testing.T, sig syscall.Signal) int {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("%v\n%s", err, s.Said())
	}
	_ = s.cmd.Wait() // the code tells it
	return s.cmd.ProcessState.ExitCode()
}

// Kill ends the program without a warning.
func (s *Server) Kill(t *testing.T) {
	t.Helper()
	if code := s.End(t, syscall.SIGKILL); code != -1 {
		t.Fatalf("the program ended by itself with code %d, it was not killed\n%s", code, s.Said())
	}
}

// Reply is what came back of a request.
type Reply struct {
	Status int
	Header http.Header
	Text   string
	Object map[string]any // if it is a JSON object
}

// Call makes a request of the program; header is name, value, name, value, …
func (s *Server) Call(t *testing.T, method, path, body string, header ...string) Reply {
	t.Helper()
	r, err := Request(t.Context(), method, s.URL+path, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, s.Said())
	}
	return r
}

// Request makes a request, as [Server.Call] does, and may be called anywhere.
func Request(ctx context.Context, method, url, body string, header ...string) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return Reply{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return Reply{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	r := Reply{Status: res.StatusCode, Header: res.Header, Text: string(b)}
	_ = json.Unmarshal(b, &r.Object) // what is none is seen in Text
	return r, err
}

// Await looks until something is true, and ends the test with what is known if it does not come true.
func Await(t *testing.T, what string, is func() bool, known func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s\n%s", patience, what, known())
		}
	}
}
