package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"
)

// loadVariable makes the test binary a load generator: see TestMain.
const loadVariable = "RELEASE_TEST_LOAD"

const (
	loadRate     = 1000 // queries per second: the default buffer of a socket holds about 500
	loadFor      = 8 * time.Second
	loadPatience = 5 * time.Second // for the last answers
	loadRestarts = 3
)

// loadResult is what a load generator counted.
type loadResult struct{ Sent, Answered int64 }

// TestMain makes the test binary a load generator where testRestarts asks for one: it runs in the network of the booted system.
func TestMain(m *testing.M) {
	if os.Getenv(loadVariable) == "" {
		os.Exit(m.Run())
	}
	result, err := load("127.0.0.1:53")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(result)
}

// load asks for a blocked name over UDP at a constant rate, each query once, and counts the answers.
func load(to string) (r loadResult, err error) {
	c, err := net.Dial("udp", to)
	if err != nil {
		return r, err
	}
	defer c.Close()
	var answered atomic.Int64
	go func() {
		buf := make([]byte, 512)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if n > 12 && buf[3]&0xf == 0 {
				answered.Add(1)
			}
		}
	}()
	for began, n := time.Now(), 0; time.Since(began) < loadFor; n++ {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / loadRate)))
		query := binary.BigEndian.AppendUint16(nil, uint16(n))
		query = append(query, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
		query = append(query, "\x08phishing\x04test\x00\x00\x01\x00\x01"...)
		if _, err := c.Write(query); err == nil {
			r.Sent++
		}
	}
	for end := time.Now().Add(loadPatience); answered.Load() < r.Sent && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	r.Answered = answered.Load()
	return r, nil
}

// testRestarts restarts the service under load, and checks that systemd kept the sockets, so that every query is answered.
func testRestarts(t *testing.T, s *system) {
	t.Helper()
	cmd := exec.Command("nsenter", "--target", fmt.Sprint(s.pid), "--net", os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), loadVariable+"=1"), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range loadRestarts {
		time.Sleep(loadFor / (loadRestarts + 1))
		s.run(t, "systemctl", "restart", "rempart.service")
	}
	var r loadResult
	if err := json.NewDecoder(out).Decode(&r); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	t.Logf("%d restarts by systemd: %d of %d queries were answered", loadRestarts, r.Answered, r.Sent)
	if r.Answered != r.Sent {
		t.Errorf("%d of %d queries were lost in %d restarts", r.Sent-r.Answered, r.Sent, loadRestarts)
	}
}

// testAnycast checks that the unit in deploy/anycast, with its few rights, adds the address of the service while Rempart is ready, and removes it when Rempart stops.
func testAnycast(t *testing.T, s *system) {
	t.Helper()
	const from = "/usr/share/doc/rempart/deploy/anycast/"
	s.run(t, "install", from+"rempart-anycast", "/usr/local/sbin/")
	s.run(t, "install", "-m644", from+"rempart-anycast.service", "/etc/systemd/system/")
	s.run(t, "systemctl", "daemon-reload")
	has, hasNot := []string{"sh", "-c", "ip -o address show dev lo | grep -q 198.51.100.53/32"}, []string{"sh", "-c", "! ip -o address show dev lo | grep -q 198.51.100.53/32"}
	s.run(t, "systemctl", "start", "rempart-anycast.service")
	s.eventually(t, has...)
	s.run(t, "systemctl", "stop", "rempart.service")
	s.eventually(t, hasNot...)
	s.run(t, "systemctl", "start", "rempart.service")
	s.eventually(t, has...)
	s.run(t, "systemctl", "stop", "rempart-anycast.service")
	s.eventually(t, hasNot...)
	s.run(t, "rm", "/usr/local/sbin/rempart-anycast", "/etc/systemd/system/rempart-anycast.service")
	s.run(t, "systemctl", "daemon-reload")
}
