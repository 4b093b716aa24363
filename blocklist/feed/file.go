package feed

import (
	"errors"
	"time"

	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/feed/store"
	"rempart/internal/filewatch"
)

// refreshFile updates the copy of a list in a file.
func (c *copies) refreshFile(li *list) {
	now := time.Now()
	err := c.readFile(li, now)
	if c.ctx.Err() != nil {
		return // the program ends: the list did not fail
	}
	c.finishAttempt(li, now, err)
}

// readFile reads the file of li, unless the copy was made of its present content.
func (c *copies) readFile(li *list, now time.Time) error {
	state, same, err := c.checkFile(li, now)
	switch {
	case err != nil:
		return err
	case same && li.copy.File == state && state.IsReliable():
		li.copy.Fetched = now
		return nil
	case same:
		li.copy.File, li.copy.Fetched = state, now
		return c.store.SaveRecord(li.key, li.copy)
	}
	before := filewatch.StateOf(li.source)
	t, err := c.readList(li, li.source, now)
	justEmptied := err == nil && li.copy != nil && isEmptied(li.kind, li.copy, &t.record) && now.Sub(time.Unix(0, before.Modified)) < settled
	switch {
	case filewatch.StateOf(li.source) != before || justEmptied:
		if err == nil && t.unwritten == nil {
			err = c.store.RemoveCopy(li.key, &t.record, li.copy)
		}
		return errors.Join(errChanging, err)
	case err != nil:
		return err
	}
	t.record.File = state
	return c.saveCopy(li, t)
}

// readFileInMemory is readFile without writing.
func (c *copies) readFileInMemory(li *list) error {
	now := time.Now()
	if _, same, err := c.checkFile(li, now); err != nil || same {
		return err
	}
	t, err := c.readList(li, li.source, now)
	if err != nil {
		return err
	}
	li.inMemory, li.copy = &t, &t.record
	return nil
}

// errChanging is the error of a file that is written while it is read: the content that was read may be a part of it, or empty.
var errChanging = errors.New("it is being written; it is read again in a moment")

// settled is how old a change that empties a file must be: it may be the first half of writing the file anew.
const settled = time.Second

// checkFile returns the state of the list's file, and whether the copy was made of its content with the current settings.
func (c *copies) checkFile(li *list, now time.Time) (state store.FileState, same bool, err error) {
	if state, err = store.FileStateOf(li.source, now, fetch.MaxBody); err != nil {
		return state, false, err
	}
	current, err := c.isCurrent(li)
	if err != nil || !current {
		return state, false, err
	}
	if state.IsReliable() && li.copy.File == state {
		return state, true, nil
	}
	body, err := hashFile(li.source)
	return state, err == nil && body == li.copy.Body, err
}
