package feed

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"rempart/blocklist"
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
func (p *publisher) amend(c changes, content uint64, now time.Time) (done bool, err error) {
	if p.damaged || p.whole || !c.few {
		return false, nil
	}
	have := p.set.View()
	version, err := p.counter.Next(have.Version())
	if err != nil {
		return false, err
	}
	view, err := have.With(p.info(version, content, now), c.all)
	if err != nil {
		return false, err
	}
	if err := p.writeOverlay(view); err != nil {
		return false, err
	}
	if p.mergeJob != nil && !p.mergeJob.abandoned {
		p.mergeJob.since = append(p.mergeJob.since, c.all...)
	}
	if err := p.putInForce(view, content, now); err != nil {
		return false, err
	}
	if view.Stats().Overlay > p.limits.merge && p.mergeJob == nil {
		return true, p.mergeLater(content)
	}
	return true, nil
}

func (p *publisher) writeOverlay(view *blocklist.View) error {
	return durable.WriteBytes(p.path(overlayFile), view.Overlay())
}

// changes are the differences between the copies from which the set in force was made and the present copies.
type changes struct {
	all            []blocklist.Change // nil if there are many
	few            bool
	added, removed int // listings, except those of lists that are new to the set, or too old for it
}

// changes returns the changes. It reads the copies of the lists that changed, before and after.
func (p *publisher) changes(now time.Time) (c changes, err error) {
	c.few = true
	for _, li := range slices.Concat(p.removed, p.lists) {
		from, to := li.published, li.activeCopy(now)
		if from == to || from != nil && to != nil && from.Identity() == to.Identity() {
			continue
		}
		before, closeBefore, err := p.inputOrNone(li, from)
		if err != nil {
			c.few = false // the copy before is gone: the whole set is compiled again
			continue
		}
		after, closeAfter, err := p.inputOrNone(li, to)
		if err == nil {
			counts := from != nil && to != nil && li.kind != KindAllow && !isEmptied(li.kind, from, to) && !p.copies.isReleasedList(li.name)
			err = blocklist.Diff(before, after, func(change blocklist.Change) bool {
				c.add(change, counts, p.limits.amend)
				return true
			})
			closeAfter()
		}
		closeBefore()
		if errors.Is(err, blocklist.ErrSnapshot) {
			bad := (*badCopy)(nil)
			if err = p.whichCopy(err, now); !errors.As(err, &bad) { // the copy before is damaged, and nothing else needs it
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
func (c changes) check(p *publisher) error {
	if p.copies.isReleasedList(everyList) {
		return nil
	}
	have := p.set.View().Stats().Names
	for _, after := range []int{have - c.removed, have + c.added} {
		if f := guard.MassChange(have, max(0, after), guard.Bounds{}); f.Outcome != guard.Pass {
			return &massChange{"the set as a whole: " + f.Explain(nil), everyList}
		}
	}
	return nil
}

// mergeJob is the merge of an overlay into the next snapshot, in the background.
type mergeJob struct {
	since     []blocklist.Change // changes that came into force after its start
	failed    error
	abandoned bool // its result is out of date
}

// mergeLater writes the view in force as one snapshot, in the background. Run handles the result.
func (p *publisher) mergeLater(content uint64) error {
	view := p.set.View()
	version, err := p.counter.Next(view.Version())
	if err != nil {
		return err
	}
	m := &mergeJob{}
	p.mergeJob = m
	info := p.info(version, content, time.Now())
	p.background.Go(func() {
		m.failed = durable.WriteFile(p.path(mergedFile), func(w io.Writer) error { return view.Compact(p.unlessEnding(w), info) })
		p.merged <- m
	})
	return nil
}

// abandonMerge discards the result of a merge under way. Another merge starts only after it has ended, because both write the same file.
func (p *publisher) abandonMerge() {
	if p.mergeJob != nil {
		p.mergeJob.abandoned, p.mergeJob.since = true, nil
	}
}

// afterMerge puts a merged snapshot in force, under the changes since the merge started.
func (p *publisher) afterMerge(m *mergeJob) {
	err := m.failed
	if !m.abandoned && err == nil {
		err = p.useMerged(m)
	} else {
		err = errors.Join(err, ignoreMissing(os.Remove(p.path(mergedFile))))
	}
	p.mergeJob = nil
	if err != nil {
		p.log.Error("the overlay could not be merged into a new snapshot; it stays in force as it is", "err", err)
	}
}

// useMerged opens the merged snapshot and makes an overlay of the changes since the merge started. Only then the merged snapshot replaces the current one.
func (p *publisher) useMerged(m *mergeJob) error {
	f, err := setfile.Open(p.path(mergedFile))
	if err != nil {
		return err
	}
	view := f.View
	if now, have := time.Now(), p.set.View().Version(); have >= view.Version() {
		version, err := p.counter.Next(have)
		if err != nil {
			return err
		}
		if view, err = view.With(p.info(version, p.content, now), m.since); err != nil {
			return err
		}
		if err := p.writeOverlay(view); err != nil {
			return err
		}
	} else if err := ignoreMissing(os.Remove(p.path(overlayFile))); err != nil {
		return err
	}
	p.keepPrevious()
	if err := durable.Rename(p.path(mergedFile), p.path(snapshotFile)); err != nil {
		return err
	}
	if err := p.set.Replace(view); err != nil {
		return err
	}
	p.useFile(f)
	st := view.Stats()
	p.log.Info("overlay merged", "version", st.Version, "names", st.Names, "overlay", st.Overlay)
	return nil
}
