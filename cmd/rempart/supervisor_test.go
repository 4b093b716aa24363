package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// TestSocketActivation checks that the program answers on sockets that it receives as from systemd (sd_listen_fds(3)): they are the descriptors from 3 on, and
// LISTEN_PID holds the process ID. A shell sets LISTEN_PID and then executes the program.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	packet, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer packet.Close()
	stream, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	cmd := exec.Command("sh", "-c", "export LISTEN_PID=$$; exec rempart")
	for _, socket := range []interface{ File() (*os.File, error) }{packet, stream} {
		f, err := socket.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	// The program must not bind the configured address, which would fail.
	dnstest.StartProgram(t, cmd, upstreams(u), "LISTEN_FDS=2", "REMPART_LISTEN=192.0.2.1:53")
	for network, addr := range map[string]net.Addr{"udp": packet.LocalAddr(), "tcp": stream.Addr()} {
		for name, want := range map[string]string{"good.example": origin, "phishing.test": page} {
			if got := address(dnstest.Exchange(t, network, addr.String(), question(name))); got != want {
				t.Errorf("%s over %s: %s, want %s", name, network, got, want)
			}
		}
	}
}

// TestSupervisorIsNotified checks the messages to the supervisor when the server is ready, and when it stops (sd_notify(3)).
func TestSupervisorIsNotified(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// next returns the next message that is not about descriptors: see handover_linux_test.go. It is "" if none arrives in time.
	next := func(patience time.Duration) string {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		for buf := make([]byte, 256); ; {
			n, err := c.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return ""
			}
			if err != nil {
				t.Fatalf("the supervisor received no message: %v", err)
			}
			if message := string(buf[:n]); !strings.HasPrefix(message, "FDSTORE") && message != "BARRIER=1" {
				return message
			}
		}
	}
	p := start(t, upstreams(u), "NOTIFY_SOCKET="+path)
	if got := next(time.Minute); got != "READY=1" {
		t.Errorf("the first message is %q, want READY=1", got)
	}
	if got := address(ask(t, p, "good.example")); got != origin {
		t.Errorf("a query after READY=1: %s", got)
	}
	p.Stop(t)
	if got := next(time.Minute); got != "STOPPING=1" {
		t.Errorf("the second message is %q, want STOPPING=1", got)
	}
	if got := next(10 * time.Millisecond); got != "" {
		t.Errorf("another message: %q", got)
	}
}
