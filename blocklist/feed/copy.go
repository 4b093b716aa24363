package feed

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch"
	"rempart/internal/durable"
)

// parserRevision is raised with every change that makes Parse read something in another way:
// copies made before are then parsed again.
const parserRevision = 3

// The files of a list in the store, named by its key.
const (
	compiledSuffix = ".set"  // after the content's hash: its listings, compiled, a snapshot of this one source
	recordSuffix   = ".json" // what the copy is of
	bodySuffix     = ".body" // a URL's content, as it came
	newBodySuffix  = ".new"  // the same, not yet parsed
	heldSuffix     = ".held" // what was not taken of it, a JSON object a line
)

// record says what a copy was made from. It is written after the copy.
type record struct {
	Source           string         `json:"source"`
	Parser           int            `json:"parser"`
	Settings         uint64         `json:"settings,string"` // fingerprint of how the list was to be taken in
	Form             uint64         `json:"form,string"`     // the same without the guards
	Checksum         uint64         `json:"checksum,string"` // of the copy
	Body             uint64         `json:"body,string"`     // hash of the content
	Entries          int            `json:"entries"`
	Refused          map[string]int `json:"refused"`        // lines that were not understood, by Reason
	Held             map[string]int `json:"held,omitempty"` // listings the guards did not let count, by outcome and guard
	Fetched          time.Time      `json:"fetched"`        // when the content was last known to be the publisher's
	File             fileState      `json:"file"`           // of a file
	fetch.Validators                // of a URL
}

// identity stands for the listings the record speaks of: what they were made from, and how.
func (r *record) identity() uint64 {
	return r.Body ^ bits.RotateLeft64(r.Settings, 17) ^ uint64(r.Parser)
}

// store keeps the copies of lists in a folder.
type store struct{ dir string }

func (s store) path(key, suffix string) string { return filepath.Join(s.dir, key+suffix) }

// compiled is the path of the copy that rec speaks of. Another content has another path, so that
// a record has its copy until the next record is written.
func (s store) compiled(key string, rec *record) string {
	return s.path(key, fmt.Sprintf(".%016x%s", rec.identity(), compiledSuffix))
}

// clean removes what an earlier run fetched and did not come to parse, and what was kept of lists that have not been
// configured for a while.
func (s store) clean(lists []*list) error {
	return s.remove(func(name string) bool {
		if strings.HasSuffix(name, newBodySuffix) {
			return true
		}
		if slices.ContainsFunc(lists, func(li *list) bool { return strings.HasPrefix(name, li.key+".") }) {
			return false
		}
		info, err := os.Stat(filepath.Join(s.dir, name))
		return err == nil && time.Since(info.ModTime()) > forgetAfter
	})
}

// forgetAfter is how long the copy of a list outlives its configuration.
const forgetAfter = 7 * 24 * time.Hour

// remove removes the files whose names match.
func (s store) remove(matches func(name string) bool) error {
	files, err := os.ReadDir(s.dir)
	for _, f := range files {
		if matches(f.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(s.dir, f.Name())))
		}
	}
	return err
}

// record reads what is known of a copy. There being none is fs.ErrNotExist.
func (s store) record(key string) (*record, error) {
	f, err := durable.OpenRegular(s.path(key, recordSuffix))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, err
	}
	rec := &record{}
	if err := json.Unmarshal(text, rec); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return rec, nil
}

func (s store) saveRecord(key string, rec *record) error {
	return durable.WriteFile(s.path(key, recordSuffix), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "\t")
		return enc.Encode(rec)
	})
}

// writeCopy writes a copy and completes rec with what it holds.
func (s store) writeCopy(key string, rec *record, cp blocklist.Copy) error {
	path := s.compiled(key, rec)
	if err := durable.WriteFile(path, cp.Write); err != nil {
		return err
	}
	input, closeInput, err := openInput(path)
	if err != nil {
		return err
	}
	rec.Entries, rec.Checksum = input.Len(), input.Checksum()
	closeInput()
	return nil
}

// dropCopy removes a copy that is not to be kept, unless it is the one that is.
func (s store) dropCopy(li *list, rec *record) error {
	path := s.compiled(li.key, rec)
	if li.copy != nil && path == s.compiled(li.key, li.copy) {
		return nil
	}
	return os.Remove(path)
}

// prune removes the copies that are neither kept nor part of the set in force.
func (s store) prune(lists []*list) error {
	wanted := map[string]bool{}
	for _, li := range lists {
		for _, rec := range []*record{li.copy, li.published} {
			if rec != nil {
				wanted[filepath.Base(s.compiled(li.key, rec))] = true
			}
		}
	}
	return s.remove(func(name string) bool { return strings.HasSuffix(name, compiledSuffix) && !wanted[name] })
}

// open opens a copy to be merged and checks that it is the one rec speaks of. close is the
// caller's, when nothing reads the input any more.
func (s store) open(key string, rec *record) (*blocklist.Input, func(), error) {
	input, closeInput, err := openInput(s.compiled(key, rec))
	if err != nil {
		return nil, nil, err
	}
	if input.Checksum() != rec.Checksum {
		closeInput()
		return nil, nil, fmt.Errorf("%w: the copy is not the one on record", blocklist.ErrSnapshot)
	}
	return input, closeInput, nil
}

// openInput opens a snapshot or a copy to be read in pieces.
func openInput(path string) (*blocklist.Input, func(), error) {
	f, err := durable.OpenRegular(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil {
		var input *blocklist.Input
		if input, err = blocklist.OpenInput(f, info.Size()); err == nil {
			return input, func() { f.Close() }, nil
		}
	}
	f.Close()
	return nil, nil, fmt.Errorf("open %s: %w", path, err)
}

// runs are parts of a list too long to be gathered in memory. Their files have no name: they are gone with the process.
type runs struct {
	dir    string
	inputs []*blocklist.Input
}

func (r *runs) add(input *blocklist.Input) error {
	f, err := os.CreateTemp(r.dir, ".run.*"+newBodySuffix)
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	w := bufio.NewWriterSize(f, 256<<10)
	err = blocklist.Copy{Inputs: []*blocklist.Input{input}}.Write(w)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		input, err = blocklist.OpenInput(f, size)
	}
	if err == nil {
		runtime.AddCleanup(input, func(f *os.File) { f.Close() }, f)
		r.inputs = append(r.inputs, input)
	}
	return err
}

// loadCopy finds the copy an earlier run left of li.
func (l *Lists) loadCopy(li *list) {
	rec, err := l.store.record(li.key)
	if err == nil {
		li.copy, li.result = rec, OK
		if since := time.Since(rec.Fetched); since >= 0 && li.kind == KindURL {
			li.next = rec.Fetched.Add(jitter(l.interval(li))) // restarts must not have it fetched more often
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

// makeCopyAgain replaces a copy that cannot be used, from what the list was made from. If that
// cannot be used either, the list has no copy any more.
func (l *Lists) makeCopyAgain(li *list, why error) {
	l.log.Error("a list's copy is refused; it is made again", "list", li.name, "err", why)
	switch {
	case li.kind == KindURL:
		if !l.parseBodyAgain(li) && !l.recoverCopy(li) {
			li.result, li.next = Waiting, time.Time{}
		}
	case l.cfg.ReadOnly:
		li.copy = nil
		l.settle(li, time.Now(), l.orRecovered(li, l.readFileInMemory(li)))
	default:
		li.copy = nil
		now := time.Now()
		l.settle(li, now, l.orRecovered(li, l.readFile(li, now)))
	}
}

// orRecovered returns err, of reading the file of li, after it looked for another copy where li has none.
func (l *Lists) orRecovered(li *list, err error) error {
	if err != nil && li.copy == nil {
		l.recoverCopy(li)
	}
	return err
}

// parseBodyAgain makes the copy of a URL from the body that was kept of it, and reports whether it
// could. A body that is not the one on record, as one that was cut short, is refused. Without a record the body is taken as it is, fetched when it was
// last written. If the body cannot be used, the copy there was stays, and the URL is asked without conditions next time.
func (l *Lists) parseBodyAgain(li *list) bool {
	known := record{}
	if li.copy != nil {
		known = *li.copy
	}
	path := l.store.path(li.key, bodySuffix)
	if known.Fetched.IsZero() {
		known.Fetched = modTime(path)
	}
	t, err := taken{}, l.checkBody(li)
	if err == nil {
		t, err = l.takeIn(li, path, known.Fetched)
	}
	if err == nil && t.record.Body == known.Body {
		t.record.Validators = known.Validators
	}
	switch {
	case err != nil:
	case l.cfg.ReadOnly:
		li.memory, li.copy = &t, &t.record
	default:
		err = l.keep(li, t)
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
