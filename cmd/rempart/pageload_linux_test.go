package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// privateMemory returns the private memory of a process in bytes.
func privateMemory(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		t.Skipf("the memory of the process cannot be read: %v", err)
	}
	total := 0
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[0], "Private_") {
			n, _ := strconv.Atoi(f[1])
			total += n << 10
		}
	}
	return total
}

// maxPageMemory bounds the memory that connections to the page can make the server use, in addition to the memory before.
const maxPageMemory = 64 << 20

// TestPageUnderManyConnections opens 10,000 connections to the page, of clients that send half a request, read no answer, or send nothing, and measures the time
// until others get the first byte of the page.
func TestPageUnderManyConnections(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector multiplies memory and time")
	}
	connections, requests := 10_000, 2000
	if testing.Short() {
		connections, requests = 1000, 100
	}
	p := start(t, upstreams(dnstest.NewUpstream(t, nil)))
	before := privateMemory(t, p.PID())
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	dialFrom := func(n int) (net.Conn, error) {
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(2+n/60000), byte(n/250%240), byte(n%250+1))}, Timeout: 10 * time.Second}
		return d.Dial("tcp", p.Page)
	}
	whole := "GET / HTTP/1.1\r\nHost: phishing.test\r\n\r\n"
	refused := 0
	for i := range connections {
		c, err := dialFrom(i % 2500) // four connections of each client
		if err != nil {
			refused++
			continue
		}
		open = append(open, c)
		switch i % 3 {
		case 0:
			_, _ = io.WriteString(c, whole[:len(whole)/2])
		case 1:
			_, _ = io.WriteString(c, strings.Repeat(whole, 20)) // and reads no answer
		}
	}
	var took []time.Duration
	highest, failed := 0, 0
	for i := range requests {
		started := time.Now()
		c, err := dialFrom(60_000 + i)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, strings.Replace(whole, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusForbidden {
			failed++
		}
		took = append(took, time.Since(started))
		c.Close()
		if i%100 == 0 {
			highest = max(highest, privateMemory(t, p.PID())-before)
		}
	}
	slices.Sort(took)
	report := fmt.Sprintf("%d connections (%d refused); first byte for others: median %v, p99 %v, longest %v; %d of %d failed; %d MB of memory in addition",
		connections, refused, took[len(took)/2], took[len(took)*99/100], took[len(took)-1], failed, requests, highest>>20)
	t.Log(report)
	if failed > 0 || highest > maxPageMemory {
		t.Error(report)
	}
}
