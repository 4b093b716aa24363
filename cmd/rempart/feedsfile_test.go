package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"rempart/internal/dnstest"
)

// TestChangedFeedsFileIsApplied checks that a changed feeds file is applied without a restart, and that a file with a mistake changes nothing.
func TestChangedFeedsFileIsApplied(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector")
	}
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	dir := t.TempDir()
	file := filepath.Join(dir, "feeds.toml")
	write(t, filepath.Join(dir, "names.txt"), "bad.example")
	write(t, filepath.Join(dir, "more.txt"), "worse.example")
	names := []string{"[[feed]]", `name = "names"`, `path = "names.txt"`}
	more := append(names, "", "[[feed]]", `name = "more"`, `path = "more.txt"`)
	moved := append(slices.Clone(names), "", "[[feed]]", `name = "more"`, `path = "missing.txt"`)
	write(t, file, names...)
	p := start(t, upstreams(u), "REMPART_FEEDS="+file)
	blocked := func(name string) bool { return address(ask(t, p, name)) == page }
	if !blocked("bad.example") || blocked("worse.example") {
		t.Error("the feeds at start are not in force")
	}
	if !strings.Contains(p.Stdout(), "names: 1 entry, ") {
		t.Errorf("the greeting does not contain the name of the feed:\n%s", p.Stdout())
	}
	for _, tt := range []struct {
		said  string
		lines []string // nil: the file is removed
		worse bool     // whether worse.example is blocked afterwards
	}{
		{"feeds=2 before=1", more, true},
		{"feeds.toml: line 2, column ", []string{"[[feed]]", "nonsense"}, true},
		{"feeds.toml: line 3: feed ", []string{"[[feed]]", `name = "x"`, `interval = "1s"`}, true},
		{"no such file or directory", nil, true},
		{"holds no feed any more; to run without feeds, unset REMPART_FEEDS", []string{""}, true},
		{"holds the feeds that are in force", append(more, "# nothing else"), true},
		{"feeds=2 before=2", moved, true},
		{"feeds=1 before=2", names, false},
	} {
		if tt.lines != nil {
			write(t, file, tt.lines...)
		} else if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if tt.lines == nil { // only the removal needs a signal: the server detects a change of the file
			p.Signal(t, syscall.SIGHUP)
		}
		dnstest.Eventually(t, "the log says "+tt.said, func() bool { return strings.Contains(p.Stderr(), tt.said) })
		dnstest.Eventually(t, "the feeds are in force, with "+tt.said, func() bool { return blocked("bad.example") && blocked("worse.example") == tt.worse })
	}
}
