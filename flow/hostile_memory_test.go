//go:build linux && !race

package flow_test

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"testing"
)

// mostResident is how much memory a process may have that runs hostile flows: 300 MB, all of the program with its SQLite.
const mostResident = 300_000_000

// largest are the misdeeds that take the most memory, each of another kind.
var largest = []string{
	"a hundred branches that keep what is large", "skipping does not help", "answers kept side by side", "large answers of many items at once",
	"parallel in parallel in map", "small objects kept side by side", "an answer of small objects", "maps in maps",
}

// A process that runs a hostile flow, and then shows it to people, stays small, with the collector as it comes: not only what is in use
// counts here, but all that the system has given. The race detector would take several times as much.
func TestHostileRunsInLittleMemory(t *testing.T) {
	if name := os.Getenv("PAWL_TEST_MISDEED"); name != "" {
		s, one := hostileServer(t), named(t, name)
		runtime.GC() // the others' documents
		s.commits(t, one)
		return
	}
	for _, name := range largest {
		t.Run(name, func(t *testing.T) {
			c := exec.Command(os.Args[0], "-test.run", "^TestHostileRunsInLittleMemory$", "-test.v")
			c.Env = append(os.Environ(), "PAWL_TEST_MISDEED="+name, "PAWL_CRASH=long", "GOGC=", "GOMEMLIMIT=")
			out, err := c.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%.2000s", err, out)
			}
			resident := peak(t, out)
			t.Logf("%d MB", resident/1_000_000)
			if resident > mostResident {
				t.Errorf("it took %d MB", resident/1_000_000)
			}
		})
	}
}

// named finds a misdeed, and lets go of the others.
func named(t *testing.T, name string) misdeed {
	t.Cleanup(func() { // the last thing that the process does
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Error(err)
		}
		_, _ = os.Stdout.Write(status)
	})
	for _, m := range misdeeds() {
		if m.name == name {
			return m
		}
	}
	t.Fatalf("there is no misdeed %q", name)
	return misdeed{}
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
