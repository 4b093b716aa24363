package feed

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch"
	"rempart/internal/setfile"
)

// openSet opens the set of an earlier run: the snapshot, under its overlay if there is one.
func (p *publisher) openSet() (*blocklist.View, error) {
	f, err := setfile.Open(p.path(snapshotFile))
	if err != nil {
		return nil, err
	}
	p.useFile(f)
	return p.underOverlay(f.View), nil
}

// underOverlay returns the view of the snapshot in the data folder under its overlay, or as it is without a valid one: the changes of an overlay that is damaged, or
// belongs to another snapshot, are compiled again.
func (s *shared) underOverlay(view *blocklist.View) *blocklist.View {
	if under, err := setfile.Under(view, s.path(overlayFile), fetch.MaxBody); err == nil {
		return under
	}
	return view
}

// path returns the path of a file in the data folder.
func (s *shared) path(file string) string { return filepath.Join(s.cfg.Dir, file) }

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// useFile records which file the set in force reads, and evicts the pages of the previous one.
func (p *publisher) useFile(f *setfile.File) {
	p.file.Evict()
	p.file = f
}

// keepPrevious keeps the snapshot that is about to be replaced, if it was in force and no damage is known.
func (p *publisher) keepPrevious() {
	if p.set.View().Version() == 0 || p.damaged {
		return
	}
	if err := setfile.KeepPrevious(p.path(snapshotFile), p.path(previousFile)); err != nil {
		p.log.Warn("the previous snapshot could not be kept", "err", err)
	}
}

// restorePrevious puts the previous snapshot in force, and reports whether it could: there must be one, and it must be whole.
func (p *publisher) restorePrevious() bool {
	f, err := setfile.OpenVerified(p.path(previousFile))
	if err != nil {
		return false
	}
	version, err := p.counter.Next(max(f.View.Version(), p.set.View().Version()))
	if err != nil {
		return false
	}
	view, err := f.View.With(blocklist.Info{Version: version, Created: time.Now()}, nil)
	if err != nil || p.set.Replace(view) != nil {
		return false
	}
	p.useFile(f)
	p.content, p.damaged = 0, true
	for _, li := range p.lists {
		li.published = nil
	}
	p.log.Warn("the snapshot before the damaged one is in force", "version", version, "names", view.Stats().Names)
	return true
}

// verifyLater verifies the snapshot of a view in the background. Run handles the result.
func (p *publisher) verifyLater(view *blocklist.View) {
	p.background.Go(func() { p.verified <- setfile.Verify(view) }) // the channel has room for one result, and there is only one
}

// afterVerify handles the result of verifyLater.
func (p *publisher) afterVerify(err error) {
	if err == nil {
		p.file.Evict() // all of its pages were read: those that queries need are mapped again, from the page cache
		return
	}
	p.log.Error("the snapshot in force is damaged; it is compiled again", "err", err)
	p.damaged, p.content, p.retryAt = true, 0, time.Time{}
	p.abandonMerge() // it reads the damaged one
	p.restorePrevious()
}

// versionOnDisk returns the highest version that a snapshot in the data folder has, with its overlay; 0 for none.
func (p *publisher) versionOnDisk() (version uint64) {
	if view, err := p.openSet(); err == nil {
		version = view.Version()
	}
	if f, err := setfile.Open(p.path(previousFile)); err == nil {
		version = max(version, f.View.Version())
	}
	return version
}

// useLastSet puts the snapshot of an earlier run in force, and reports whether there is one. It may run while lists are read.
func (p *publisher) useLastSet() bool {
	view, err := p.openSet()
	return err == nil && p.useLast(view)
}

// useLast puts the view of an earlier run's set in force until another was compiled, and reports whether it could.
func (p *publisher) useLast(view *blocklist.View) bool {
	p.damaged = true // it is unknown from which lists the snapshot was made: the next set is not built upon it
	if view.Version() == 0 || p.set.Replace(view) != nil {
		return false
	}
	p.observe.lastSetInForce(view)
	return true
}

// fallBack publishes the snapshot of an earlier run, or if there is none, a set that is compiled in memory: an outdated set is better than
// none.
func (p *publisher) fallBack() {
	if p.set.View().Version() > 0 {
		return
	}
	if p.useLastSet() {
		return
	}
	if err := p.withGoodCopies(p.compileInMemory); err != nil {
		p.log.Error("no set could be put in force: no name is blocked", "err", err)
	}
}

// Kept opens the set as a server left it, or keeps it, in the data folder: the snapshot, under its overlay if there is one. It does not
// depend on what is configured. Call it after Start, of read-only Lists.
func (l *Lists) Kept() (*blocklist.View, error) { return l.publisher.openSet() }

// OpenSnapshot maps the snapshot at path and verifies it. The mapping is released after the last holder of the view released it.
func OpenSnapshot(path string) (*blocklist.View, error) {
	f, err := setfile.OpenVerified(path)
	if err != nil {
		return nil, err
	}
	return f.View, nil
}
