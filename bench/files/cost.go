//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// cost is what one transfer took.
type cost struct {
	Round    int     `json:"round"`
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpu_seconds"`       // of both ends
	RelayCPU float64 `json:"relay_cpu_seconds"` // of what is between them, if anything is
	PeakMiB  float64 `json:"peak_mib"`          // that one end had resident; of a node, over idle
}

// ticks is in how many parts of a second Linux tells programs the time of processes.
const ticks = 100

// cpuOf returns the CPU seconds that a running process has used.
func cpuOf(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return parseStat(string(text))
}

// parseStat reads user and system time, fields 14 and 15 of proc_pid_stat(5). The name in
// field 2 may hold anything, in parentheses.
func parseStat(text string) (float64, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("read CPU time: %q has too few fields", text)
	}
	user, err := strconv.ParseUint(fields[11], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	system, err := strconv.ParseUint(fields[12], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return float64(user+system) / ticks, nil
}

// memoryOf returns a line of /proc/PID/status, such as VmRSS, in MiB.
func memoryOf(pid int, line string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	return parseStatus(string(text), line)
}

func parseStatus(text, line string) (float64, error) {
	_, rest, ok := strings.Cut(text, "\n"+line+":")
	value, _, _ := strings.Cut(rest, "kB")
	kib, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("read memory: no %s", line)
	}
	return float64(kib) / 1024, nil
}

// resetPeak makes VmHWM what is resident now, see proc_pid_clear_refs(5).
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// cpuUsed is what a command that ended used.
func cpuUsed(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}

// peakUsed is the most that a command that ended had resident, in MiB.
func peakUsed(cmd *exec.Cmd) float64 {
	return float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024
}

// load is what /proc/loadavg says of the last minute; -1 if nothing.
func load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	first, _, _ := strings.Cut(string(text), " ")
	n, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return n
}

func machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
