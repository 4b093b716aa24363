package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/internal/durable"
)

// parserRevision is raised with every change that makes Parse read something in another way:
// copies made before are then parsed again.
const parserRevision = 2

// The files of a list in the store, named by its key.
const (
	compiledSuffix = ".set"  // after the content's hash: its listings, compiled, a snapshot of this one source
	recordSuffix   = ".json" // what the copy is of
	bodySuffix     = ".body" // a URL's content, as it came
	newBodySuffix  = ".new"  // the same, not yet parsed
)

// record says what a copy was made from. It is written after the copy.
type record struct {
	Source     string         `json:"source"`
	Parser     int            `json:"parser"`
	Checksum   uint64         `json:"checksum,string"` // of the copy
	Body       uint64         `json:"body,string"`     // hash of the content
	Entries    int            `json:"entries"`
	Refused    map[string]int `json:"refused"`
	Fetched    time.Time      `json:"fetched"` // when the content was last known to be the publisher's
	File       fileState      `json:"file"`    // of a file
	validators                // of a URL
}

// store keeps the copies of lists in a folder.
type store struct{ dir string }

func (s store) path(key, suffix string) string { return filepath.Join(s.dir, key+suffix) }

// compiled is the path of the copy that rec speaks of. Another content has another path, so that
// a record has its copy until the next record is written.
func (s store) compiled(key string, rec *record) string {
	return s.path(key, fmt.Sprintf(".%016x%s", rec.Body, compiledSuffix))
}

// clean removes bodies that an earlier run fetched and did not come to parse.
func (s store) clean() error {
	return s.remove(func(name string) bool { return strings.HasSuffix(name, newBodySuffix) })
}

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
	f, err := os.Open(s.path(key, recordSuffix))
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

// save writes a copy, completes rec with its checksum and writes that.
func (s store) save(key string, input *blocklist.Input, rec *record) error {
	path := s.compiled(key, rec)
	err := durable.WriteFile(path, func(w io.Writer) error {
		return blocklist.Compile(w, blocklist.Info{Created: rec.Fetched, Content: rec.Body}, input)
	})
	if err != nil {
		return err
	}
	snapshot, m, err := openMapped(path)
	if err != nil {
		return err
	}
	rec.Checksum = snapshot.Checksum()
	m.Close()
	if err := s.saveRecord(key, rec); err != nil {
		return err
	}
	return s.remove(func(name string) bool {
		return strings.HasPrefix(name, key+".") && strings.HasSuffix(name, compiledSuffix) && name != filepath.Base(path)
	})
}

// open maps a copy and checks that it is the one rec speaks of. Closing the mapping is the
// caller's, when nothing reads the snapshot any more.
func (s store) open(key string, rec *record) (*blocklist.Snapshot, *durable.Mapping, error) {
	snapshot, m, err := openMapped(s.compiled(key, rec))
	if err != nil {
		return nil, nil, err
	}
	if snapshot.Checksum() != rec.Checksum {
		m.Close()
		return nil, nil, fmt.Errorf("%w: the copy is not the one on record", blocklist.ErrSnapshot)
	}
	return snapshot, m, nil
}

func openMapped(path string) (*blocklist.Snapshot, *durable.Mapping, error) {
	m, err := durable.Map(path)
	if err != nil {
		return nil, nil, err
	}
	snapshot, err := blocklist.Open(m.Data())
	if err != nil {
		m.Close()
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	return snapshot, m, nil
}

// loadCopy finds the copy an earlier run left of li.
func (l *Lists) loadCopy(li *list) {
	rec, err := l.store.record(li.key)
	if err == nil {
		li.copy, li.result = rec, OK
		if since := time.Since(rec.Fetched); since >= 0 && li.kind == KindURL {
			li.next = rec.Fetched.Add(jitter(l.cfg.Refresh)) // restarts must not have it fetched more often
		}
		return
	}
	if !errors.Is(err, fs.ErrNotExist) {
		l.log.Warn("the record of a list's copy is refused; the list is read again", "list", li.name, "err", err)
	}
	if li.kind == KindURL {
		l.parseBodyAgain(li)
	}
}

// makeCopyAgain replaces a copy that cannot be used, from what the list was made from. If that
// cannot be used either, the list has no copy any more.
func (l *Lists) makeCopyAgain(li *list, why error) {
	l.log.Error("a list's copy is refused; it is made again", "list", li.name, "err", why)
	switch {
	case li.kind == KindURL:
		if !l.parseBodyAgain(li) {
			li.copy, li.result, li.next = nil, Waiting, time.Time{}
		}
	case l.cfg.ReadOnly:
		li.copy = nil
		l.settle(li, time.Now(), l.readFileInMemory(li))
	default:
		li.copy = nil
		l.refreshFile(li)
	}
}

// parseBodyAgain makes the copy of a URL from the body that was kept of it, and reports whether it
// could. If not, the copy there was stays, and the URL is asked without conditions next time.
func (l *Lists) parseBodyAgain(li *list) bool {
	known := record{}
	if li.copy != nil {
		known = *li.copy
	}
	input, rec, err := parseFile(li, l.store.path(li.key, bodySuffix), known.Fetched)
	if err == nil && rec.Body == known.Body {
		rec.validators = known.validators
	}
	switch {
	case err != nil:
	case l.cfg.ReadOnly:
		li.memory, li.copy = input, &rec
	default:
		err = l.keep(li, input, rec)
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
