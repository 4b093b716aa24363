package feed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/feed/fetch"
	"rempart/internal/filewatch"
)

// refreshFile brings the copy of a file up to date with it.
func (l *Lists) refreshFile(li *list) {
	now := time.Now()
	err := l.readFile(li, now)
	if l.ctx.Err() != nil {
		return // the program ends: the list did not fail
	}
	l.settle(li, now, err)
}

func (l *Lists) readFile(li *list, now time.Time) error {
	state, same, err := l.sameFile(li, now)
	switch {
	case err != nil:
		return err
	case same && li.copy.File == state && state.known():
		li.copy.Fetched = now
		return nil
	case same:
		li.copy.File, li.copy.Fetched = state, now
		return l.store.saveRecord(li.key, li.copy)
	}
	before := filewatch.StateOf(li.source)
	t, err := l.takeIn(li, li.source, now)
	justEmptied := err == nil && li.copy != nil && isEmptied(li, li.copy, &t.record) && now.Sub(time.Unix(0, before.Modified)) < settled
	switch {
	case filewatch.StateOf(li.source) != before || justEmptied:
		if err == nil && t.unwritten == nil {
			err = l.store.dropCopy(li, &t.record)
		}
		return errors.Join(errChanging, err)
	case err != nil:
		return err
	}
	t.record.File = state
	return l.keep(li, t)
}

// errChanging is the error of a file that somebody writes while it is read: what was read may be a part of it, or nothing.
var errChanging = errors.New("it is being written; it is read again in a moment")

// settled is how old a change that empties a file must be: it may be the first half of writing the file anew.
const settled = time.Second

// sameFile reports whether the copy of a file is of its content, and as the list is configured. state is the file's.
func (l *Lists) sameFile(li *list, now time.Time) (state fileState, same bool, err error) {
	if state, err = fileStateOf(li.source, now); err != nil {
		return state, false, err
	}
	current, err := l.current(li)
	if err != nil || !current {
		return state, false, err
	}
	if state.known() && li.copy.File == state {
		return state, true, nil
	}
	body, err := hashFile(li.source)
	return state, err == nil && body == li.copy.Body, err
}

// fileState tells one content of a file from another without reading it.
type fileState struct {
	Size    int64
	ModTime int64 // Unix nanoseconds; 0 when too fresh to tell a further change by
	Inode   uint64
}

func (s fileState) known() bool { return s.ModTime != 0 }

// fresh is how old a time stamp must be before two changes cannot share it.
const fresh = 2 * time.Second

func fileStateOf(path string, now time.Time) (fileState, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}, err
	}
	switch {
	case !info.Mode().IsRegular():
		return fileState{}, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	case info.Size() > fetch.MaxBody:
		return fileState{}, fmt.Errorf("%s: %w: it has %d MiB, and at most %d MiB are read of a list; split it into several", path, bounded.ErrTooLarge, info.Size()>>20, fetch.MaxBody>>20)
	}
	s := fileState{Size: info.Size(), ModTime: info.ModTime().UnixNano(), Inode: inode(info)}
	if now.Sub(info.ModTime()) < fresh {
		s.ModTime = 0
	}
	return s, nil
}
