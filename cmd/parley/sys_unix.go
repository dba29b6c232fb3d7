//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// harden keeps what this process writes to its user: no file is made readable
// for others, and a crash leaves no memory on disk.
func harden() {
	syscall.Umask(0o077)
	syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}

// detach lets a program outlive the terminal it was started from.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// alive tells whether a process of ours exists.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
