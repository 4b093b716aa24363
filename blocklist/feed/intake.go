package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist"
	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/guardfile"
	"rempart/internal/durable"
)

const (
	// runLimit is how many octets of listings are gathered in memory before they are put on disk as a run, to be
	// merged with the others at the end.
	runLimit = 16 << 20
	// pendingLimit is how many octets of listings may wait in memory, until a first set was made of them, to be written as copies.
	pendingLimit = 40 << 20
)

// intake takes one list in: it is the Sink that passes listings through the guards into a builder.
type intake struct {
	list    *list
	guards  *guardfile.Guards // nil for an allow list: what an operator allows is not judged
	builder *blocklist.Builder
	runs    *runs
	limit   int // of the builder's size
	since   int64
	source  blocklist.Source
	held    held
	now     int64
	err     error // the first
}

// Add takes what the list says, with what its configuration says of it, if no guard objects.
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
			return // it would never be in force
		}
		if l.Since == 0 {
			l.Since = in.since
		}
		if in.guards != nil && !in.held.pass(in.guards, line, l) {
			return
		}
	}
	if in.err = in.builder.Add(l); in.err == nil && in.builder.Size() >= in.limit && in.runs.dir != "" {
		in.err = in.runs.add(in.builder.Input(in.source))
		in.builder.Reset()
	}
}

// Cancel voids a rule of the list.
func (in *intake) Cancel(_ int, name []byte, scope blocklist.Scope) {
	if err := in.builder.Cancel(name, scope); in.err == nil {
		in.err = err
	}
}

// Refuse keeps some of what was not understood, for people to see.
func (in *intake) Refuse(line int, why format.Reason) { in.held.refused(line, why) }

// taken is a list as it was taken in.
type taken struct {
	record    record
	input     *blocklist.Input // in memory, where nothing may be written
	unwritten *blocklist.Copy  // in memory, to be written when a first set was made of it
	held      held
}

// takeIn reads the file at path as the content of li, and writes the copy of it beside the one there is. It may run beside the same
// of other lists.
func (l *Lists) takeIn(li *list, path string, fetched time.Time) (taken, error) {
	defer l.cfg.LowMemory()()
	in, stats, err := l.intake(li, path, fetched)
	if err != nil {
		return taken{}, err
	}
	body, err := hashFile(path)
	if err != nil {
		return taken{}, err
	}
	settings, err := l.settings(li)
	if err != nil {
		return taken{}, err
	}
	t := taken{held: in.held, record: record{
		Source: li.name, Parser: parserRevision, Settings: settings, Form: li.form(), Body: body, Fetched: fetched,
		Refused: stats.Refused.Map(), Held: in.held.counts(),
	}}
	if len(in.runs.inputs) == 0 {
		if err := l.plausibleFirst(li, t, in.builder.Len()); err != nil {
			return taken{}, err
		}
	}
	cp := blocklist.Copy{
		Info:   blocklist.Info{Created: fetched, Content: body},
		Inputs: append(in.runs.inputs, in.builder.Input(in.source)), Exceptions: in.builder.Exceptions(), Seen: fetched,
	}
	if l.mayWait(li, in) {
		t.unwritten, t.record.Entries = &cp, in.builder.Len()
		return t, nil
	}
	before, closeBefore := l.contentBefore(li)
	defer closeBefore()
	cp.Before = before
	err = l.write(li, &t, cp)
	if errors.Is(err, blocklist.ErrSnapshot) && cp.Before != nil { // then since when is lost, and nothing else
		cp.Before = nil
		err = l.write(li, &t, cp)
	}
	if err == nil && t.input != nil {
		t.record.Entries, t.record.Checksum = t.input.Len(), t.input.Checksum()
	}
	if err == nil {
		if err = l.plausible(li, t, before); err != nil && !l.cfg.ReadOnly {
			err = errors.Join(err, l.store.dropCopy(li, &t.record))
		}
	}
	return t, err
}

// write writes a copy, to memory where nothing may be written.
func (l *Lists) write(li *list, t *taken, cp blocklist.Copy) (err error) {
	if !l.cfg.ReadOnly {
		return l.store.writeCopy(li.key, &t.record, cp)
	}
	var b bytes.Buffer
	if err := cp.Write(&b); err != nil {
		return err
	}
	t.input, err = blocklist.OpenInput(bytes.NewReader(b.Bytes()), int64(b.Len()))
	return err
}

// mayWait reports whether a list's copy may be written after the set: as nothing is in force yet, that must not wait for disks.
func (l *Lists) mayWait(li *list, in *intake) bool {
	if l.cfg.ReadOnly || l.set.View().Version() > 0 || li.copy != nil || len(in.runs.inputs) > 0 || in.builder.Exceptions().Len() > 0 {
		return false
	}
	size := int64(in.builder.Size())
	if l.pending.Add(size) > pendingLimit {
		l.pending.Add(-size)
		return false
	}
	return true
}

// savePending writes the copies that had to wait.
func (l *Lists) savePending() {
	for _, li := range l.lists {
		if li.pending == nil {
			continue
		}
		t := li.pending
		li.pending = nil
		err := l.store.writeCopy(li.key, &t.record, *t.unwritten)
		if err == nil {
			t.unwritten = nil
			err = l.keep(li, *t)
		}
		if err != nil {
			l.log.Error("a list's copy could not be written; it is read again at the next start", "list", li.name, "err", err)
			continue
		}
		if li.published != nil {
			li.published = li.copy
		}
	}
	if l.pending.Swap(0) > 0 {
		debug.FreeOSMemory()
	}
}

// intake parses the file at path through the guards.
func (l *Lists) intake(li *list, path string, fetched time.Time) (in *intake, stats format.Stats, err error) {
	f, err := durable.OpenRegular(path)
	if err != nil {
		return nil, stats, err
	}
	defer f.Close()
	li.parses++
	in = &intake{
		list: li, builder: blocklist.NewBuilder(), runs: &runs{}, limit: l.limits.run, now: time.Now().Unix(),
		source: blocklist.Source{Name: li.name, Fetched: fetched},
	}
	if li.copy == nil { // nothing says since when it lists what
		in.since = fetched.Unix()
		if l.set.View().Version() == 0 {
			in.limit = max(in.limit, pendingLimit)
		}
	}
	opt, err := l.options(li)
	if err != nil {
		return nil, stats, err
	}
	if li.kind != KindAllow {
		if in.guards, err = l.guards.Acquire(); err != nil {
			return nil, stats, err
		}
	}
	if !l.cfg.ReadOnly {
		in.runs.dir = l.store.dir
	}
	stats, err = format.Parse(&counted{ctx: l.ctx, file: f, report: l.cfg.Progress, list: li.name}, opt, li.sink(in))
	return in, stats, errors.Join(err, in.err)
}

// options say how the list is to be read.
func (l *Lists) options(li *list) (format.Options, error) {
	opt := format.Options{Format: li.feed.Format, DeepURLs: li.feed.DeepURLs, RedirectsBlock: li.feed.Policy == PolicyBlock}
	if li.kind == KindAllow {
		return opt, nil
	}
	guards, err := l.guards.Acquire()
	if err == nil {
		opt.SharedHost = guards.SharedHost
	}
	return opt, err
}

// settings returns a fingerprint of all that decides which listings are made of the list's content.
func (l *Lists) settings(li *list) (uint64, error) {
	if li.kind == KindAllow {
		return 0, nil
	}
	guards, err := l.guards.Fingerprint()
	if err != nil {
		return 0, err
	}
	return xxhash.Sum64String(fmt.Sprintf("%x %x", guards, li.form())), nil
}

// isReleasedList reports whether a person allowed the list to change out of proportion.
func (l *Lists) isReleasedList(name string) bool {
	guards, err := l.guards.Acquire()
	return err == nil && guards.IsReleasedList(name)
}

// form is a fingerprint of how the list is to be read, guards apart.
func (li *list) form() uint64 {
	f := li.feed
	return xxhash.Sum64String(fmt.Sprintf("%s %d %d %t %t", f.Format, f.Category, f.Scope, f.DeepURLs, f.Policy == PolicyBlock))
}

// counted reads a file and reports its progress. Reading fails when ctx ends.
type counted struct {
	ctx    context.Context
	file   *os.File
	report func(Progress)
	list   string
	done   int64
	last   time.Time
}

// Progress is how far the reading of a list is.
type Progress struct {
	List        string
	Done, Total int64 // octets of the file
}

func (c *counted) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.file.Read(p)
	c.done += int64(n)
	if c.report == nil {
		return n, err
	}
	if now := time.Now(); now.Sub(c.last) > 100*time.Millisecond || errors.Is(err, io.EOF) {
		c.last = now
		if info, statErr := c.file.Stat(); statErr == nil {
			c.report(Progress{c.list, min(c.done, info.Size()), info.Size()})
		}
	}
	return n, err
}

func (c *counted) ReadAt(p []byte, off int64) (int, error)   { return c.file.ReadAt(p, off) }
func (c *counted) Seek(off int64, whence int) (int64, error) { return c.file.Seek(off, whence) }

func hashFile(path string) (uint64, error) {
	f, err := durable.OpenRegular(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	hash := xxhash.New()
	if _, err := io.Copy(hash, bounded.NewReader(f, fetch.MaxBody)); err != nil {
		return 0, err
	}
	return hash.Sum64(), nil
}

// current reports whether the list's copy was made by this version of the parser, and as the list is configured.
func (l *Lists) current(li *list) (bool, error) {
	settings, err := l.settings(li)
	return li.copy != nil && li.copy.Parser == parserRevision && li.copy.Settings == settings, err
}

// keep makes what was taken in the last good copy of li. The one before stays on disk until the set is made of the new one.
func (l *Lists) keep(li *list, t taken) error {
	if t.unwritten != nil {
		li.copy, li.pending = &t.record, &t
		return nil
	}
	if err := l.store.saveHeld(li.key, t.held.entries); err != nil {
		return err
	}
	if err := l.store.saveRecord(li.key, &t.record); err != nil {
		return err
	}
	li.copy = &t.record
	if t.record.Entries == 0 && li.kind != KindAllow {
		l.log.Warn("a list lists nothing: no name is blocked because of it", "list", li.name, "refused", sum(t.record.Refused), "held", sum(t.record.Held))
	}
	l.log.Info("list loaded", "list", li.name, "entries", t.record.Entries, "refused", sum(t.record.Refused), "held", sum(t.record.Held))
	if li.kind == KindAllow {
		l.logNotAllowed(li, t)
	}
	if n := t.record.Refused[format.Redirect.String()]; n > t.record.Entries-min(n, format.MaxRedirectExceptions) { // which are entries too
		l.log.Warn("most records of a list lead to other names or addresses; they are not taken for blocks", "list", li.name,
			"records", n, "to_block_them", `policy = "block" in the file of REMPART_FEEDS`)
	}
	return nil
}

// maxNotAllowed is how many lines of an allow list are logged that are not applied.
const maxNotAllowed = 10

// logNotAllowed logs the lines of an allow list that were not understood: names that its owner wants to pass may be blocked.
func (l *Lists) logNotAllowed(li *list, t taken) {
	for i, e := range t.held.entries {
		if i == maxNotAllowed {
			l.log.Warn("more lines of the allow list are not applied", "file", li.name, "lines", sum(t.record.Refused)-i)
			return
		}
		l.log.Warn("a line of the allow list is not applied", "file", li.name, "line", e.Line, "why", e.Why)
	}
}

// contentBefore is the last good copy, for since when it lists what; nil if it cannot be had.
func (l *Lists) contentBefore(li *list) (*blocklist.Input, func()) {
	if li.copy == nil {
		return nil, func() {}
	}
	input, closeInput, err := l.store.open(li.key, li.copy)
	if err != nil {
		return nil, func() {}
	}
	return input, closeInput
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
