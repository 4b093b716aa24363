//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOnlyRegularFilesAreOpened checks that opening a pipe, a folder, an endless device or a link to one of them fails at once, with an error that names the
// cause.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(unix.Mkfifo(path("pipe"), 0o600), os.Mkdir(path("folder"), 0o700), os.Symlink("/dev/zero", path("device")), os.Symlink("pipe", path("link")),
		os.WriteFile(path("file"), []byte("12345"), 0o600), os.Symlink("file", path("good")))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe", "folder", "device", "link"} {
		done := make(chan error, 1)
		go func() {
			_, err := ReadRegular(path(name), 100)
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, ErrNotRegular) || !strings.Contains(err.Error(), path(name)) {
				t.Errorf("opening %s: error %v, want ErrNotRegular with the path", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: opening does not return", name)
		}
	}
	for _, name := range []string{"file", "good"} {
		if data, err := ReadRegular(path(name), 5); err != nil || string(data) != "12345" {
			t.Errorf("ReadRegular(%s) = %q, %v; want 12345", name, data, err)
		}
		if _, err := ReadRegular(path(name), 4); err == nil {
			t.Errorf("%s: more than allowed was read", name)
		}
	}
}
