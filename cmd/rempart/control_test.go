package main

import (
	"os"
	"path/filepath"
	"testing"

	"rempart/internal/dnstest"
)

// TestPublishedEntriesStayWithoutList checks that the entries of a published list stay in force after a restart of control without the list and without its
// copy.
func TestPublishedEntriesStayWithoutList(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	dir := t.TempDir()
	list, other := filepath.Join(dir, "list.txt"), filepath.Join(dir, "other.txt")
	write(t, list, "bad.example")
	write(t, other, "worse.example")
	env := []string{upstreams(u), "REMPART_DATA_DIR=" + filepath.Join(dir, "data"), "REMPART_PUSH_LISTEN=127.0.0.1:0", "REMPART_LISTS=" + list + "," + other}
	p := start(t, env...)
	for _, name := range []string{"bad.example", "worse.example"} {
		dnstest.Eventually(t, name+" blocked", func() bool { return address(ask(t, p, name)) == page })
	}
	p.Stop(t)
	for _, gone := range []string{list, filepath.Join(dir, "data", "lists")} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
	}
	write(t, other, "third.example")
	p = start(t, env...)
	dnstest.Eventually(t, "third.example blocked", func() bool { return address(ask(t, p, "third.example")) == page })
	for name, want := range map[string]string{"bad.example": page, "worse.example": origin} {
		if got := address(ask(t, p, name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
