package feed

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/store"
	"rempart/internal/setfile"
)

// errDamagedCopy is the error of a list whose own copy on disk was lost or damaged, until its content is read or fetched again.
var errDamagedCopy = errors.New("its copy on disk is damaged; what is sound of it stays in force until the list is read or fetched again")

// recoverCopy finds a copy for a list that has none because files of it were lost or damaged, and reports whether it could. In this order it uses
// a content that is known to be whole, a copy without its record, the listings that the last set has of the list, and a content that may be
// truncated. The list is read or fetched again as soon as possible.
func (c *copies) recoverCopy(li *list) bool {
	li.copy = nil
	found := c.copiesWithoutRecord(li)
	if li.kind == KindURL {
		if body, err := hashFile(c.store.Body(li.key)); err == nil {
			for _, rec := range found {
				if rec.Body == body && c.reparseBody(li) {
					return true
				}
			}
		}
	}
	for _, rec := range found {
		if c.adoptCopy(li, rec) {
			return c.markRecovered(li, "a copy without its record")
		}
	}
	for _, file := range []string{snapshotFile, previousFile} {
		if c.copyFromSet(li, file) {
			return c.markRecovered(li, file)
		}
	}
	if li.kind == KindURL && c.reparseBody(li) {
		return c.markRecovered(li, "content that may be truncated")
	}
	return false
}

// markRecovered marks the copy of li as one that should be replaced soon.
func (c *copies) markRecovered(li *list, from string) bool {
	li.result, li.err, li.next = Stale, errDamagedCopy, time.Time{}
	c.log.Warn("the copy of a list is damaged; it was recovered, and the list is read or fetched again", "list", li.name, "from", from,
		"entries", li.copy.Entries, "fetched", li.copy.Fetched)
	return true
}

// copiesWithoutRecord returns records for the copies of li on disk, the newest first. The name of a copy combines Body and Settings in one
// number: if the settings were not the current ones, Body is the hash of no content.
func (c *copies) copiesWithoutRecord(li *list) (found []*store.Record) {
	settings, err := c.settings(li)
	if err != nil {
		return nil
	}
	for _, file := range c.store.UnrecordedCopies(li.key) {
		found = append(found, &store.Record{
			Source: li.name, Parser: parserRevision, Settings: settings, Form: li.form(),
			Body: store.BodyOf(file.Identity, settings, parserRevision), Fetched: file.Modified,
		})
	}
	return found
}

// adoptCopy makes a copy without a record the copy of li, if the copy is sound.
func (c *copies) adoptCopy(li *list, rec *store.Record) bool {
	if c.store.AdoptCopy(li.key, rec) != nil {
		return false
	}
	if !c.cfg.ReadOnly {
		if err := c.store.SaveRecord(li.key, rec); err != nil {
			c.log.Warn("the record of a list's copy could not be written", "list", li.name, "err", err)
		}
	}
	li.copy, li.inMemory = rec, nil
	return true
}

// copyFromSet makes the listings that a snapshot on disk has of li its copy, if the snapshot is sound and has the list.
func (c *copies) copyFromSet(li *list, file string) bool {
	f, err := setfile.Open(c.path(file))
	if err != nil {
		return false
	}
	view := f.View
	if file == snapshotFile {
		view = c.underOverlay(view)
	}
	all := view.Input()
	i := slices.IndexFunc(all.Sources(), func(s blocklist.Source) bool { return s.Name == li.name })
	if i < 0 || setfile.Verify(view) != nil {
		return false
	}
	fetched := latest(all.Sources()[i].Fetched, modTime(c.store.Body(li.key)))
	t := loadedList{record: store.Record{Source: li.name, Parser: parserRevision, Fetched: fetched}}
	cp := blocklist.Copy{
		Info:   blocklist.Info{Created: fetched},
		Inputs: []*blocklist.Input{all.Only(func(source string) bool { return source == li.name }).As(li.setSource(&t.record))},
		Seen:   fetched,
	}
	if err = c.writeCopy(li, &t, cp); err == nil && !c.cfg.ReadOnly {
		err = c.store.SaveRecord(li.key, &t.record)
	}
	if err != nil {
		c.log.Warn("the listings that the last set has of a list could not be kept", "list", li.name, "err", err)
		return false
	}
	li.copy, li.inMemory = &t.record, nil
	if t.input != nil {
		t.record.Entries, t.record.Checksum = t.input.Len(), t.input.Checksum()
		li.inMemory = &t
	}
	return true
}

// checkBody returns an error if the stored content of a URL is not the content that the list's copy was made of: it is truncated or another one.
func (c *copies) checkBody(li *list) error {
	if li.copy == nil {
		return nil // nothing is known of it
	}
	body, err := hashFile(c.store.Body(li.key))
	if err == nil && body != li.copy.Body {
		err = fmt.Errorf("%w: the content that was kept is not the one on record", blocklist.ErrSnapshot)
	}
	return err
}

// modTime returns when a file was last written; the zero time if there is none.
func modTime(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
