package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rempart/internal/dnstest"
)

// TestGuardedNamesAreNotBlocked checks that names which guards refuse or hold are not blocked, that the greeting and the metrics show their number, and that a
// released name is blocked at once.
func TestGuardedNamesAreNotBlocked(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	dir := t.TempDir()
	list, popular, released := filepath.Join(dir, "list.txt"), filepath.Join(dir, "popular.txt"), filepath.Join(dir, "released.txt")
	write(t, list, "bad.example", "popular.example", "pages.dev")
	write(t, popular, "1,popular.example")
	write(t, released, "# nothing yet")
	p := start(t, upstreams(u), "REMPART_LISTS="+list, "REMPART_POPULAR="+popular, "REMPART_RELEASED="+released)
	for name, want := range map[string]string{"bad.example": page, "popular.example": origin, "pages.dev": origin} {
		if got := address(ask(t, p, name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if want := "  guards     1 listing held, 1 refused: \"rempart held\" shows which, and why\n"; !strings.Contains(p.Stdout(), want) {
		t.Errorf("the greeting does not say %q:\n%s", want, p.Stdout())
	}
	_, metrics := get(t, p, "/metrics")
	for _, want := range []string{
		`rempart_list_held{guard="popular",list="` + list + `",outcome="hold"} 1`,
		`rempart_list_held{guard="public-suffix",list="` + list + `",outcome="refuse"} 1`,
		"rempart_set_overlay_entries 0",
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("/metrics does not have %s", want)
		}
	}
	write(t, released, "popular.example")
	dnstest.Eventually(t, "the released name is blocked", func() bool { return address(ask(t, p, "popular.example")) == page })
	if got := address(ask(t, p, "pages.dev")); got != origin {
		t.Errorf("pages.dev, which a guard refuses: %s", got)
	}
}

// TestRefusedFeedsFileKeepsGuards checks that a feeds file that is refused changes the guards neither of lists nor of pushes: the host of the earlier feed
// stays a name of this service, which nobody may block.
func TestRefusedFeedsFileKeepsGuards(t *testing.T) {
	t.Parallel()
	feeds := filepath.Join(t.TempDir(), "feeds.toml")
	write(t, feeds, "[[feed]]", `name = "names"`, `url = "https://lists.publisher.example/names.txt"`)
	control := startControl(t, "REMPART_FEEDS="+feeds)
	publisher := newToken(t, control, "ada", "publisher")
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "lists.publisher.example")
	refused := func(when string) {
		t.Helper()
		if stdout, _, code := operator(t, control, publisher, "push", list, "--dry-run"); code != 1 || !strings.Contains(stdout, "refused") {
			t.Errorf("%s: exit code %d\n%s", when, code, stdout)
		}
	}
	refused("before")
	write(t, feeds, "")
	logs(t, control, "holds no feed any more")
	control.Signal(t, syscall.SIGHUP)
	logs(t, control, "SIGHUP: keys and files were read again")
	refused("after a feeds file that is refused")
}
