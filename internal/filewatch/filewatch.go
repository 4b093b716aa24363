// Package filewatch reports changes of files by polling.
//
// A Watcher follows each path to its final file on every poll, so it detects every way in which a
// path can lead to other content: a file written in place, a file renamed over it, a switched
// link anywhere on the way (current -> v2, Kubernetes' ..data), a file or folder that appears,
// vanishes or is mounted later, a change of permissions. Notification systems such as inotify watch
// one folder at a time and report none of these for links, mounts and network file systems.
//
// A poll costs one stat(2) per path.
package filewatch

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// Interval is a good interval for Run: a change is reported one to two seconds after it was made.
	Interval = time.Second
	// patience is the number of polls that a change waits at most until this and other changes are complete.
	patience = 5
)

// State identifies the content of the file that a path leads to. The zero State means that there is no such file,
// or that it cannot be reached. States are comparable.
type State struct {
	Device, Inode   uint64 // 0 where the system has none
	Size            int64
	Modified        int64 // Unix nanoseconds
	MetadataChanged int64 // the inode's change time, Unix nanoseconds; 0 where the system has none
}

// Watcher holds the state of each watched file. Its methods may be called from any goroutine.
type Watcher struct {
	mu    sync.Mutex
	files map[string]*file
}

// file is one watched path.
type file struct {
	reported State // as last returned to the caller
	last     State // at the last poll
	waited   int   // polls since last differs from reported
}

// New returns a Watcher of the files at paths, which need not exist. Call New before reading the files: changes
// are reported relative to their states during the call.
func New(paths ...string) *Watcher {
	w := &Watcher{files: map[string]*file{}}
	w.Set(paths...)
	return w
}

// Set replaces the watched paths. Paths that were watched before keep their state; the others have the state during
// the call, as in New.
func (w *Watcher) Set(paths ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	files := make(map[string]*file, len(paths))
	for _, path := range paths {
		f := w.files[path]
		if f == nil {
			state := StateOf(path)
			f = &file{reported: state, last: state}
		}
		files[path] = f
	}
	w.files = files
}

// Poll looks at every path once, and returns those that lead to other content than when they were last returned, in
// sorted order. A file that differs from the previous poll is still being written. As long as there is one, Poll returns nothing, so
// that files that change together are returned together, but no file waits for more than five polls.
func (w *Watcher) Poll() (changed []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	writing, late := false, false
	for _, path := range slices.Sorted(maps.Keys(w.files)) {
		f := w.files[path]
		now := StateOf(path)
		settled := now == f.last
		f.last = now
		if now == f.reported {
			f.waited = 0
			continue
		}
		f.waited++
		writing = writing || !settled
		late = late || f.waited >= patience
		changed = append(changed, path)
	}
	if writing && !late {
		return nil
	}
	for _, path := range changed {
		f := w.files[path]
		f.reported, f.waited = f.last, 0
	}
	return changed
}

// Run polls at that interval until ctx ends, and calls changed with the paths that Poll returned, if any. The next poll
// waits until changed returns.
func (w *Watcher) Run(ctx context.Context, interval time.Duration, changed func(paths []string)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if paths := w.Poll(); len(paths) > 0 {
			changed(paths)
		}
	}
}
