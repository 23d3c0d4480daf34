package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// terminal is a pseudo terminal, and what was shown on it.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	shown  lockedBuffer
	ended  chan struct{}
}

func openTerminal(t *testing.T, rows, cols uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	control := func(request uintptr, arg unsafe.Pointer) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(arg)); errno != 0 {
			t.Fatal(errno)
		}
	}
	var number, unlock int32
	control(syscall.TIOCGPTN, unsafe.Pointer(&number))
	control(syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	size := [4]uint16{rows, cols}
	control(syscall.TIOCSWINSZ, unsafe.Pointer(&size))
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave, ended: make(chan struct{})}
	go func() {
		defer close(term.ended)
		_, _ = io.Copy(&term.shown, master) // it ends with an error when the slave is closed
	}()
	t.Cleanup(func() {
		if err := slave.Close(); err != nil { // which ends what is shown
			t.Error(err)
		}
		<-term.ended
		if err := master.Close(); err != nil {
			t.Error(err)
		}
	})
	return term
}

// pawl runs the program on the terminal, after somebody has typed.
func (term *terminal) pawl(env environment, typed string, args ...string) (code int, shown string) {
	term.t.Helper()
	before := len(term.shown.String()) // which ends in the mark of the call before
	if typed != "" {
		if _, err := io.WriteString(term.master, typed); err != nil {
			term.t.Fatal(err)
		}
	}
	code = run(term.t.Context(), append([]string{"pawl"}, args...), env.get, term.slave, term.slave, term.slave)
	const mark = "\x00end\x00"
	io.WriteString(term.slave, mark)
	eventually(term.t, func() bool { return strings.HasSuffix(term.shown.String()[before:], mark) }, &term.shown)
	return code, strings.ReplaceAll(strings.TrimSuffix(term.shown.String()[before:], mark), "\r\n", "\n")
}

func TestTablesFitTheTerminal(t *testing.T) {
	h := serve(t, testWorkflows()...)
	for id, about := range map[string]string{"run_00000000000000000000000001": "生命生命生命生命生命生命生命生命生命生命生命", "short": strings.Repeat("long ", 40)} {
		if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "waits", ID: id, Attributes: map[string]any{"about": about}}, 0); err != nil {
			t.Fatal(err)
		}
		until(t, h.client, id, pawl.Waiting)
	}
	env := environment{"PAWL_SERVER": h.url}
	for _, cols := range []uint16{40, 50, 60, 70, 80, 100, 132} {
		term := openTerminal(t, 24, cols)
		code, shown := term.pawl(env, "", "runs", "list")
		id := "run_00000000000000000000000001"
		if cols < narrow {
			id = id[:idLeft] // which is enough to name it
		}
		if code != 0 || !strings.Contains(shown, id+" ") || !strings.Contains(shown, "STATE") || !strings.Contains(shown, "waiting") {
			t.Fatalf("code %d: %s", code, shown)
		}
		pawlWith(t, env, "", "runs", "show", id, "--json", "id").want(t, 0, "run_00000000000000000000000001")
		for line := range strings.Lines(shown) {
			line = strings.TrimRight(line, "\n")
			if n := text.StringWidthWithoutEscSequences(line); n > int(cols) {
				t.Errorf("on %d columns a line has %d: %q", cols, n, line)
			}
			if strings.HasSuffix(line, " ") {
				t.Errorf("spaces at the end of %q", line)
			}
		}
		if cols < 70 { // ABOUT, and more, are left out
			continue
		}
		if !strings.Contains(shown, "…") || !strings.Contains(shown, "\x1b[33mwaiting\x1b[0m") {
			t.Errorf("nothing is cut, or there is no colour: %q", shown)
		}
	}
	// A column in which there is nothing takes no room from others.
	narrow := openTerminal(t, 24, 60)
	if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "waits", ID: "wide", Input: []byte(`"` + strings.Repeat("long ", 40) + `"`)}, 0); err != nil {
		t.Fatal(err)
	}
	if _, shown := narrow.pawl(env, "", "journal", "wide"); strings.Contains(shown, "ATTEMPT") || strings.Contains(shown, "TOOK") || !strings.Contains(shown, "DATA") {
		t.Errorf("on 60 columns: %s", shown)
	}
	if _, shown := narrow.pawl(env, "", "journal", "wide", "--no-header"); strings.Contains(shown, " - ") {
		t.Errorf("on 60 columns: %s", shown)
	}
	// With -o wide nothing is cut.
	term := openTerminal(t, 24, 70)
	if _, shown := term.pawl(env, "", "runs", "list", "-o", "wide"); strings.Contains(shown, "…") {
		t.Errorf("-o wide cuts: %s", shown)
	}
}

// Of a table that is too wide whole columns go before others are cut to nothing, and ids are shortened as far as
// they stay apart.
func TestNarrowTablesKeepWhatMatters(t *testing.T) {
	for _, c := range []struct {
		widths []int
		n      int
		want   string
	}{
		{[]int{30, 9, 16, 7, 6, 40}, 80, "[30 9 16 7 6]"}, {[]int{30, 9, 16, 7, 6, 40}, 100, "[30 9 16 7 6 22]"}, {[]int{14, 9, 16, 7, 5, 40}, 60, "[14 9 16 7 5]"},
		{[]int{35, 30, 9}, 60, "[35 12 9]"}, {[]int{30, 9}, 38, "[30 6]"}, {[]int{30, 9}, 33, "[30]"}, {[]int{90, 9}, 60, "[90]"}, {[]int{5, 5}, 60, "[5 5]"},
	} {
		if got := fmt.Sprint(fit(slices.Clone(c.widths), c.n)); got != c.want {
			t.Errorf("%v in %d: %s, want %s", c.widths, c.n, got, c.want)
		}
	}
	rows := [][]any{{"run_06H04CYHQS5QZPSAGF6DE54F3M"}, {"run_06H04CYHQS7T0EES2WGMCBGV2W"}, {"x"}, {"run_06H04CYHQS5QZPSAGF6DE54F3M"}}
	shorten(rows)
	if got := fmt.Sprint(rows); got != "[[run_06H04CYHQS5QZ] [run_06H04CYHQS7T0] [x] [run_06H04CYHQS5QZ]]" {
		t.Error(got)
	}
}

func TestColour(t *testing.T) {
	h := serve(t, testWorkflows()...)
	pawlAt(t, h.url, "start", "echo", "--id", "e", "--wait").want(t, 0)
	for _, c := range []struct {
		env  environment
		args string
		tty  bool
		want bool
	}{
		{environment{}, "", true, true},
		{environment{}, "", false, false},
		{environment{"NO_COLOR": "1"}, "", true, false},
		{environment{"TERM": "dumb"}, "", true, false},
		{environment{"CLICOLOR_FORCE": "1"}, "", false, true},
		{environment{"CLICOLOR_FORCE": "0"}, "", false, false},
		{environment{"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, "", false, false},
		{environment{"NO_COLOR": "1"}, "--color=always", false, true},
		{environment{}, "--color=never", true, false},
	} {
		c.env["PAWL_SERVER"] = h.url
		args := append([]string{"runs", "list"}, strings.Fields(c.args)...)
		shown := ""
		if c.tty {
			_, shown = openTerminal(t, 24, 80).pawl(c.env, "", args...)
		} else {
			shown = pawlWith(t, c.env, "", args...).stdout
		}
		if got := strings.Contains(shown, "\x1b["); got != c.want {
			t.Errorf("%v %s, a terminal: %v: colour is %v: %q", c.env, c.args, c.tty, got, shown)
		}
	}
}

func TestATerminalIsAskedAndSeesABar(t *testing.T) {
	h := serve(t, testWorkflows()...)
	for i := range 12 {
		if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "waits", ID: fmt.Sprint("r", i)}, 0); err != nil {
			t.Fatal(err)
		}
		until(t, h.client, fmt.Sprint("r", i), pawl.Waiting)
	}
	env := environment{"PAWL_SERVER": h.url}
	term := openTerminal(t, 24, 80)
	for _, no := range []string{"\n", "no\n"} {
		if code, shown := term.pawl(env, no, "runs", "cancel", "--all"); code != 0 || !strings.Contains(shown, "cancel 12 runs: 12 waiting waits? [y/N]") || !strings.Contains(shown, "nothing was done") {
			t.Errorf("code %d: %s", code, shown)
		}
	}
	if run := until(t, h.client, "r0", pawl.Waiting); run.State != pawl.Waiting {
		t.Error("it was cancelled all the same")
	}
	code, shown := term.pawl(env, "y\n", "runs", "cancel", "--all")
	if code != 0 || !strings.Contains(shown, "12 of 12") || !strings.Contains(shown, "[####") || !strings.Contains(shown, "cancelled 12 of 12 runs\n") {
		t.Errorf("code %d: %q", code, shown)
	}
}

func TestWatchDrawsOverItself(t *testing.T) {
	h := serve(t, testWorkflows()...)
	for i := range 9 {
		pawlAt(t, h.url, "start", "waits", "--id", fmt.Sprint("w", i)).want(t, 0)
	}
	until(t, h.client, "w8", pawl.Waiting)
	env := environment{"PAWL_SERVER": h.url}
	term := openTerminal(t, 6, 80)
	ended := make(chan int, 1)
	go func() {
		code := run(t.Context(), []string{"pawl", "runs", "list", "--watch", "--timeout", "5s"}, env.get, term.slave, term.slave, term.slave)
		ended <- code
	}()
	eventually(t, func() bool { return strings.Contains(term.shown.String(), "… and 6 more") }, &term.shown)
	pawlAt(t, h.url, "signal", "w8", "review").want(t, 0)
	eventually(t, func() bool {
		return strings.Contains(term.shown.String(), "\x1b[5A\x1b[J") && strings.Contains(term.shown.String(), "completed")
	}, &term.shown)
	if code := <-ended; code != 124 {
		t.Errorf("code %d", code)
	}
	// Into a pipe it is printed anew when it has changed, without a terminal's commands.
	if r := pawlAt(t, h.url, "runs", "list", "--watch", "--timeout", "3s").want(t, 124); strings.Count(r.stdout, "w8") != 1 || strings.Contains(r.stdout, "\x1b") {
		t.Errorf("%q", r.stdout)
	}
}

func TestKeysAreNotShownWhenTheyAreTyped(t *testing.T) {
	term := openTerminal(t, 24, 80)
	env := environment{"XDG_CONFIG_HOME": t.TempDir()}
	done := make(chan int, 1)
	go func() {
		done <- run(t.Context(), []string{"pawl", "context", "set", "x", "--server", "https://pawl.example.com", "--api-key-stdin"}, env.get, term.slave, term.slave, term.slave)
	}()
	eventually(t, func() bool { return strings.Contains(term.shown.String(), "key: ") }, &term.shown)
	for end := time.Now().Add(10 * time.Second); echoes(t, term.slave); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the terminal still shows what is typed")
		}
	}
	io.WriteString(term.master, "pawl_1_typed\n")
	if code := <-done; code != 0 || bytes.Contains([]byte(term.shown.String()), []byte("typed")) {
		t.Errorf("code %d: %s", code, &term.shown)
	}
	pawlWith(t, env, "", "context", "show", "x").want(t, 0, "kept here")
}

func TestValuesAreNotShownWhenTheyAreTyped(t *testing.T) {
	t.Chdir(t.TempDir())
	url, _ := dev(t, environment{})
	term := openTerminal(t, 24, 80)
	done := make(chan int, 1)
	go func() {
		done <- run(t.Context(), []string{"pawl", "secrets", "set", "hub"}, environment{"PAWL_SERVER": url}.get, term.slave, term.slave, term.slave)
	}()
	eventually(t, func() bool { return strings.Contains(term.shown.String(), "value of hub: ") }, &term.shown)
	for end := time.Now().Add(10 * time.Second); echoes(t, term.slave); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the terminal still shows what is typed")
		}
	}
	io.WriteString(term.master, "typed-unseen\n")
	if code := <-done; code != 0 || strings.Contains(term.shown.String(), "typed-unseen") {
		t.Errorf("code %d: %s", code, &term.shown)
	}
	pawlAt(t, url, "secrets", "list").want(t, 0, "hub")
}

// echoes reports whether a terminal shows what is typed.
func echoes(t *testing.T, f *os.File) bool {
	var s syscall.Termios
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(&s))); errno != 0 {
		t.Fatal(errno)
	}
	return s.Lflag&syscall.ECHO != 0
}
