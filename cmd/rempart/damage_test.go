package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// TestServerWithLostRecordsIsNotReady checks that /readyz of a server that lost the records in its folder is 503 until control can be reached again.
func TestServerWithLostRecordsIsNotReady(t *testing.T) {
	t.Parallel()
	u, data := dnstest.NewUpstream(t, nil), t.TempDir()
	env := []string{"REMPART_DATA_DIR=" + t.TempDir(), "REMPART_PUSH_LISTEN=" + dnstest.FreeAddr(t)}
	control := startControl(t, env...)
	ada := newToken(t, control, "ada", "publisher")
	edgeEnv := []string{
		upstreams(u), "REMPART_DATA_DIR=" + data, "REMPART_CONTROL=" + control.API + "/v1/journal", "REMPART_CONTROL_KEY=" + rootOf(t, control),
		"REMPART_CONTROL_TOKEN=" + newToken(t, control, "paris", "node"),
	}
	edge := start(t, edgeEnv...)
	list := filepath.Join(t.TempDir(), "names.txt")
	write(t, list, "bad.example")
	must(t, control, ada, "push", list, "--id", "one", "--wait")
	edge.Stop(t)
	control.Stop(t)
	tails, err := filepath.Glob(filepath.Join(data, "edge", "tail-*"))
	if err != nil || len(tails) == 0 {
		t.Fatal("no records on disk", err)
	}
	for _, tail := range tails {
		if err := os.Remove(tail); err != nil {
			t.Fatal(err)
		}
	}
	edge = start(t, edgeEnv...)
	if code, body := get(t, edge, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "was in force here before") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	startControl(t, env...)
	dnstest.Eventually(t, "ready again", func() bool {
		code, _ := get(t, edge, "/readyz")
		return code == http.StatusOK
	})
	if got := address(ask(t, edge, "bad.example")); got != page {
		t.Errorf("bad.example: %s", got)
	}
}
