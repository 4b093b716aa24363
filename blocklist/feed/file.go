package feed

import (
	"errors"
	"time"

	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/feed/store"
	"rempart/internal/filewatch"
)

// refreshFile brings the copy of a file up to date with it.
func (l *Lists) refreshFile(li *list) {
	now := time.Now()
	err := l.readFile(li, now)
	if l.ctx.Err() != nil {
		return // the program ends: the list did not fail
	}
	l.finishAttempt(li, now, err)
}

func (l *Lists) readFile(li *list, now time.Time) error {
	state, same, err := l.checkFile(li, now)
	switch {
	case err != nil:
		return err
	case same && li.copy.File == state && state.IsReliable():
		li.copy.Fetched = now
		return nil
	case same:
		li.copy.File, li.copy.Fetched = state, now
		return l.store.SaveRecord(li.key, li.copy)
	}
	before := filewatch.StateOf(li.source)
	t, err := l.readList(li, li.source, now)
	justEmptied := err == nil && li.copy != nil && isEmptied(li.kind, li.copy, &t.record) && now.Sub(time.Unix(0, before.Modified)) < settled
	switch {
	case filewatch.StateOf(li.source) != before || justEmptied:
		if err == nil && t.unwritten == nil {
			err = l.store.RemoveCopy(li.key, &t.record, li.copy)
		}
		return errors.Join(errChanging, err)
	case err != nil:
		return err
	}
	t.record.File = state
	return l.saveCopy(li, t)
}

// errChanging is the error of a file that is written while it is read: the content that was read may be a part of it, or empty.
var errChanging = errors.New("it is being written; it is read again in a moment")

// settled is how old a change that empties a file must be: it may be the first half of writing the file anew.
const settled = time.Second

// checkFile returns the state of the list's file, and whether the copy was made of its content with the current settings.
func (l *Lists) checkFile(li *list, now time.Time) (state store.FileState, same bool, err error) {
	if state, err = store.FileStateOf(li.source, now, fetch.MaxBody); err != nil {
		return state, false, err
	}
	current, err := l.isCurrent(li)
	if err != nil || !current {
		return state, false, err
	}
	if state.IsReliable() && li.copy.File == state {
		return state, true, nil
	}
	body, err := hashFile(li.source)
	return state, err == nil && body == li.copy.Body, err
}
