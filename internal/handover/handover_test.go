package handover

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// TestWithoutSystemd checks that a store without systemd holds nothing, passes nothing on, and fails nothing.
func TestWithoutSystemd(t *testing.T) {
	for name, socket := range map[string]string{"no variable": "", "nobody listens": filepath.Join(t.TempDir(), "none")} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", socket)
			var log bytes.Buffer
			s := Open(slog.New(slog.NewTextHandler(&log, nil)))
			if s.Enabled() || len(s.Activated()) > 0 || s.Take("a") != nil || s.Read("a") != nil || s.Release(func(string) bool { return true }) {
				t.Error("the store holds something")
			}
			c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s.Keep("a", c)
			if err := s.Write("b", func(io.Writer) error { t.Error("nobody reads what is written"); return nil }); err != nil {
				t.Error(err)
			}
			s.Discard()
			s.Flush()
			if warned := strings.Contains(log.String(), "a restart will lose queries"); warned != (socket != "") {
				t.Errorf("the log: %s", log.String())
			}
		})
	}
}
