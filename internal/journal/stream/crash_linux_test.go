package stream

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// small puts a file system of so many octets at path.
func small(t *testing.T, path string, size int) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("rempart-test", path, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", path, err)
		}
	})
}

// TestReadOnly opens a folder that cannot be written.
func TestReadOnly(t *testing.T) {
	c := testConfig(t)
	small(t, c.Dir, 16<<20)
	open(t, c).Close()
	if err := unix.Mount("", c.Dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	if s, err := Open(t.Context(), c); err == nil {
		s.Close()
		t.Error("opened a folder that cannot be written")
	} else {
		t.Log(err)
	}
}

// freeze stops a process, which keeps all it has, or lets it go on.
func freeze(t *testing.T, p *os.Process, on bool) {
	t.Helper()
	signal := unix.SIGCONT
	if on {
		signal = unix.SIGSTOP
	}
	if err := p.Signal(signal); err != nil {
		t.Fatal(err)
	}
}
