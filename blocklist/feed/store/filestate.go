package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"rempart/blocklist/feed/bounded"
)

// FileState distinguishes contents of a file without reading it.
type FileState struct {
	Size    int64
	ModTime int64 // Unix nanoseconds; 0 if it is too recent: a further change could have the same
	Inode   uint64
}

// IsReliable reports whether another content would have another state.
func (s FileState) IsReliable() bool { return s.ModTime != 0 }

// fresh is the age from which two changes of a file cannot have the same time stamp.
const fresh = 2 * time.Second

// FileStateOf returns the state of a regular file of limit bytes at most.
func FileStateOf(path string, now time.Time, limit int64) (FileState, error) {
	info, err := os.Stat(path)
	if err != nil {
		return FileState{}, err
	}
	switch {
	case !info.Mode().IsRegular():
		return FileState{}, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	case info.Size() > limit:
		return FileState{}, fmt.Errorf("%s: %w: it has %d MiB, and at most %d MiB are read of a list; split it into several", path, bounded.ErrTooLarge, info.Size()>>20, limit>>20)
	}
	s := FileState{Size: info.Size(), ModTime: info.ModTime().UnixNano(), Inode: inode(info)}
	if now.Sub(info.ModTime()) < fresh {
		s.ModTime = 0
	}
	return s, nil
}
