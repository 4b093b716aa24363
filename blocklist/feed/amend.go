package feed

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"

	"rempart/blocklist"
	"rempart/internal/durable"
)

const (
	// maxAmend is how many changes are put over the snapshot rather than compiled into the next: they are in force at
	// once, and take memory.
	maxAmend = 20_000
	// mergeAt is how many entries an overlay may have before it is merged into the next snapshot.
	mergeAt = 50_000
)

// amend brings the set up to date by what changed since, if that is little. It reports whether it did.
func (l *Lists) amend(content uint64, now time.Time) (done bool, err error) {
	if l.damaged {
		return false, nil
	}
	changes, few, err := l.changes(now)
	if err != nil || !few {
		return false, err
	}
	have := l.set.View()
	version, err := l.counter.Next(have.Version())
	if err != nil {
		return false, err
	}
	view, err := have.With(blocklist.Info{Version: version, Created: now, Content: content}, changes)
	if err != nil {
		return false, err
	}
	if err := l.writeOverlay(view); err != nil {
		return false, err
	}
	if l.merging != nil {
		l.merging.since = append(l.merging.since, changes...)
	}
	if err := l.putInForce(view, content, now); err != nil {
		return false, err
	}
	if view.Stats().Overlay > l.limits.merge && l.merging == nil {
		return true, l.mergeLater(content)
	}
	return true, nil
}

func (l *Lists) writeOverlay(view *blocklist.View) error {
	return durable.WriteFile(l.path(overlayFile), func(w io.Writer) error {
		_, err := w.Write(view.Overlay())
		return err
	})
}

// changes are the differences between what the set in force was made of and what the lists hold; few is false if there are too many.
func (l *Lists) changes(now time.Time) (changes []blocklist.Change, few bool, err error) {
	for _, li := range l.lists {
		from, to := li.published, li.inForce(now)
		if from == to || from != nil && to != nil && from.identity() == to.identity() {
			continue
		}
		before, closeBefore, err := l.inputOrNone(li, from)
		if err != nil {
			return nil, false, nil // what it was is gone: all is compiled again
		}
		after, closeAfter, err := l.inputOrNone(li, to)
		if err == nil {
			err = blocklist.Diff(before, after, func(c blocklist.Change) bool {
				c.Listing.Name = bytes.Clone(c.Listing.Name)
				changes = append(changes, c)
				return len(changes) <= l.limits.amend
			})
			closeAfter()
		}
		closeBefore()
		if errors.Is(err, blocklist.ErrSnapshot) {
			err = l.whichCopy(err, now)
		}
		if err != nil || len(changes) > l.limits.amend {
			return nil, false, err
		}
	}
	return changes, true, nil
}

// inputOrNone opens a copy; of none, there is nothing in it.
func (l *Lists) inputOrNone(li *list, rec *record) (*blocklist.Input, func(), error) {
	if rec == nil {
		return blocklist.NewBuilder().Input(blocklist.Source{Name: li.name}), func() {}, nil
	}
	return l.input(li, rec)
}

// merging is an overlay being merged into the next snapshot, beside everything else.
type merging struct {
	content uint64
	since   []blocklist.Change // put in force since it began
	failed  error
}

// mergeLater has the view in force written as one snapshot. Run takes in what comes of it.
func (l *Lists) mergeLater(content uint64) error {
	view := l.set.View()
	version, err := l.counter.Next(view.Version())
	if err != nil {
		return err
	}
	m := &merging{content: content}
	l.merging = m
	info := blocklist.Info{Version: version, Created: time.Now(), Content: content}
	l.background.Go(func() {
		m.failed = durable.WriteFile(l.path(mergedFile), func(w io.Writer) error { return view.Compact(w, info) })
		l.merged <- m
	})
	return nil
}

// abandonMerge forgets a merge under way: what it will write is out of date.
func (l *Lists) abandonMerge() { l.merging = nil }

// afterMerge puts a merged snapshot in force, under what changed while it was written.
func (l *Lists) afterMerge(m *merging) {
	err := m.failed
	if l.merging == m && err == nil {
		err = l.useMerged(m)
	} else {
		err = errors.Join(err, ignoreMissing(os.Remove(l.path(mergedFile))))
	}
	if l.merging == m {
		l.merging = nil
	}
	if err != nil {
		l.log.Error("the overlay could not be merged into a new snapshot; it stays in force as it is", "err", err)
	}
}

func (l *Lists) useMerged(m *merging) error {
	l.keepPrevious()
	if err := durable.Rename(l.path(mergedFile), l.path(snapshotFile)); err != nil {
		return err
	}
	view, mapping, err := l.openSnapshot(snapshotFile)
	if err != nil {
		return err
	}
	now := time.Now()
	if len(m.since) > 0 {
		version, err := l.counter.Next(l.set.View().Version())
		if err != nil {
			return err
		}
		if view, err = view.With(blocklist.Info{Version: version, Created: now, Content: l.content}, m.since); err != nil {
			return err
		}
		if err := l.writeOverlay(view); err != nil {
			return err
		}
	} else if err := ignoreMissing(os.Remove(l.path(overlayFile))); err != nil {
		return err
	}
	if err := l.set.Replace(view); err != nil {
		return err
	}
	l.useMapping(mapping)
	st := view.Stats()
	l.log.Info("overlay merged", "version", st.Version, "names", st.Names, "overlay", st.Overlay)
	return nil
}
