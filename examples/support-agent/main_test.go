package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo/demotest"
	"github.com/pawlrun/pawl/examples/support-agent/support"
	"github.com/pawlrun/pawl/sqlite"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(m.Run())
}

const storeFile = "runs.db" // where demotest keeps it

// call runs the program to its end, with nothing set but what env says.
func call(t *testing.T, program, dir string, env []string, args ...string) (out, said string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, append([]string{"-store", storeFile}, args...)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// refunds are what the store in dir has booked. No process may have it open.
func refunds(t *testing.T, dir string) (out []string) {
	t.Helper()
	store, err := sqlite.Open(filepath.Join(dir, storeFile), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	all, err := support.Refunds(t.Context(), pawl.New(store, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		out = append(out, r.Order+" "+support.Dollars(r.Cents))
	}
	return out
}

// The process is killed at each of its calls of the model. What the customer reads, and what
// is booked, is what it would have been.
func TestAKilledConversationGoesOn(t *testing.T) {
	program := demotest.Program(t)
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprint("call-", n), func(t *testing.T) {
			provider, dir := demotest.Serve(t, support.Scripted(0)), t.TempDir()
			args := []string{"-message", "A refund for order 1003, please"}
			held := provider.Hold(n)
			demotest.Start(t, program, dir, provider, args...).KillAt(t, held)
			for range 2 { // the second time it is only read
				if out := demotest.Start(t, program, dir, provider, args...).Result(t); out != "[scripted: no model was asked] $18.50 was paid back for order 1003.\n" {
					t.Errorf("it printed %q", out)
				}
			}
			if calls := len(provider.Take()); calls != 4 {
				t.Errorf("%d calls, want 4: three, and the one that was cut off", calls)
			}
			if got := fmt.Sprint(refunds(t, dir)); got != "[1003 $18.50]" {
				t.Errorf("booked is %s", got)
			}
		})
	}
}

// The process is killed while it asks for an approval at the terminal; another asks again.
func TestAKilledApprovalIsAskedForAgain(t *testing.T) {
	program, provider := demotest.Program(t), demotest.Serve(t, support.Scripted(0))
	for answer, want := range map[string]string{"y": "$48.00 was paid back for order 1002.", "n": "Nothing was paid back: the call was denied by grace"} {
		dir := t.TempDir()
		args := []string{"-interactive", "-message", "A refund for order 1002, please"}
		p := demotest.Start(t, program, dir, provider, args...)
		p.KillAt(t, p.Says("Your name:"))
		p = demotest.Start(t, program, dir, provider, args...)
		p.Await(t, p.Says("Your name:"))
		p.Type(t, "grace")
		p.Type(t, "perhaps") // is asked again
		p.Type(t, answer)
		if out := p.Result(t); !strings.HasSuffix(out, want+"\n") {
			t.Errorf("%s: it printed %q", answer, out)
		}
		if paid := len(refunds(t, dir)); paid == 1 != (answer == "y") {
			t.Errorf("%s: %d refunds", answer, paid)
		}
	}
}

// Without a key and without a terminal: the script plays, says that it does, and the approval
// comes by a second command.
func TestAnApprovalByCommand(t *testing.T) {
	program, dir := demotest.Program(t), t.TempDir()
	for range 2 {
		_, said, code := call(t, program, dir, nil, "-id", "one", "-message", "Please refund order 1002")
		if code != 3 || !strings.Contains(said, "ada or grace may approve it") || !strings.Contains(said, "--store "+storeFile+" --approve one --by ada") || !strings.Contains(said, "SCRIPT") {
			t.Fatalf("code %d\n%s", code, said)
		}
	}
	for text, args := range map[string][]string{
		`"eve" may not decide approval`: {"-approve", "one", "-by", "eve"},
		"not found":                     {"-approve", "two", "-by", "ada"},
		"-by":                           {"-approve", "one"},
		"neither -message":              {"-approve", "one", "-by", "ada", "-id", "one"},
		"-message is missing":           {},
		"go with -approve":              {"-deny", "-message", "x"},
		"has not answered that yet":     {"-id", "one", "-message", "Something else"},
		"order":                         {"order"},
	} {
		if out, said, code := call(t, program, dir, nil, args...); code == 0 || code == 3 || out != "" || !strings.Contains(said, text) {
			t.Errorf("%q: code %d, %s%s", args, code, out, said)
		}
	}
	if out, said, code := call(t, program, dir, nil, "-approve", "one", "-by", "grace", "-deny", "-reason", "it was read"); code != 0 || !strings.Contains(out, "denied by grace: it was read") {
		t.Errorf("code %d\n%s%s", code, out, said)
	}
	if _, said, code := call(t, program, dir, nil, "-approve", "one", "-by", "ada"); code != 1 || !strings.Contains(said, "waits for no approval; it is completed") {
		t.Errorf("code %d\n%s", code, said)
	}
	// The conversation goes on, and it is known which order it is about.
	if out, said, code := call(t, program, dir, nil, "-id", "one", "-message", "And where is it?"); code != 0 || !strings.Contains(out, "Order 1002, An Atlas of Harbours, is delivered on Monday.") {
		t.Errorf("code %d\n%s%s", code, out, said)
	}
	if out, said, code := call(t, program, dir, nil, "-id", "one"); code != 0 || !strings.Contains(out, "delivered on Monday") {
		t.Errorf("code %d\n%s%s", code, out, said)
	}
	if _, said, code := call(t, program, dir, nil, "-message", "My money back for 1002"); code != 3 {
		t.Errorf("code %d\n%s", code, said)
	}
}

// The process is killed in the middle of an answer. The next one shows the whole of it.
func TestAnAnswerThatWasCutOffIsShownWhole(t *testing.T) {
	program, dir := demotest.Program(t), t.TempDir()
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		say := func(delta, finish string) {
			fmt.Fprintf(w, "data: {\"id\":\"1\",\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":%s}]}\n\n", delta, finish)
			w.(http.Flusher).Flush()
		}
		if calls.Add(1) == 1 {
			_, _ = io.Copy(io.Discard, r.Body) // so that the server sees the caller die
			for more := time.NewTicker(50 * time.Millisecond); ; {
				say("Your order is on ", "null") // and on: it never comes to the point
				select {
				case <-more.C:
				case <-r.Context().Done():
					more.Stop()
					return
				}
			}
		}
		say("It is with a neighbour.", `"stop"`)
		fmt.Fprint(w, "data: [DONE]\n\n")
	}))
	t.Cleanup(server.Close)
	env := []string{"OPENAI_BASE_URL=" + server.URL + "/v1", "OPENAI_API_KEY=no-key-is-needed"}

	first := exec.Command(program, "-store", storeFile, "-message", "Where is it?")
	shown, err := os.Create(filepath.Join(dir, "shown"))
	if err != nil {
		t.Fatal(err)
	}
	defer shown.Close()
	log, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	first.Dir, first.Env, first.Stdout, first.Stderr = dir, env, shown, log
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(shown.Name()); err == nil && strings.Contains(string(b), "Your order is on ") {
			break
		}
		if time.Now().After(deadline) {
			_ = first.Process.Kill()
			said, _ := os.ReadFile(filepath.Join(dir, "said")) // what is missing shows
			t.Logf("%d calls\n%s", calls.Load(), said)
			t.Fatal("no piece is shown before the answer has ended")
		}
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed

	out, said, code := call(t, program, dir, env, "-message", "Where is it?")
	if code != 0 || !strings.HasSuffix(out, "\nIt is with a neighbour.\n") {
		t.Errorf("code %d, it printed %q\n%s", code, out, said)
	}
}
