package firstrun

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"rempart/internal/durable"
)

// TestModesDoNotDependOnUmask checks that the service can read what setup writes.
func TestModesDoNotDependOnUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := filepath.Join(t.TempDir(), "rempart")
	if out, _, err := attempt(t, options{dir: dir, noStart: true}, t.TempDir()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string]os.FileMode{"": 0o755, "feeds.toml": 0o644, "allow.txt": 0o644, "released.txt": 0o644, "rempart.env": 0o640} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, want the mode %o", name, info.Mode(), want)
		}
	}
}

// TestFileInTheWayOfAllowedNames checks that setup refuses a pipe in place of the file of allowed names, which the server would not read.
func TestFileInTheWayOfAllowedNames(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "allow.txt"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := attempt(t, options{dir: dir, noStart: true}, t.TempDir()); !errors.Is(err, durable.ErrNotRegular) {
		t.Errorf("error %v", err)
	}
}
