//go:build linux && !race

package flow_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// mostResident is how much memory a process may have that gets hostile flows: 300 MB, all of the program with its SQLite.
const mostResident = 300_000_000

// sent is a misdeed on its way to the process that commits it; or, without an input, a document that is deployed or refused.
type sent struct {
	Name, Doc, In string
	Code, Says    string
	Refused       bool
}

// A process to which all that is hostile is sent, one after the other, refuses it or runs it and shows it to people, and stays small, with the
// collector as it comes: not only what is in use counts here, but all that the system has given. The race detector would take several times as much.
func TestHostileRunsInLittleMemory(t *testing.T) {
	if dir := os.Getenv("PAWL_TEST_MISDEEDS"); dir != "" {
		t.Cleanup(func() { // the last thing that the process does
			status, err := os.ReadFile("/proc/self/status")
			if err != nil {
				t.Error(err)
			}
			_, _ = os.Stdout.Write(status)
		})
		commitAll(t, dir)
		return
	}
	dir := t.TempDir()
	n := sendAll(t, dir)
	c := exec.Command(os.Args[0], "-test.run", "^TestHostileRunsInLittleMemory$", "-test.v")
	c.Env = append(os.Environ(), "PAWL_TEST_MISDEEDS="+dir, "PAWL_CRASH=long", "GOGC=", "GOMEMLIMIT=")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, out)
	}
	resident := peak(t, out)
	t.Logf("%d documents: %d MB", n, resident/1_000_000)
	if resident > mostResident {
		t.Errorf("it took %d MB", resident/1_000_000)
	}
}

// sendAll writes all that is hostile into files, and returns how many there are: the process that reads them has one at a time, as a server would.
func sendAll(t *testing.T, dir string) (n int) {
	put := func(s sent) {
		data, err := json.Marshal(s)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, strconv.Itoa(1000+n)), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	for _, h := range hostileDocuments() {
		put(sent{Name: h.name, Doc: h.doc, Refused: h.refused})
	}
	for _, m := range misdeeds() {
		m = m.ready(t)
		put(sent{m.name, m.doc, m.in, m.code, m.says, false})
	}
	return n
}

// commitAll deploys and runs what was sent.
func commitAll(t *testing.T, dir string) {
	s := hostileServer(t)
	files, err := os.ReadDir(dir) // sorted
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		var m sent
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		if m.In != "" {
			s.commits(t, misdeed{m.Name, m.Doc, m.In, m.Code, m.Says})
			continue
		}
		if _, err := s.Deploy(t.Context(), flow.Deployment{Document: []byte(m.Doc)}); errors.Is(err, pawl.ErrInput) != m.Refused || !m.Refused && err != nil {
			t.Errorf("%s: %.300v", m.Name, err)
		}
	}
}

// peak reads of a process's status how much memory it had at most, in bytes.
func peak(t *testing.T, status []byte) int {
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("no peak is told:\n%.2000s", status)
	}
	kilobytes, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
