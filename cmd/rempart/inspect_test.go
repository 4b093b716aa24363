package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"rempart/internal/dnstest"
)

// TestInspectServer checks the commands on the lists of a running server, one of which was fetched, before and after a change that is in force as an overlay.
func TestInspectServer(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	var text atomic.Pointer[string]
	say := func(lines string) { text.Store(&lines) }
	say("fetched.example\npages.dev\n")
	publisher := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, *text.Load()) }))
	t.Cleanup(publisher.Close) // after the program has ended
	dir := t.TempDir()
	list, feeds := filepath.Join(dir, "list.txt"), filepath.Join(dir, "feeds.toml")
	write(t, list, "kept.example")
	write(t, feeds, "[[feed]]", `name = "fetched"`, `url = "`+publisher.URL+`/list?token=secret"`, "[[feed]]", `name = "kept"`, `path = "list.txt"`)
	p := start(t, upstreams(u), "REMPART_FEEDS="+feeds)
	inspect := func(wantCode int, wants []string, args ...string) {
		t.Helper()
		cmd := exec.Command("rempart", args...)
		cmd.Env = append(cmd.Environ(), "REMPART_FEEDS="+feeds, "REMPART_DATA_DIR="+p.DataDir, upstreams(u))
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != wantCode {
			t.Errorf("%q: exit code %d, want %d:\n%s", args, code, wantCode, out)
		}
		for _, want := range wants {
			if !strings.Contains(string(out), want) {
				t.Errorf("%q does not say %q:\n%s", args, want, out)
			}
		}
		if strings.Contains(string(out), "secret") {
			t.Errorf("the output of %q contains the query of the URL:\n%s", args, out)
		}
	}
	inspect(0, []string{"guards: 1 refused by public-suffix", "4 names, version 1"}, "feeds")
	inspect(0, []string{"fetched\n  pages.dev, line 2: refused"}, "held")
	inspect(0, []string{"no differences: 4 names"}, "diff")
	inspect(1, []string{"    fetched:1: fetched.example"}, "check", "--why", "fetched.example")
	write(t, list, "kept.example", "later.example")
	dnstest.Eventually(t, "the list's change is in force", func() bool { return address(ask(t, p, "later.example")) == page })
	inspect(0, []string{"no differences: 5 names"}, "diff")
	before := filepath.Join(dir, "before.snapshot")
	inspect(0, []string{"5 names, version 2"}, "compile", "-o", before)
	inspect(0, []string{"no differences: 5 names"}, "diff", before)
	if code := p.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	write(t, list, "later.example")
	inspect(1, []string{"- kept.example: malicious, with all below (kept)", "0 added, 1 removed, 0 changed"}, "diff")
	inspect(1, []string{"- kept.example: "}, "diff", before)
}
