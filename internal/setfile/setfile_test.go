package setfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"rempart/blocklist"
	"rempart/internal/durable"
)

// listing returns a listing that blocks a name and all names below it.
func listing(t *testing.T, text string) blocklist.Listing {
	t.Helper()
	name, err := blocklist.AppendName(nil, text)
	if err != nil {
		t.Fatal(err)
	}
	return blocklist.Listing{Name: name, Scope: blocklist.Subtree}
}

// write compiles a snapshot with one name and writes it to a file.
func write(t *testing.T, path, text string) {
	t.Helper()
	b := blocklist.NewBuilder()
	if err := b.Add(listing(t, text)); err != nil {
		t.Fatal(err)
	}
	err := durable.WriteFile(path, func(w io.Writer) error {
		return blocklist.Compile(w, blocklist.Info{Version: 1}, b.Input(blocklist.Source{Name: "a"}))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, v *blocklist.View, text string) bool {
	t.Helper()
	return v.Match(listing(t, text).Name, blocklist.AllCategories, 1).Action == blocklist.BlockedBy
}

// TestOverlayAndPreviousSnapshotAreOpened checks that a snapshot can be opened with its overlay, and that the previous snapshot can be opened after a new one
// replaced it.
func TestOverlayAndPreviousSnapshotAreOpened(t *testing.T) {
	dir := t.TempDir()
	path, previous, overlay := filepath.Join(dir, "set"), filepath.Join(dir, "previous"), filepath.Join(dir, "overlay")
	if err := KeepPrevious(path, previous); err != nil {
		t.Errorf("KeepPrevious without a file: error %v, want none", err)
	}
	if _, err := Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open without a file: error %v, want fs.ErrNotExist", err)
	}
	write(t, path, "first.example")
	f, err := OpenVerified(path)
	if err != nil {
		t.Fatal(err)
	}
	view, err := f.View.With(blocklist.Info{Version: 2}, []blocklist.Change{{Source: blocklist.Source{Name: "a"}, Listing: listing(t, "more.example")}})
	if err == nil {
		err = durable.WriteBytes(overlay, view.Overlay())
	}
	if err != nil {
		t.Fatal(err)
	}
	over, err := Under(f.View, overlay, 1<<20)
	if err != nil || !holds(t, over, "more.example") || !holds(t, over, "first.example") {
		t.Errorf("the view with the overlay does not block both names: error %v", err)
	}
	for range 2 {
		if err := KeepPrevious(path, previous); err != nil {
			t.Fatal(err)
		}
	}
	write(t, path, "second.example")
	f.Evict()
	second, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Under(second.View, overlay, 1<<20); !errors.Is(err, blocklist.ErrSnapshot) {
		t.Errorf("the overlay of another snapshot: error %v, want ErrSnapshot", err)
	}
	before, err := OpenVerified(previous)
	if err != nil || !holds(t, before.View, "first.example") || !holds(t, over, "more.example") {
		t.Errorf("the previous snapshot does not block its name, or the view changed: error %v", err)
	}
}

// TestVerifyDetectsDamagedNames checks that Verify and OpenVerified detect a changed byte in the section of names, which Open does not read.
func TestVerifyDetectsDamagedNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "set")
	write(t, path, "name.example")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[128] ^= 1 // in the section of names, which follows the header of 72 bytes at a multiple of 64
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(f.View); !errors.Is(err, blocklist.ErrSnapshot) {
		t.Errorf("Verify: error %v, want ErrSnapshot", err)
	}
	if _, err := OpenVerified(path); !errors.Is(err, blocklist.ErrSnapshot) {
		t.Errorf("OpenVerified: error %v, want ErrSnapshot", err)
	}
}
