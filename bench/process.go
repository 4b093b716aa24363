package bench

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Functions that the commands share which measure a whole program.

// WriteLines writes a file with one name per line, each followed by suffix.
func WriteLines(path string, names []string, suffix string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for _, n := range names {
		fmt.Fprintf(w, "%s%s\n", n, suffix)
	}
	return errors.Join(w.Flush(), f.Close())
}

// FreeAddr returns an address on loopback that nobody uses now, over UDP or TCP.
func FreeAddr() (string, error) {
	const tries = 20
	var last error
	for range tries {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addr := packets.LocalAddr().String()
		stream, err := net.Listen("tcp", addr)
		if err != nil { // taken over TCP only: another port
			last = errors.Join(err, packets.Close())
			continue
		}
		return addr, errors.Join(stream.Close(), packets.Close())
	}
	return "", fmt.Errorf("no port is free over both UDP and TCP: %w", last)
}

// Environ returns this process's environment without Rempart's settings and those of Go's runtime, with the given settings.
func Environ(settings ...string) []string {
	others := []string{"REMPART_", "GOGC=", "GOMEMLIMIT=", "GOMAXPROCS=", "GODEBUG="}
	environ := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc(others, func(begin string) bool { return strings.HasPrefix(v, begin) })
	})
	return append(environ, settings...)
}

// Memory reads a number of a process's status (VmRSS, VmHWM), in MB; 0 where there is no /proc.
func Memory(pid int, field string) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == field+":" {
			kb, _ := strconv.Atoi(f[1])
			return kb / 1000
		}
	}
	return 0
}

// CPU returns the time that a process was on a processor, user and system time of all threads: by the scheduler's count of nanoseconds, which lacks threads
// that have ended; or, if the kernel keeps none, by the hundredths of a second in the process's status.
func CPU(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return ticksOf(pid)
	}
	sum := time.Duration(0)
	for _, t := range threads {
		b, err := os.ReadFile(t)
		if errors.Is(err, os.ErrNotExist) {
			continue // ended meanwhile
		}
		first, _, _ := strings.Cut(string(b), " ")
		n, err2 := strconv.ParseInt(first, 10, 64)
		if err := errors.Join(err, err2); err != nil {
			return 0, err
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

func ticksOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may contain anything; the fields are counted after it.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}
