package setup

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"

	"rempart/blocklist/feed"
	"rempart/internal/config"
	"rempart/internal/filewatch"
)

// FeedsFile applies changes of the feeds file to the lists of a running server. A file with a mistake, or without any feed while feeds are in force,
// changes nothing.
type FeedsFile struct {
	config *config.Config
	log    *slog.Logger
	watch  *filewatch.Watcher

	mu    sync.Mutex
	Lists *feed.Lists
	feeds []feed.Feed // in force
	wrong error       // the reason why the file's present content is not in force; nil if it is
}

// errNoFeeds is the error of a feeds file that had feeds and has none any more. The file may be incomplete, because it is being written, or because of a full disk
// or a crash.
var errNoFeeds = errors.New("the file holds no feed any more; to run without feeds, unset REMPART_FEEDS and restart")

// NewFeedsFile returns the feeds file that the configuration names, if any. lists makes the lists that changes of the file are applied to.
func NewFeedsFile(c *config.Config, log *slog.Logger, lists func() (*feed.Lists, error)) (*FeedsFile, error) {
	f := &FeedsFile{config: c, log: log, watch: filewatch.New()}
	if c.Feeds != "" {
		f.watch.Set(c.Feeds) // before the file is read, so that no change is missed
	}
	var err error
	if f.Lists, err = lists(); err != nil {
		return nil, err
	}
	f.feeds, err = ReadFeeds(c.Feeds)
	return f, err
}

// Run reloads the file whenever it changes, until ctx ends.
func (f *FeedsFile) Run(ctx context.Context) error {
	f.watch.Run(ctx, filewatch.Interval, func([]string) { f.Reload() })
	return nil
}

// Reload reads the file and applies it. It logs the result, unless there is no file or its content did not change.
func (f *FeedsFile) Reload() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.config.Feeds == "" {
		return
	}
	f.wrong = f.apply()
	switch {
	case errors.Is(f.wrong, errNoFeeds):
		f.log.Error("the feeds file is refused; the feeds that were read before stay in force until the server is restarted", "file", f.config.Feeds, "error", f.wrong)
	case f.wrong != nil:
		f.log.Error("the feeds file has a mistake; the feeds that were read before stay in force, but a restart would fail", "error", f.wrong)
	}
}

// apply reads the file and puts its feeds in force. The caller holds mu.
func (f *FeedsFile) apply() error {
	feeds, err := ReadFeeds(f.config.Feeds)
	if err != nil {
		return err
	}
	if len(feeds) == 0 && len(f.feeds) > 0 {
		return errNoFeeds
	}
	if err := namedTwice(f.config.Lists, feeds); err != nil {
		return err
	}
	if reflect.DeepEqual(feeds, f.feeds) {
		f.log.Info("the feeds file holds the feeds that are in force", "file", f.config.Feeds)
		return nil
	}
	if err := f.Lists.Reconfigure(feeds, guardConfig(f.config, feeds)); err != nil {
		return err
	}
	f.log.Info("the feeds file has changed and is applied", "file", f.config.Feeds, "feeds", len(feeds), "before", len(f.feeds))
	f.feeds = feeds
	return nil
}

// Problem returns the reason why the file's present content is not in force; "" if it is.
func (f *FeedsFile) Problem() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wrong == nil {
		return ""
	}
	return "the feeds file " + f.config.Feeds + " has changes that are not in force, and a restart would fail: " + f.wrong.Error()
}
