//go:build !unix

package mcp

import "os/exec"

// Where there are no process groups the server's process alone is ended, at once.
func ownGroup(*exec.Cmd)           {}
func terminateGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
func killGroup(cmd *exec.Cmd)      { _ = cmd.Process.Kill() }
