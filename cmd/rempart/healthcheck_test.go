package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// TestHealthcheckAsksServer checks the health of a server that is ready, of one that is not, and of one that has stopped.
func TestHealthcheckAsksServer(t *testing.T) {
	t.Parallel()
	s := serveAtHome(t)
	s.says(t, 0, "healthcheck", "ready\n")
	other := serveAtHome(t, "REMPART_LISTS=http://127.0.0.1:1/list.txt")
	other.says(t, 1, "healthcheck", "not ready: ", "until then its names are not blocked")
	stdout, _, code := operatorEnv(t, []string{"HOME=" + other.home, "REMPART_SOCKET=none", "REMPART_METRICS_LISTEN=" + other.Metrics}, "healthcheck")
	if code != 1 || !strings.HasPrefix(stdout, "not ready: ") || strings.Count(stdout, "not ready") != 1 || strings.Count(stdout, "\n") != 1 {
		t.Errorf("over /readyz: exit code %d, %q", code, stdout)
	}
	s.Stop(t)
	none := []string{"HOME=" + s.home, "REMPART_METRICS_LISTEN=127.0.0.1:1"}
	if stdout, _, code := operatorEnv(t, none, "healthcheck"); code != 1 || !strings.Contains(stdout, "not ready: no server answers") {
		t.Errorf("after the end of the server: exit code %d, %q", code, stdout)
	}
	if stdout, _, code := operatorEnv(t, []string{"HOME=" + s.home, "REMPART_METRICS_LISTEN=none"}, "healthcheck"); code != 1 || !strings.Contains(stdout, "REMPART_METRICS_LISTEN is none") {
		t.Errorf("without a listener: exit code %d, %q", code, stdout)
	}
	if _, stderr, code := operatorEnv(t, []string{"HOME=" + s.home, "REMPART_METRICS_LISTEN=nonsense"}, "healthcheck"); code != 2 || !strings.Contains(stderr, "REMPART_METRICS_LISTEN") {
		t.Errorf("with an invalid setting: exit code %d, %q", code, stderr)
	}
}

// TestHealthcheckAsksControl checks the health of a control, which has no socket.
func TestHealthcheckAsksControl(t *testing.T) {
	t.Parallel()
	control := startControl(t, "REMPART_METRICS_LISTEN=127.0.0.1:0")
	dnstest.Eventually(t, "control is ready", func() bool {
		stdout, _, code := operatorEnv(t, []string{"HOME=" + t.TempDir(), "REMPART_DATA_DIR=" + control.DataDir, "REMPART_METRICS_LISTEN=" + control.Metrics, "http_proxy=http://127.0.0.1:1"}, "healthcheck")
		return code == 0 && stdout == "ready\n"
	})
}

// TestHealthcheckOfSilentServer checks that a server that accepts connections and never answers is not ready after three seconds.
func TestHealthcheckOfSilentServer(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "s") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "rempart.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	stdout, _, code := operatorEnv(t, []string{"HOME=" + dir, "REMPART_SOCKET=" + l.Addr().String()}, "healthcheck")
	if code != 1 || !strings.HasPrefix(stdout, "not ready: ") || time.Since(began) > 20*time.Second {
		t.Errorf("exit code %d after %v, %q", code, time.Since(began), stdout)
	}
}
