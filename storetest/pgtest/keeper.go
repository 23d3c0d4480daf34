//go:build unix

package pgtest

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// keeperScript outlives the test process in order to clean up after it, whatever ended it. It makes directory $1 and says so (nobody may be
// left to hear it, which changes nothing); it then reads the id of the program that runs there (an empty line: none) until the pipe closes, which the kernel does even for a killed
// process. Then it ends that program and removes the directory. SIGQUIT goes to the program alone, since both postgres and initdb then end
// their children in good order (a child of initdb that gets it too leaves shared memory behind); the wait is for the whole group.
//
// Both loops are bounded: after ten seconds the group is killed, and a directory that can't be removed is reported by the exit code.
const keeperScript = `
trap '' PIPE
mkdir -m 700 -- "$1" 2>&1 || exit 1
echo made
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
	kill -s QUIT "$pid"
	n=0
	while kill -s 0 -- "-$pid" && [ $n -lt 200 ]; do sleep 0.05; n=$((n + 1)); done
	kill -s KILL -- "-$pid"
fi 2>/dev/null
n=0
until rm -rf -- "$1" || [ $n -ge 100 ]; do sleep 0.05; n=$((n + 1)); done 2>/dev/null
[ ! -e "$1" ]
`

// waitScript becomes the program "$@" once a line arrives, and ends when none comes because the process that was to send it is gone.
const waitScript = `read -r line && exec "$@" </dev/null`

// keeper is the handle on one running keeperScript.
type keeper struct {
	dir  string // made and removed by the script, so that it never exists without a keeper
	cmd  *exec.Cmd
	pipe io.WriteCloser // close-on-exec, so that no child of the test process holds it open
}

// startKeeper makes a directory in parent.
func startKeeper(parent string) (*keeper, error) {
	dir := filepath.Join(parent, "pawl-pg-"+strings.ToLower(rand.Text()[:10]))
	cmd := exec.Command("/bin/sh", "-c", keeperScript, "pgtest-keeper", dir)
	cmd.Dir = "/"
	// A session of its own: Ctrl-C and the signals that end the test's process group must not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	answer, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	k := &keeper{dir: dir, cmd: cmd, pipe: pipe}
	if line, err := bufio.NewReader(answer).ReadString('\n'); line != "made\n" {
		_ = k.finish() // says only that the script gave up
		return nil, fmt.Errorf("make the server's directory: %s", cmp.Or(strings.TrimSpace(line), fmt.Sprint(err)))
	}
	return k, nil
}

// start starts cmd in the keeper's care. The caller waits for cmd, then calls forget: once waited for, its process id may be another's.
func (k *keeper) start(cmd *exec.Cmd) error {
	begin, err := startWaiting(cmd)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(k.pipe, cmd.Process.Pid); err != nil {
		return errors.Join(fmt.Errorf("the process that cleans up after this test is gone: %w", err), cmd.Process.Kill(), cmd.Wait())
	}
	_, err = fmt.Fprintln(begin)
	return errors.Join(err, begin.Close())
}

// startWaiting starts cmd as a process that waits for a line on the pipe before it does anything, so that a kill of this process
// before the keeper knows of cmd leaves nothing running.
func startWaiting(cmd *exec.Cmd) (io.WriteCloser, error) {
	cmd.Args = append([]string{"/bin/sh", "-c", waitScript, "pgtest-wait", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return pipe, cmd.Start()
}

func (k *keeper) forget() error {
	_, err := fmt.Fprintln(k.pipe)
	return err
}

// finish has the keeper do its work now and waits for it.
func (k *keeper) finish() error {
	if err := errors.Join(k.pipe.Close(), k.cmd.Wait()); err != nil {
		return fmt.Errorf("stop PostgreSQL and remove %s: %w", k.dir, err)
	}
	return nil
}
