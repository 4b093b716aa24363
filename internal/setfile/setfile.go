// Package setfile opens the set from files: a snapshot, which is mapped, and an overlay over it. It keeps the previous snapshot, and verifies snapshots that are in
// use. Lists (blocklist/feed) and followers of the journal (internal/journal) store their sets through it.
package setfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"rempart/blocklist"
	"rempart/internal/durable"
)

// File is a mapped snapshot. The mapping is released after the last holder of View, and of views made of it, released them.
type File struct {
	View    *blocklist.View
	mapping *durable.Mapping
}

// Open maps the snapshot at path. It checks header, trailer and tables; Verify checks the rest. Its error wraps blocklist.ErrSnapshot if the content is damaged, and
// fs.ErrNotExist if there is no file.
func Open(path string) (*File, error) {
	m, err := durable.Map(path)
	if err != nil {
		return nil, err
	}
	view, err := blocklist.OpenView(m.Data(), m.Close)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &File{view, m}, nil
}

// OpenVerified maps the snapshot at path and verifies all of it.
func OpenVerified(path string) (*File, error) {
	f, err := Open(path)
	if err == nil {
		err = Verify(f.View)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Verify reads and checks the whole snapshot of a view, which may be in use. Its error wraps blocklist.ErrSnapshot.
func Verify(view *blocklist.View) error {
	err := view.Snapshot().Verify()
	runtime.KeepAlive(view) // its mapping must not be released while it is read
	return err
}

// Under returns the view with the overlay in the file at path, of at most that many bytes, over its snapshot. Its error wraps blocklist.ErrSnapshot if the overlay is damaged or
// belongs to another snapshot, and fs.ErrNotExist if there is no file.
func Under(view *blocklist.View, path string, most int64) (*blocklist.View, error) {
	overlay, err := durable.ReadRegular(path, most)
	if err != nil {
		return nil, err
	}
	return view.Under(overlay)
}

// Evict removes the snapshot's pages from the process's memory. Readers that still use them read them from the file again. It may be called on a nil File.
func (f *File) Evict() {
	if f != nil {
		f.mapping.Evict()
	}
}

// KeepPrevious makes previous a second name of the file at path, which is about to be replaced. It does nothing if there is no file at path.
func KeepPrevious(path, previous string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(previous); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Link(path, previous)
}
