package feed

import (
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/guardfile"
	"rempart/blocklist/feed/store"
	"rempart/internal/durable"
)

// runLimit is the number of bytes of listings that are collected in memory before they are written to disk as a run. Runs are merged when
// the list was read.
const runLimit = 16 << 20

// intake is the Sink of one list: it passes listings through the guards into a builder.
type intake struct {
	list       *list
	guards     *guardfile.Guards // nil for an allow list, which is not judged
	builder    *blocklist.Builder
	runs       *store.Runs
	limit      int   // of the builder's size, in bytes
	since      int64 // Unix seconds, for listings without such a time
	source     blocklist.Source
	rejections rejections
	now        int64 // Unix seconds
	err        error // the first error
}

// Add applies the settings of the list to a listing and adds it, if no guard refuses or holds it.
func (in *intake) Add(line int, l blocklist.Listing) {
	if in.err != nil {
		return
	}
	if li := in.list; l.Decision == blocklist.Block {
		if l.Category == blocklist.Malicious {
			l.Category = li.feed.Category
		}
		if li.feed.Scope != 0 && !l.Prefix.IsValid() {
			l.Scope = li.feed.Scope
		}
		if l.Expiry != 0 && l.Expiry <= in.now {
			return // it has expired
		}
		if l.Since == 0 {
			l.Since = in.since
		}
		if in.guards != nil && !in.rejections.admits(in.guards, line, l) {
			return
		}
	}
	if in.err = in.builder.Add(l); in.err == nil && in.builder.Size() >= in.limit && in.runs != nil {
		in.err = in.runs.Add(in.builder.Input(in.source))
		in.builder.Reset()
	}
}

// Cancel voids a rule of the list.
func (in *intake) Cancel(_ int, name []byte, scope blocklist.Scope) {
	if err := in.builder.Cancel(name, scope); in.err == nil {
		in.err = err
	}
}

// Refuse stores some of the lines that were not understood, for people to read.
func (in *intake) Refuse(line int, why format.Reason) { in.rejections.addRefused(line, why) }

// parseList parses the file at path and passes its listings through the guards.
func (c *copies) parseList(li *list, path string, fetched time.Time) (in *intake, stats format.Stats, err error) {
	f, err := durable.OpenRegular(path)
	if err != nil {
		return nil, stats, err
	}
	defer f.Close()
	li.parses++
	in = &intake{
		list: li, builder: blocklist.NewBuilder(), limit: c.limits.run, now: time.Now().Unix(),
		source: blocklist.Source{Name: li.name, Fetched: fetched},
	}
	if li.copy == nil { // the first content: all names are listed since now
		in.since = fetched.Unix()
		if c.set.View().Version() == 0 {
			in.limit = max(in.limit, postponeLimit)
		}
	}
	opt, err := c.options(li)
	if err != nil {
		return nil, stats, err
	}
	if li.kind != KindAllow {
		if in.guards, err = c.guards.Acquire(); err != nil {
			return nil, stats, err
		}
	}
	if !c.cfg.ReadOnly {
		in.runs = c.store.NewRuns()
	}
	stats, err = format.Parse(&progressReader{ctx: c.ctx, file: f, report: c.cfg.Progress, list: li.name}, opt, li.sink(in))
	return in, stats, errors.Join(err, in.err)
}

// options returns the options for parsing the list.
func (c *copies) options(li *list) (format.Options, error) {
	opt := format.Options{Format: li.feed.Format, DeepURLs: li.feed.DeepURLs, RedirectsBlock: li.feed.Policy == PolicyBlock}
	if li.kind == KindAllow {
		return opt, nil
	}
	guards, err := c.guards.Acquire()
	if err == nil {
		opt.SharedHost = guards.SharedHost
	}
	return opt, err
}

// settings returns a fingerprint of all that decides which listings are made of the list's content.
func (c *copies) settings(li *list) (uint64, error) {
	if li.kind == KindAllow {
		return 0, nil
	}
	guards, err := c.guards.Fingerprint()
	if err != nil {
		return 0, err
	}
	return xxhash.Sum64String(fmt.Sprintf("%x %x", guards, li.form())), nil
}

// isReleasedList reports whether a person allowed the list to change out of proportion.
func (c *copies) isReleasedList(name string) bool {
	guards, err := c.guards.Acquire()
	return err == nil && guards.IsReleasedList(name)
}

// form returns a fingerprint of the settings of the list, without the guards.
func (li *list) form() uint64 {
	f := li.feed
	return xxhash.Sum64String(fmt.Sprintf("%s %d %d %t %t", f.Format, f.Category, f.Scope, f.DeepURLs, f.Policy == PolicyBlock))
}

// isCurrent reports whether the list's copy was made by this version of the parser with the current settings and guards.
func (c *copies) isCurrent(li *list) (bool, error) {
	settings, err := c.settings(li)
	return li.copy != nil && li.copy.Parser == parserRevision && li.copy.Settings == settings, err
}
