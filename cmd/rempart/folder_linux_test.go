package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rempart/internal/dnstest"
)

// readOnly makes a folder read-only, like a file system after an error.
func readOnly(t *testing.T, dir string) {
	t.Helper()
	err := unix.Mount(dir, dir, "", unix.MS_BIND, "")
	if err == nil {
		err = unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	if err != nil {
		t.Skipf("no folder can be made read-only here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // the test may have unmounted it
}

func writableAgain(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}

// TestServerStartsWithReadOnlyFolder checks that a server whose data folder cannot be written starts with the set on disk in force.
func TestServerStartsWithReadOnlyFolder(t *testing.T) {
	if !dnstest.Isolated(t) {
		return
	}
	u, data, list := dnstest.NewUpstream(t, nil), t.TempDir(), filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "bad.example")
	env := []string{upstreams(u), "REMPART_DATA_DIR=" + data, "REMPART_LISTS=" + list}
	start(t, env...).Stop(t)
	readOnly(t, data)
	p := start(t, env...)
	for name, want := range map[string]string{"bad.example": page, "good.example": origin} {
		if got := address(ask(t, p, name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	logs(t, p, "data folder cannot be written")
	if n := strings.Count(p.Stderr(), "data folder cannot be written"); n != 1 {
		t.Errorf("the read-only folder was logged %d times, want once:\n%s", n, p.Stderr())
	}
	if _, body := get(t, p, "/metrics"); !strings.Contains(body, "\nrempart_data_folder_writable 0\n") {
		t.Error("rempart_data_folder_writable is not 0")
	}
	if code, body := get(t, p, "/readyz"); code != 200 {
		t.Errorf("/readyz: %d %s", code, body)
	}
	p.Stop(t)

	write(t, list, "bad.example", "new.example") // the copy on disk is now older than the list
	p = start(t, env...)
	if got := address(ask(t, p, "bad.example")); got != page {
		t.Errorf("bad.example with an older set on disk: %s", got)
	}
	p.Stop(t)
	writableAgain(t, data)
	p = start(t, env...)
	if got := address(ask(t, p, "new.example")); got != page {
		t.Errorf("new.example after the folder can be written again: %s", got)
	}
}

// TestEdgeAppliesPushesWithReadOnlyFolder checks that a server that follows a control starts with the set on disk and applies pushes while its data folder
// cannot be written.
func TestEdgeAppliesPushesWithReadOnlyFolder(t *testing.T) {
	if !dnstest.Isolated(t) {
		return
	}
	u, data := dnstest.NewUpstream(t, nil), t.TempDir()
	control := startControl(t)
	ada, names := newToken(t, control, "ada", "publisher"), filepath.Join(t.TempDir(), "names.txt")
	env := []string{
		upstreams(u), "REMPART_DATA_DIR=" + data, "REMPART_CONTROL=" + control.API + "/v1/journal", "REMPART_CONTROL_KEY=" + rootOf(t, control),
		"REMPART_CONTROL_TOKEN=" + newToken(t, control, "paris", "node"),
	}
	p := start(t, env...)
	write(t, names, "bad.example")
	must(t, control, ada, "push", names, "--wait")
	p.Stop(t)
	readOnly(t, data)
	p = start(t, env...)
	if got := address(ask(t, p, "bad.example")); got != page {
		t.Errorf("bad.example from disk: %s", got)
	}
	write(t, names, "new.example")
	must(t, control, ada, "push", names, "--wait")
	if got := address(ask(t, p, "new.example")); got != page {
		t.Errorf("new.example, which is in force without being on disk: %s", got)
	}
	if _, body := get(t, p, "/metrics"); !strings.Contains(body, "\nrempart_journal_unwritten 1\n") {
		t.Error("rempart_journal_unwritten is not 1")
	}
}

// TestServerWithDamagedFolderBlocks checks that a server with a damaged data folder blocks the names in its undamaged files.
func TestServerWithDamagedFolderBlocks(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	for name, spoil := range map[string]func(data string) error{
		"empty version": func(data string) error { return os.WriteFile(filepath.Join(data, "version"), nil, 0o600) },
		"torn version": func(data string) error {
			return os.WriteFile(filepath.Join(data, "version"), []byte("1\x00\x00"), 0o600)
		},
		"no version": func(data string) error { return os.Remove(filepath.Join(data, "version")) },
		"version is a folder": func(data string) error {
			path := filepath.Join(data, "version")
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, list := t.TempDir(), filepath.Join(t.TempDir(), "list.txt")
			write(t, list, "bad.example")
			env := []string{upstreams(u), "REMPART_DATA_DIR=" + data, "REMPART_LISTS=" + list}
			p := start(t, env...)
			before := setVersion(t, p)
			p.Stop(t)
			if err := spoil(data); err != nil {
				t.Fatal(err)
			}
			write(t, list, "bad.example", "new.example")
			p = start(t, env...)
			for _, bad := range []string{"bad.example", "new.example"} {
				if got := address(ask(t, p, bad)); got != page && (bad == "bad.example" || name != "version is a folder") {
					t.Errorf("%s: %s, want the page's address", bad, got)
				}
			}
			if after := setVersion(t, p); after < before {
				t.Errorf("version %v after %v", after, before)
			}
		})
	}
}

// setVersion returns the version of the set in force.
func setVersion(t *testing.T, p *dnstest.Program) (version float64) {
	t.Helper()
	_, body := get(t, p, "/metrics")
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, "rempart_set_version "); ok {
			version, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatal(err)
			}
			return version
		}
	}
	t.Fatal("no metric contains the version")
	return 0
}
