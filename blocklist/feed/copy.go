package feed

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"time"

	"rempart/blocklist/feed/store"
)

// parserRevision is increased with every change that makes format.Parse return other listings: copies made before are then parsed again.
const parserRevision = 3

// copies reads the lists, decides whether to accept their content, and keeps the last good copy of each in the store. Only the writer uses it,
// except that different lists may be read concurrently.
type copies struct {
	*shared
	postponedBytes atomic.Int64 // bytes of listings that wait to be written as copies
}

// loadCopy loads the copy that an earlier run stored for li.
func (c *copies) loadCopy(li *list) {
	rec, err := c.store.Record(li.key)
	if err == nil {
		li.copy, li.result = rec, OK
		if since := time.Since(rec.Fetched); since >= 0 && li.kind == KindURL {
			li.next = rec.Fetched.Add(jitter(c.interval(li))) // so that restarts do not cause more fetches
		}
		return
	}
	if !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("the record of a list's copy is refused; the list is read again", "list", li.name, "err", err)
	}
	if li.kind == KindURL { // a file is read first
		c.recoverCopy(li)
	}
}

// rebuildCopy replaces a copy that cannot be used by one that is made from the content of the list. If that cannot be used either, the list
// has no copy any more.
func (c *copies) rebuildCopy(li *list, why error) {
	c.log.Error("a list's copy is damaged; it is made again", "list", li.name, "err", why)
	switch {
	case li.kind == KindURL:
		if !c.reparseBody(li) && !c.recoverCopy(li) {
			li.result, li.next = Waiting, time.Time{}
		}
	case c.cfg.ReadOnly:
		li.copy = nil
		c.finishAttempt(li, time.Now(), c.recoverOnError(li, c.readFileInMemory(li)))
	default:
		li.copy = nil
		now := time.Now()
		c.finishAttempt(li, now, c.recoverOnError(li, c.readFile(li, now)))
	}
}

// recoverOnError returns err, the result of reading the file of li. On an error, if li has no copy, it recovers one first.
func (c *copies) recoverOnError(li *list, err error) error {
	if err != nil && li.copy == nil {
		c.recoverCopy(li)
	}
	return err
}

// reparseBody makes the copy of a list with a URL from its stored body, and reports whether it could. A body that is not the one on record, such
// as a truncated body, is refused. Without a record the body is used as it is, with its modification time as the time of the fetch. If the body
// cannot be used, the earlier copy stays, and the URL is fetched without conditions next time.
func (c *copies) reparseBody(li *list) bool {
	known := store.Record{}
	if li.copy != nil {
		known = *li.copy
	}
	path := c.store.Body(li.key)
	if known.Fetched.IsZero() {
		known.Fetched = modTime(path)
	}
	t, err := loadedList{}, c.checkBody(li)
	if err == nil {
		t, err = c.readList(li, path, known.Fetched)
	}
	if err == nil && t.record.Body == known.Body {
		t.record.Validators = known.Validators
	}
	switch {
	case err != nil:
	case c.cfg.ReadOnly:
		li.inMemory, li.copy = &t, &t.record
	default:
		err = c.saveCopy(li, t)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.log.Warn("the stored content of a list cannot be parsed again", "list", li.name, "err", err)
		}
		return false
	}
	li.result = OK
	return true
}
