package handover

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestSupervisorThatDoesNotRead checks that a supervisor that sets NOTIFY_SOCKET and reads nothing delays a process by seconds only.
func TestSupervisorThatDoesNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	silent, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	s := Open(slog.New(slog.DiscardHandler))
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 2000 { // more than the queue of a socket holds
			s.Keep("a", c)
		}
		s.Flush()
		if s.Enabled() {
			t.Error("the supervisor is used although it does not read")
		}
		if err := Notify("READY=1"); err == nil {
			t.Error("a message was sent")
		}
	}()
	select {
	case <-ended:
	case <-time.After(3 * sendPatience):
		t.Fatal("the process waits for the supervisor")
	}
}
