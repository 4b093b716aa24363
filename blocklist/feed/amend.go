package feed

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/store"
	"rempart/blocklist/guard"
	"rempart/internal/durable"
	"rempart/internal/setfile"
)

const (
	// maxAmend is the number of changes above which the set is compiled again. Fewer changes become an overlay over the snapshot: they are in force at once, and take memory.
	maxAmend = 20_000
	// mergeAbove is the number of entries of an overlay above which it is merged into the next snapshot.
	mergeAbove = 50_000
)

// amend updates the set by an overlay with the changes, if there are few. It reports whether it did.
func (l *Lists) amend(c changes, content uint64, now time.Time) (done bool, err error) {
	if l.damaged || l.whole || !c.few {
		return false, nil
	}
	have := l.set.View()
	version, err := l.counter.Next(have.Version())
	if err != nil {
		return false, err
	}
	view, err := have.With(l.info(version, content, now), c.all)
	if err != nil {
		return false, err
	}
	if err := l.writeOverlay(view); err != nil {
		return false, err
	}
	if l.mergeJob != nil && !l.mergeJob.abandoned {
		l.mergeJob.since = append(l.mergeJob.since, c.all...)
	}
	if err := l.putInForce(view, content, now); err != nil {
		return false, err
	}
	if view.Stats().Overlay > l.limits.merge && l.mergeJob == nil {
		return true, l.mergeLater(content)
	}
	return true, nil
}

func (l *Lists) writeOverlay(view *blocklist.View) error {
	return durable.WriteBytes(l.path(overlayFile), view.Overlay())
}

// changes are the differences between the copies from which the set in force was made and the present copies.
type changes struct {
	all            []blocklist.Change // nil if there are many
	few            bool
	added, removed int // listings, except those of lists that are new to the set, or too old for it
}

// changes returns the changes. It reads the copies of the lists that changed, before and after.
func (l *Lists) changes(now time.Time) (c changes, err error) {
	c.few = true
	for _, li := range slices.Concat(l.removed, l.lists) {
		from, to := li.published, li.activeCopy(now)
		if from == to || from != nil && to != nil && from.Identity() == to.Identity() {
			continue
		}
		before, closeBefore, err := l.inputOrNone(li, from)
		if err != nil {
			c.few = false // the copy before is gone: the whole set is compiled again
			continue
		}
		after, closeAfter, err := l.inputOrNone(li, to)
		if err == nil {
			counts := from != nil && to != nil && li.kind != KindAllow && !isEmptied(li.kind, from, to) && !l.isReleasedList(li.name)
			err = blocklist.Diff(before, after, func(change blocklist.Change) bool {
				c.add(change, counts, l.limits.amend)
				return true
			})
			closeAfter()
		}
		closeBefore()
		if errors.Is(err, blocklist.ErrSnapshot) {
			bad := (*badCopy)(nil)
			if err = l.whichCopy(err, now); !errors.As(err, &bad) { // the copy before is damaged, and nothing else needs it
				c.few, err = false, nil
			}
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// add adds one change. If counts is set, the guard against mass changes counts it.
func (c *changes) add(change blocklist.Change, counts bool, most int) {
	switch {
	case !counts:
	case change.Withdraw:
		c.removed++
	default:
		c.added++
	}
	if c.few = c.few && len(c.all) < most; !c.few {
		c.all = nil
		return
	}
	change.Listing.Name = bytes.Clone(change.Listing.Name)
	c.all = append(c.all, change)
}

// everyList means the set as a whole in the file of released names.
const everyList = "*"

// check returns an error for changes out of proportion to the set, unless a person released them.
func (c changes) check(l *Lists) error {
	if l.isReleasedList(everyList) {
		return nil
	}
	have := l.set.View().Stats().Names
	for _, after := range []int{have - c.removed, have + c.added} {
		if f := guard.MassChange(have, max(0, after), guard.Bounds{}); f.Outcome != guard.Pass {
			return &massChange{"the set as a whole: " + f.Explain(nil), everyList}
		}
	}
	return nil
}

// inputOrNone opens a copy, or an empty input if rec is nil.
func (l *Lists) inputOrNone(li *list, rec *store.Record) (*blocklist.Input, func(), error) {
	if rec == nil {
		return blocklist.NewBuilder().Input(blocklist.Source{Name: li.name}), func() {}, nil
	}
	return l.input(li, rec)
}

// mergeJob is the merge of an overlay into the next snapshot, in the background.
type mergeJob struct {
	since     []blocklist.Change // changes that came into force after its start
	failed    error
	abandoned bool // its result is out of date
}

// mergeLater writes the view in force as one snapshot, in the background. Run handles the result.
func (l *Lists) mergeLater(content uint64) error {
	view := l.set.View()
	version, err := l.counter.Next(view.Version())
	if err != nil {
		return err
	}
	m := &mergeJob{}
	l.mergeJob = m
	info := l.info(version, content, time.Now())
	l.background.Go(func() {
		m.failed = durable.WriteFile(l.path(mergedFile), func(w io.Writer) error { return view.Compact(l.unlessEnding(w), info) })
		l.merged <- m
	})
	return nil
}

// abandonMerge discards the result of a merge under way. Another merge starts only after it has ended, because both write the same file.
func (l *Lists) abandonMerge() {
	if l.mergeJob != nil {
		l.mergeJob.abandoned, l.mergeJob.since = true, nil
	}
}

// afterMerge puts a merged snapshot in force, under the changes since the merge started.
func (l *Lists) afterMerge(m *mergeJob) {
	err := m.failed
	if !m.abandoned && err == nil {
		err = l.useMerged(m)
	} else {
		err = errors.Join(err, ignoreMissing(os.Remove(l.path(mergedFile))))
	}
	l.mergeJob = nil
	if err != nil {
		l.log.Error("the overlay could not be merged into a new snapshot; it stays in force as it is", "err", err)
	}
}

// useMerged opens the merged snapshot and makes an overlay of the changes since the merge started. Only then the merged snapshot replaces the current one.
func (l *Lists) useMerged(m *mergeJob) error {
	f, err := setfile.Open(l.path(mergedFile))
	if err != nil {
		return err
	}
	view := f.View
	if now, have := time.Now(), l.set.View().Version(); have >= view.Version() {
		version, err := l.counter.Next(have)
		if err != nil {
			return err
		}
		if view, err = view.With(l.info(version, l.content, now), m.since); err != nil {
			return err
		}
		if err := l.writeOverlay(view); err != nil {
			return err
		}
	} else if err := ignoreMissing(os.Remove(l.path(overlayFile))); err != nil {
		return err
	}
	l.keepPrevious()
	if err := durable.Rename(l.path(mergedFile), l.path(snapshotFile)); err != nil {
		return err
	}
	if err := l.set.Replace(view); err != nil {
		return err
	}
	l.useFile(f)
	st := view.Stats()
	l.log.Info("overlay merged", "version", st.Version, "names", st.Names, "overlay", st.Overlay)
	return nil
}
