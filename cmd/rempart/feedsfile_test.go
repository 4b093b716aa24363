package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rempart/internal/dnstest"
)

// TestFeedsFileChanges has the log say that a changed feeds file needs a restart, and whether that would do.
func TestFeedsFileChanges(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	dir := t.TempDir()
	file := filepath.Join(dir, "feeds.toml")
	write(t, filepath.Join(dir, "names.txt"), "bad.example")
	feed := []string{"[[feed]]", `name = "names"`, `path = "names.txt"`}
	write(t, file, feed...)
	p := start(t, upstreams(u), "REMPART_FEEDS="+file)
	if got := address(ask(t, p, "bad.example")); got != page {
		t.Errorf("a name of the feed: %s", got)
	}
	if !strings.Contains(p.Stdout(), "names: 1 entry, ") {
		t.Errorf("the greeting does not call the feed by its name:\n%s", p.Stdout())
	}
	for _, tt := range []struct {
		said  string
		lines []string // nil: it is gone
	}{
		{"restart to put it in force", append(feed, `category = "phishing"`)},
		{"expected '=' after key", []string{"[[feed]]", "nonsense"}},
		{"no such file or directory", nil},
		{"says what is in force", append(feed, "# nothing else")},
	} {
		if tt.lines != nil {
			write(t, file, tt.lines...)
		} else if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		p.Signal(t, syscall.SIGHUP)
		dnstest.Eventually(t, "the log says "+tt.said, func() bool { return strings.Contains(p.Stderr(), tt.said) })
	}
}
