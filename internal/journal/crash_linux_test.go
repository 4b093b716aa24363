package journal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFullDisk fills the disk of control and edge while changes are pushed, kills both on it, and makes room again.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("rempart-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", 96<<20)); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	control, edge := newLives(t, dir)
	ballast := filepath.Join(dir, "ballast")
	for round := range 5 {
		control.begin()
		edge.begin()
		time.Sleep(time.Second)
		fill(t, ballast)
		time.Sleep(2 * time.Second)
		if round%2 == 0 { // killed on a full disk, otherwise with room again
			control.kill()
			edge.kill()
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if round%2 == 1 {
			kept := control.count()
			for end := time.Now().Add(20 * time.Second); control.count() == kept && time.Now().Before(end); {
				time.Sleep(100 * time.Millisecond)
			}
			control.kill()
			edge.kill()
			if control.count() == kept {
				t.Error("nothing is kept any more, though there is room")
			}
		}
	}
	if !control.full {
		t.Error("control never met a full disk")
	}
	checkLives(t, control, edge)
	t.Logf("a disk filled 5 times: %d changes acknowledged, 0 lost", len(control.kept))
}

// fill writes until nothing goes.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for b := make([]byte, size); ; {
			if _, err := f.Write(b); err != nil {
				break
			}
		}
	}
}
