package bench

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// What the commands that measure a whole program share.

// WriteLines writes a file of a name a line, each with suffix behind it.
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

// FreeAddr is an address on loopback that nobody answers on now.
func FreeAddr() (string, error) {
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return probe.LocalAddr().String(), probe.Close()
}

// Environ is this process's environment without Rempart's settings, and with those given.
func Environ(settings ...string) []string {
	environ := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "REMPART_") })
	return append(environ, settings...)
}

// Memory reads a figure of a process's status (VmRSS, VmHWM), in MB; 0 where there is no /proc.
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
