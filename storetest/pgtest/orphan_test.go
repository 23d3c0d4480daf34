//go:build unix

package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// envOrphan makes this test binary the process that goes away without stopping its server: "exit" does so by itself, "hang" waits
// to be killed, and "untold" waits to be killed after it started a program and before it told the keeper.
const envOrphan = "PGTEST_ORPHAN"

func orphan() {
	if os.Getenv(envOrphan) == "untold" {
		untold()
	}
	server, err := Start(Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.process.Process.Pid, server.keeper.cmd.Process.Pid)
	if os.Getenv(envOrphan) == "hang" {
		select {}
	}
	os.Exit(0)
}

func untold() {
	keeper, err := startKeeper(parentDir(Options{}))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// A program that would leave something, had it begun.
	cmd := exec.Command("/bin/mkdir", keeper.dir+"-left")
	if _, err := startWaiting(cmd); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(cmd.Process.Pid, keeper.cmd.Process.Pid)
	select {}
}

func TestNothingIsLeftWhenTheProcessExits(t *testing.T) {
	t.Parallel()
	dir := openTempDir(t)
	cmd, server, keeper := startOrphan(t, dir, "exit")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, dir, server, keeper)
}

func TestNothingIsLeftWhenTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	dir := openTempDir(t)
	cmd, server, keeper := startOrphan(t, dir, "hang")
	if err := syscall.Kill(server, 0); err != nil || len(entries(t, dir)) != 1 {
		t.Fatalf("no server to leave behind: %v, %v", err, entries(t, dir))
	}
	kill(t, cmd)
	awaitGone(t, dir, server, keeper)
}

func TestNothingIsLeftWhenTheProcessIsKilledBeforeItsKeeperKnows(t *testing.T) {
	t.Parallel()
	dir := openTempDir(t)
	cmd, program, keeper := startOrphan(t, dir, "untold")
	kill(t, cmd)
	awaitGone(t, dir, program, keeper)
}

// The process may be killed between the making of the directory and the keeper's word that it is made.
func TestAKeeperThatNobodyHearsCleansUp(t *testing.T) {
	t.Parallel()
	dir := openTempDir(t)
	unheard, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unheard.Close(), os.Mkdir(filepath.Join(dir, "all"), 0o700)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", keeperScript, "pgtest-keeper", filepath.Join(dir, "all", "server"))
	cmd.Stdout = out
	if err := errors.Join(cmd.Run(), out.Close()); err != nil {
		t.Fatal(err)
	}
	if left := entries(t, filepath.Join(dir, "all")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Whichever moment the kill hits, from the making of the directory to a server that listens, nothing may stay.
func TestNothingIsLeftWhenTheProcessIsKilledWhileStarting(t *testing.T) {
	for _, moment := range []string{"", "data", "data/global/pg_control", "data/base/5", "data/postmaster.opts", ".s.PGSQL.5432"} {
		t.Run("once "+moment+" is there", func(t *testing.T) {
			t.Parallel()
			dir := openTempDir(t)
			cmd := orphanCommand(t, dir, "hang")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			await(t, moment, func() bool {
				found, err := filepath.Glob(filepath.Join(dir, "*", moment))
				return err == nil && len(found) != 0
			})
			kill(t, cmd)
			awaitGone(t, dir)
		})
	}
}

func startOrphan(t *testing.T, dir, how string) (cmd *exec.Cmd, server, keeper int) {
	t.Helper()
	cmd = orphanCommand(t, dir, how)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &server, &keeper); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return cmd, server, keeper
}

func orphanCommand(t *testing.T, dir, how string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), envOrphan+"="+how, "TMPDIR="+dir, EnvDir+"=")
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		t.Fatal(err)
	}
}

// awaitGone waits until dir is empty and none of pids exists any more.
func awaitGone(t *testing.T, dir string, pids ...int) {
	t.Helper()
	await(t, "an empty "+dir, func() bool { return len(entries(t, dir)) == 0 })
	for _, pid := range pids {
		await(t, fmt.Sprintf("the end of process %d", pid), func() bool {
			return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
		})
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}
