package mcp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl/agent/mcp"
)

func TestAProcessServesItsTools(t *testing.T) {
	s := open(t, command(t, "sdk"))
	tools, err := s.Tools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range tools {
		names = append(names, tool.Name)
	}
	want := "test_ask test_big test_complain test_die test_echo test_environment test_fail test_hang test_input test_media test_pid test_spawn test_step test_stop test_structured"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("tools are %s; want %s", got, want)
	}
	if d := tools[4].Description; d != "Does echo." || !strings.Contains(string(tools[4].Parameters), `"text"`) {
		t.Errorf("echo is described as %q with %s", d, tools[4].Parameters)
	}
	if out := call(t, s, "echo", `{"text":"hé\u0000"}`); out != "hé\x00\nend" {
		t.Errorf("echo gave %q", out)
	}
	if out := call(t, s, "structured", ``); out != "seen\n"+`{"id":9007199254740993,"b":[1]}` {
		t.Errorf("structured gave %q; want its digits, and the structure once", out)
	}
	want = "[image, image/png, 10 bytes, not shown]\n[audio, audio/wav, 11 bytes, not shown]\n[link to a: file:///a, text/plain]\n" +
		"[resource file:///b, text/plain]\ninside\n[resource file:///c, x/y, 12 bytes, not shown]"
	if out := call(t, s, "media", `{}`); out != want {
		t.Errorf("media gave %s", out)
	}
	e := failure(t, s, "fail", `{"text":"a.txt"}`, mcp.Failed)
	if e.Error() != "mcp server test: tool fail: no file a.txt" || !e.Fatal() || e.ErrorCode() != "mcp_failed" {
		t.Errorf("fail gave %q, fatal %v, code %s", e, e.Fatal(), e.ErrorCode())
	}
}

func TestAWrongCallIsFatal(t *testing.T) {
	o := command(t, "sdk")
	o.Allow = []string{"echo", "vanished"}
	s := open(t, o)
	for _, c := range []struct{ tool, args string }{
		{"vanished", `{}`},
		{"fail", `{}`}, // not allowed
		{"echo", `[1]`},
		{"echo", `{"text":`},
	} {
		if e := failure(t, s, c.tool, c.args, mcp.Rejected); !e.Fatal() {
			t.Errorf("%s(%s): %v is tried again", c.tool, c.args, e)
		}
	}
	if e := failure(t, s, "echo", `{"text":7}`, mcp.Failed); !e.Fatal() {
		t.Errorf("wrong type: %v is tried again", e)
	}
	_ = failure(t, s, "echo", `{"text":"`+strings.Repeat("x", 2<<20)+`"}`, mcp.TooLarge)
	if out := call(t, s, "echo", `{"text":"x"}`); out != "x\nend" {
		t.Errorf("after that echo gave %q", out)
	}
}

func TestAProcessInheritsNothing(t *testing.T) {
	t.Setenv("PAWL_TEST_SECRET", "hunter2")
	s := open(t, command(t, "sdk", "LANG=C"))
	defer s.Close()
	if out := call(t, s, "environment", `{}`); out != "LANG=C\nGORACE=atexit_sleep_ms=0\n"+serverMode+"=sdk" {
		t.Errorf("the process has the environment %q", out)
	}
	o := command(t, "")
	o.Command = []string{"/usr/bin/env", serverMode + "=sdk", o.Command[0]}
	o.Env = nil
	s = open(t, o)
	if out := call(t, s, "environment", `{}`); out != serverMode+"=sdk" {
		t.Errorf("without Env the process has the environment %q", out)
	}
}

func TestAProcessKilledDuringACallIsStartedAgain(t *testing.T) {
	s := open(t, command(t, "sdk"))
	file := filepath.Join(t.TempDir(), "died")
	before := call(t, s, "pid", `{}`)
	e := failure(t, s, "die", `{"text":"`+file+`"}`, mcp.Lost)
	if e.Fatal() || !strings.Contains(e.Error(), "signal: killed") {
		t.Errorf("the call failed with %v, fatal %v", e, e.Fatal())
	}
	if out := call(t, s, "die", `{"text":"`+file+`"}`); out != "survived" {
		t.Errorf("the next attempt gave %q", out)
	}
	after := call(t, s, "pid", `{}`)
	if before == after {
		t.Errorf("the process is still %s", after)
	}
}

func TestAHangingCallHoldsUpNoOther(t *testing.T) {
	o := command(t, "sdk")
	o.Timeout = 2 * time.Second
	s := open(t, o)
	file := filepath.Join(t.TempDir(), "hang")
	pid := call(t, s, "pid", `{}`)

	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the run was cancelled")
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Call(ctx, "hang", []byte(`{"text":"`+file+`"}`)); !errors.Is(err, why) {
			t.Errorf("the cancelled call gave %v; want the cause", err)
		}
	})
	notes(t, file, 1)
	for i := range 20 { // beside it
		wg.Go(func() {
			if out := call(t, s, "echo", fmt.Sprintf(`{"text":"%d"}`, i)); out != fmt.Sprintf("%d\nend", i) {
				t.Errorf("call %d gave %q", i, out)
			}
		})
	}
	began := time.Now()
	cancel(why)
	wg.Wait()
	if took := time.Since(began); took > time.Second {
		t.Errorf("a cancelled call took %v to return", took)
	}
	if got := notes(t, file, 2); got[1] != "cancelled" {
		t.Errorf("the server noted %q; want that it heard of the cancellation", got)
	}
	e := failure(t, s, "hang", `{}`, mcp.Timeout)
	if e.Fatal() {
		t.Errorf("%v is not tried again", e)
	}
	if now := call(t, s, "pid", `{}`); now != pid {
		t.Errorf("after a timeout the process is %s; want %s, as it was", now, pid)
	}
}

func TestAProcessThatAnswersNothingIsReplaced(t *testing.T) {
	o := command(t, "sdk")
	o.Timeout = 500 * time.Millisecond
	s := open(t, o)
	pid, err := strconv.Atoi(call(t, s, "pid", `{}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = failure(t, s, "stop", `{}`, mcp.Timeout) // SIGSTOP: it hangs as a whole
	deadline := time.Now().Add(40 * time.Second)
	for alive(pid) {
		if time.Now().After(deadline) {
			t.Fatal("the process that answers nothing is still there")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if now := call(t, s, "pid", `{}`); now == strconv.Itoa(pid) {
		t.Error("the process was not replaced")
	}
}

func TestAProcessThatReadsNothingIsReplaced(t *testing.T) {
	o := command(t, "liar")
	o.Timeout = 40 * time.Second
	s := open(t, o)
	var wg sync.WaitGroup
	wg.Go(func() { _ = failure(t, s, "stuck", `{}`, mcp.Lost) }) // since the process is stopped
	large := `{"text":"` + strings.Repeat("x", 500<<10) + `"}`   // more than a pipe holds
	for range 3 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := s.Call(ctx, "stuck", []byte(large))
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
				t.Errorf("a call that can't be sent ended after %v with %v", took, err)
			}
		})
	}
	wg.Wait()
	if out := call(t, s, "good", `{}`); out != "good" {
		t.Errorf("the next process gave %q", out)
	}
}

func TestCloseLeavesNoProcess(t *testing.T) {
	s := open(t, command(t, "sdk"))
	server, _ := strconv.Atoi(call(t, s, "pid", `{}`))
	child, _ := strconv.Atoi(call(t, s, "spawn", `{}`))
	if server == 0 || child == 0 || !alive(server) || !alive(child) {
		t.Fatalf("processes %d and %d are not there", server, child)
	}
	file := filepath.Join(t.TempDir(), "hang")
	ended := make(chan error)
	go func() {
		_, err := s.Call(context.Background(), "hang", []byte(`{"text":"`+file+`"}`))
		ended <- err
	}()
	notes(t, file, 1)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	var e *mcp.Error
	if err := <-ended; !errors.As(err, &e) || e.Kind != mcp.Closed || e.Fatal() {
		t.Errorf("the call under way gave %v", err)
	}
	if alive(server) {
		t.Errorf("the server's process %d is still there", server)
	}
	for range 200 { // its new parent may take a moment to reap it
		if !alive(child) || zombie(child) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if alive(child) && !zombie(child) {
		t.Errorf("the process %d that the server started is still there", child)
	}
	_ = failure(t, s, "echo", `{}`, mcp.Closed)
	if _, err := s.Tools(t.Context()); !errors.As(err, &e) || e.Kind != mcp.Closed {
		t.Errorf("Tools after Close gave %v", err)
	}
}

func zombie(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(data, []byte(") Z "))
}

func TestAProcessThatDoesNotStart(t *testing.T) {
	var log bytes.Buffer
	o := command(t, "dies")
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	o.Timeout = 20 * time.Second
	s := open(t, o)
	e := failure(t, s, "echo", `{}`, mcp.Unavailable)
	if e.Fatal() || e.Wait <= 0 || !strings.Contains(e.Error(), "exit status 7") || strings.Contains(e.Error(), "licence") {
		t.Errorf("got %v, wait %v; want the exit status, a wait, and nothing of stderr", e, e.Wait)
	}
	began := time.Now()
	_ = failure(t, s, "echo", `{}`, mcp.Unavailable)
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("it was started again after %v, without a back-off", took)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "no licence") {
		t.Errorf("the log is %s; want the stderr", log.String())
	}

	o.Command = []string{"/no/such/program"}
	s = open(t, o)
	if e := failure(t, s, "echo", `{}`, mcp.Unavailable); !strings.Contains(e.Error(), "/no/such/program") {
		t.Errorf("got %v", e)
	}
}

func TestWhoCantWaitForTheBackoffIsToldHowLong(t *testing.T) {
	o := command(t, "dies")
	o.Timeout = 20 * time.Second
	s := open(t, o)
	_ = failure(t, s, "echo", `{}`, mcp.Unavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Call(ctx, "echo", nil)
	var e *mcp.Error
	if !errors.As(err, &e) || e.Kind != mcp.Unavailable || e.Wait <= 0 {
		t.Errorf("got %v; want Unavailable with a wait", err)
	}
}

func TestADeafProcessTimesOut(t *testing.T) {
	o := command(t, "deaf")
	o.Timeout = 300 * time.Millisecond
	s := open(t, o)
	_ = failure(t, s, "echo", `{}`, mcp.Unavailable)
}

func TestStderrIsLoggedWithinLimits(t *testing.T) {
	var log bytes.Buffer
	o := command(t, "sdk")
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, o)
	call(t, s, "complain", `{"n":1000}`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := log.Len(); n < 60<<10 || n > 100<<10 {
		t.Errorf("5 MB of stderr became %d bytes of log; want some 64 KiB", n)
	}
	if !strings.Contains(log.String(), "says too much") {
		t.Error("the log does not say that it was cut")
	}
}

func TestWhatAServerAsksForIsRefused(t *testing.T) {
	s := open(t, command(t, "sdk"))
	for _, what := range []string{"sampling", "roots", "elicitation"} {
		if out := call(t, s, "ask", `{"text":"`+what+`"}`); !strings.HasPrefix(out, "refused: ") {
			t.Errorf("%s: %s", what, out)
		}
	}
}

func TestALyingProcessFailsOnlyTheCallsItLiesTo(t *testing.T) {
	o := command(t, "liar")
	o.Timeout = 20 * time.Second
	s := open(t, o)
	for _, c := range []struct {
		tool string
		kind mcp.Kind
	}{{"huge", mcp.TooLarge}, {"rubbish", mcp.Malformed}, {"wrong", mcp.Malformed}, {"nothing", mcp.Malformed}, {"unknown", mcp.Rejected}} {
		_ = failure(t, s, c.tool, `{}`, c.kind)
		if out := call(t, s, "good", `{}`); out != "good" {
			t.Errorf("after %s good gave %q", c.tool, out)
		}
	}
	for tool, want := range map[string]string{
		"chatty": "", "flood": "dry",
		"odd": "[content of type hologram, not shown]\n[content that can't be read]\na\x00b",
	} {
		if out := call(t, s, tool, `{}`); out != want {
			t.Errorf("%s gave %q; want %q", tool, out, want)
		}
	}
}

func TestALargeResultIsCut(t *testing.T) {
	o := command(t, "sdk")
	o.MaxResult = 1001
	s := open(t, o)
	out := call(t, s, "big", `{"n":5000000}`)
	if want := strings.Repeat("é", 500) + "…\n[cut: the result has 5000000 bytes, of which these are the first 1000]"; out != want {
		t.Errorf("got %d bytes, ending in %q", len(out), out[max(0, len(out)-100):])
	}
}
