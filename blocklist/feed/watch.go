package feed

import (
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// watch watches the folders of files: a file that is renamed over is another one, and a link may be
// switched beside it. Where it cannot, the timer remains.
type watch struct {
	folders []string
	refused []string          // those a warning was logged for
	watcher *fsnotify.Watcher // nil if there is nothing to watch, or no way to
	log     *slog.Logger
}

// newWatch watches nothing before add.
func (l *Lists) newWatch() *watch {
	w := &watch{log: l.log}
	files := l.cfg.Guard.paths()
	for _, li := range l.lists {
		if li.kind != KindURL {
			files = append(files, li.source)
		}
	}
	for _, file := range files {
		if folder := filepath.Dir(file); !slices.Contains(w.folders, folder) {
			w.folders = append(w.folders, folder)
		}
	}
	if len(w.folders) == 0 {
		return w
	}
	var err error
	if w.watcher, err = fsnotify.NewWatcher(); err != nil {
		w.watcher = nil
		w.log.Warn("files cannot be watched; they are looked at now and then", "every", l.cfg.Refresh, "err", err)
	}
	return w
}

// channels are the watcher's, or nil ones that never deliver.
func (w *watch) channels() (<-chan fsnotify.Event, <-chan error) {
	if w.watcher == nil {
		return nil, nil
	}
	return w.watcher.Events, w.watcher.Errors
}

// add watches the folders that are not watched: not yet there, or gone and back. It reports
// whether there was one.
func (w *watch) add() (added bool) {
	if w.watcher == nil {
		return false
	}
	watched := w.watcher.WatchList()
	for _, folder := range w.folders {
		if slices.Contains(watched, folder) {
			continue
		}
		err := w.watcher.Add(folder)
		if err == nil {
			added = true
		} else if !slices.Contains(w.refused, folder) {
			w.refused = append(w.refused, folder)
			w.log.Warn("a folder cannot be watched; its files are looked at now and then", "folder", folder, "err", err)
		}
	}
	return added
}

func (w *watch) close() {
	if w.watcher != nil {
		w.watcher.Close() // ends the watcher's goroutine; nothing is lost by an error
	}
}
