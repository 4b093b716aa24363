package handover

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// TestFewerDescriptorsThanNamed checks that descriptors which nobody passed are not taken: they may be those of Go's runtime.
func TestFewerDescriptorsThanNamed(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("LISTEN_FDS", "2000000000")
	t.Setenv("LISTEN_FDNAMES", strings.Repeat("kept a:", 9)+"kept b")
	s := Open(slog.New(slog.DiscardHandler))
	if n := len(s.kept) + len(s.activated); n > 0 {
		t.Errorf("%d descriptors were taken", n)
	}
	s.Discard()
}
