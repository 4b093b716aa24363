package feed

import (
	"errors"
	"io/fs"
	"time"

	"rempart/blocklist/feed/store"
)

// parserRevision is increased with every change that makes format.Parse return other listings: copies made before are then parsed again.
const parserRevision = 3

// loadCopy loads the copy that an earlier run stored for li.
func (l *Lists) loadCopy(li *list) {
	rec, err := l.store.Record(li.key)
	if err == nil {
		li.copy, li.result = rec, OK
		if since := time.Since(rec.Fetched); since >= 0 && li.kind == KindURL {
			li.next = rec.Fetched.Add(jitter(l.interval(li))) // restarts do not make it be fetched more often
		}
		return
	}
	if !errors.Is(err, fs.ErrNotExist) {
		l.log.Warn("the record of a list's copy is refused; the list is read again", "list", li.name, "err", err)
	}
	if li.kind == KindURL { // a file is read first
		l.recoverCopy(li)
	}
}

// rebuildCopy replaces a copy that cannot be used by one that is made from the content of the list. If that cannot be used either, the list
// has no copy any more.
func (l *Lists) rebuildCopy(li *list, why error) {
	l.log.Error("a list's copy is refused; it is made again", "list", li.name, "err", why)
	switch {
	case li.kind == KindURL:
		if !l.reparseBody(li) && !l.recoverCopy(li) {
			li.result, li.next = Waiting, time.Time{}
		}
	case l.cfg.ReadOnly:
		li.copy = nil
		l.finishAttempt(li, time.Now(), l.recoverOnError(li, l.readFileInMemory(li)))
	default:
		li.copy = nil
		now := time.Now()
		l.finishAttempt(li, now, l.recoverOnError(li, l.readFile(li, now)))
	}
}

// recoverOnError returns err, the result of reading the file of li. On an error, if li has no copy, it recovers one first.
func (l *Lists) recoverOnError(li *list, err error) error {
	if err != nil && li.copy == nil {
		l.recoverCopy(li)
	}
	return err
}

// reparseBody makes the copy of a list with a URL from its stored body, and reports whether it could. A body that is not the one on record, such
// as a truncated body, is refused. Without a record the body is used as it is, with its modification time as the time of the fetch. If the body
// cannot be used, the earlier copy stays, and the URL is fetched without conditions next time.
func (l *Lists) reparseBody(li *list) bool {
	known := store.Record{}
	if li.copy != nil {
		known = *li.copy
	}
	path := l.store.Body(li.key)
	if known.Fetched.IsZero() {
		known.Fetched = modTime(path)
	}
	t, err := loadedList{}, l.checkBody(li)
	if err == nil {
		t, err = l.readList(li, path, known.Fetched)
	}
	if err == nil && t.record.Body == known.Body {
		t.record.Validators = known.Validators
	}
	switch {
	case err != nil:
	case l.cfg.ReadOnly:
		li.inMemory, li.copy = &t, &t.record
	default:
		err = l.saveCopy(li, t)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			l.log.Warn("what was kept of a list cannot be parsed again", "list", li.name, "err", err)
		}
		return false
	}
	li.result = OK
	return true
}
