//go:build unix

package mcp

import (
	"os/exec"
	"syscall"
)

// ownGroup makes the process the leader of a group, so that what it starts can be ended with
// it, and so that a Ctrl-C meant for this program does not reach it.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func terminateGroup(cmd *exec.Cmd) { signalGroup(cmd, syscall.SIGTERM) }
func killGroup(cmd *exec.Cmd)      { signalGroup(cmd, syscall.SIGKILL) }

// signalGroup has nobody to tell of an error: the usual one is that all have gone.
func signalGroup(cmd *exec.Cmd, sig syscall.Signal) { _ = syscall.Kill(-cmd.Process.Pid, sig) }
