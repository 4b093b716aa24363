package main

import (
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"time"

	"rempart/blocklist/feed"
)

// feedsFileEvery is how often the feeds file is looked at.
const feedsFileEvery = 10 * time.Second

// feedsFile notices that the feeds file is not any more what the server read at its start. Feeds are put in force by a restart only:
// one that does not begin for a mistake in the file would be worse than one that goes on, so that the log tells both beforehand.
type feedsFile struct {
	path  string // "" for none
	log   *slog.Logger
	feeds []feed.Feed // in force
	state fs.FileInfo // when last looked at
}

func newFeedsFile(path string, log *slog.Logger) (*feedsFile, error) {
	f := &feedsFile{path: path, log: log}
	f.changed()
	var err error
	f.feeds, err = readFeeds(path)
	return f, err
}

// changed reports whether there is another file than when it was last asked.
func (f *feedsFile) changed() bool {
	if f.path == "" {
		return false
	}
	before := f.state
	f.state, _ = os.Stat(f.path) // nil: it is gone
	if before == nil || f.state == nil {
		return before != nil || f.state != nil
	}
	return !os.SameFile(before, f.state) || before.Size() != f.state.Size() || !before.ModTime().Equal(f.state.ModTime())
}

// look says in the log what became of the file.
func (f *feedsFile) look() {
	if !f.changed() {
		return
	}
	switch feeds, err := readFeeds(f.path); {
	case err != nil:
		f.log.Error("the feeds file cannot be read as it is now; the feeds read at start stay in force, but a restart would fail", "error", err)
	case reflect.DeepEqual(feeds, f.feeds):
		f.log.Info("the feeds file says what is in force", "file", f.path)
	default:
		f.log.Warn("the feeds file has changed: restart to put it in force", "file", f.path, "feeds", len(feeds), "in_force", len(f.feeds))
	}
}
