package feed

import (
	"bytes"
	"errors"
	"runtime/debug"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/store"
)

// postponeLimit is the number of bytes of listings that may wait in memory to be written as copies until the first set is published.
const postponeLimit = 40 << 20

// loadedList is a list after reading: its record, its listings and the rejected ones.
type loadedList struct {
	record     store.Record
	input      *blocklist.Input // the listings, if nothing may be written
	unwritten  *blocklist.Copy  // the listings, if the copy is written after the first set was published
	rejections rejections
}

// readList reads the file at path as the new content of li, decides whether to accept it, and writes it as a copy next to the current one. It
// may run concurrently with the same of other lists.
func (c *copies) readList(li *list, path string, fetched time.Time) (loadedList, error) {
	defer c.cfg.LowMemory()()
	in, stats, err := c.parseList(li, path, fetched)
	if err != nil {
		return loadedList{}, err
	}
	body, err := hashFile(path)
	if err != nil {
		return loadedList{}, err
	}
	settings, err := c.settings(li)
	if err != nil {
		return loadedList{}, err
	}
	t := loadedList{rejections: in.rejections, record: store.Record{
		Source: li.name, Parser: parserRevision, Settings: settings, Form: li.form(), Body: body, Fetched: fetched,
		Refused: stats.Refused.Map(), Held: in.rejections.counts(),
	}}
	candidate := c.candidate(li, &t)
	if len(in.runs.Inputs()) == 0 {
		if err := candidate.checkFirst(in.builder.Len()); err != nil {
			return loadedList{}, err
		}
	}
	cp := blocklist.Copy{
		Info:   blocklist.Info{Created: fetched, Content: body},
		Inputs: append(in.runs.Inputs(), in.builder.Input(in.source)), Exceptions: in.builder.Exceptions(), Seen: fetched,
	}
	if c.mayPostpone(li, in) {
		t.unwritten, t.record.Entries = &cp, in.builder.Len()
		return t, nil
	}
	before, closeBefore := c.contentBefore(li)
	defer closeBefore()
	if err := c.writeAfter(li, &t, cp, before); err != nil {
		return t, err
	}
	candidate.common = func() int { return c.entriesInCommon(li, t, before) }
	if err = candidate.check(); err != nil && !c.cfg.ReadOnly {
		err = errors.Join(err, c.store.RemoveCopy(li.key, &t.record, li.copy))
	}
	return t, err
}

// writeAfter writes a copy whose listings take the time since when they are listed from the copy before, which may be nil. If that copy is
// damaged, the times are lost.
func (c *copies) writeAfter(li *list, t *loadedList, cp blocklist.Copy, before *blocklist.Input) error {
	cp.Before = before
	err := c.writeCopy(li, t, cp)
	if errors.Is(err, blocklist.ErrSnapshot) && before != nil {
		cp.Before = nil
		err = c.writeCopy(li, t, cp)
	}
	if err == nil && t.input != nil {
		t.record.Entries, t.record.Checksum = t.input.Len(), t.input.Checksum()
	}
	return err
}

// writeCopy writes a copy to the store, or to memory if nothing may be written.
func (c *copies) writeCopy(li *list, t *loadedList, cp blocklist.Copy) (err error) {
	if !c.cfg.ReadOnly {
		return c.store.WriteCopy(li.key, &t.record, cp)
	}
	var b bytes.Buffer
	if err := cp.Write(&b); err != nil {
		return err
	}
	t.input, err = blocklist.OpenInput(bytes.NewReader(b.Bytes()), int64(b.Len()))
	return err
}

// mayPostpone reports whether a list's copy may be written after the first set was published, which must not wait for the disk.
func (c *copies) mayPostpone(li *list, in *intake) bool {
	if c.cfg.ReadOnly || c.set.View().Version() > 0 || li.copy != nil || len(in.runs.Inputs()) > 0 || in.builder.Exceptions().Len() > 0 {
		return false
	}
	size := int64(in.builder.Size())
	if c.postponedBytes.Add(size) > postponeLimit {
		c.postponedBytes.Add(-size)
		return false
	}
	return true
}

// savePostponed writes the postponed copies.
func (c *copies) savePostponed() {
	for _, li := range c.lists {
		if li.postponed == nil {
			continue
		}
		t := li.postponed
		li.postponed = nil
		err := c.store.WriteCopy(li.key, &t.record, *t.unwritten)
		if err == nil {
			t.unwritten = nil
			err = c.saveCopy(li, *t)
		}
		if err != nil {
			c.log.Error("a list's copy could not be written; it is read again at the next start", "list", li.name, "err", err)
			continue
		}
		if li.published != nil {
			li.published = li.copy
		}
	}
	if c.postponedBytes.Swap(0) > 0 {
		debug.FreeOSMemory()
	}
}

// saveCopy makes t the last good copy of li. The copy before stays on disk until a set is compiled from the new one.
func (c *copies) saveCopy(li *list, t loadedList) error {
	if t.unwritten != nil {
		li.copy, li.postponed = &t.record, &t
		return nil
	}
	if err := c.store.SaveHeld(li.key, t.rejections.entries); err != nil {
		return err
	}
	if err := c.store.SaveRecord(li.key, &t.record); err != nil {
		return err
	}
	li.copy = &t.record
	if t.record.Entries == 0 && li.kind != KindAllow {
		c.log.Warn("a list lists nothing: no name is blocked because of it", "list", li.name, "refused", sum(t.record.Refused), "held", sum(t.record.Held))
	}
	c.log.Info("list loaded", "list", li.name, "entries", t.record.Entries, "refused", sum(t.record.Refused), "held", sum(t.record.Held))
	if li.kind == KindAllow {
		c.logNotAllowed(li, t)
	}
	if n := t.record.Refused[format.Redirect.String()]; n > t.record.Entries-min(n, format.MaxRedirectExceptions) { // redirects are listed as exceptions, which are entries
		c.log.Warn("most records of a list redirect to other names or addresses; these records are not blocks", "list", li.name,
			"records", n, "to_block_them", `policy = "block" in the file of REMPART_FEEDS`)
	}
	return nil
}

// maxNotAllowed is how many lines of an allow list are logged that are not applied.
const maxNotAllowed = 10

// logNotAllowed logs lines of an allow list that were not understood: names that its owner wants to pass may be blocked.
func (c *copies) logNotAllowed(li *list, t loadedList) {
	for i, e := range t.rejections.entries {
		if i == maxNotAllowed {
			c.log.Warn("more lines of the allow list are not applied", "file", li.name, "lines", sum(t.record.Refused)-i)
			return
		}
		c.log.Warn("a line of the allow list is not applied", "file", li.name, "line", e.Line, "why", e.Why)
	}
}

// contentBefore opens the last good copy; it returns nil if there is none that can be read. The caller calls the function when it is done.
func (c *copies) contentBefore(li *list) (*blocklist.Input, func()) {
	if li.copy == nil {
		return nil, func() {}
	}
	input, closeInput, err := c.store.OpenCopy(li.key, li.copy)
	if err != nil {
		return nil, func() {}
	}
	return input, closeInput
}

// sum returns the sum of the numbers.
func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// entriesInCommon returns the number of entries that the last good copy, opened as before, and a new content share. If they cannot be
// compared, it is the number of entries of the copy.
func (c *copies) entriesInCommon(li *list, t loadedList, before *blocklist.Input) int {
	common := li.copy.Entries
	if before == nil {
		return common
	}
	after := t.input
	if after == nil {
		opened, closeInput, err := c.store.OpenCopy(li.key, &t.record)
		if err != nil {
			return common
		}
		defer closeInput()
		after = opened
	}
	removed := 0
	err := blocklist.Diff(before, after, func(c blocklist.Change) bool {
		if c.Withdraw {
			removed++
		}
		return true
	})
	if err != nil {
		return common
	}
	return common - removed
}
