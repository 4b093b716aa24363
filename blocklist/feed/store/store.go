package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch"
	"rempart/internal/durable"
)

// The files of a list are named by its key and one of these suffixes.
const (
	CopySuffix    = ".set"  // after the Identity in hexadecimal: the copy, its listings as a snapshot of one source
	RecordSuffix  = ".json" // the record
	BodySuffix    = ".body" // the content of a URL
	NewBodySuffix = ".new"  // a fetched content that was not accepted yet
	heldSuffix    = ".held" // held and refused listings, one JSON object per line
)

// Record describes a copy: the content, parser and settings that it was made from. It is written after the copy.
type Record struct {
	Source           string         `json:"source"`
	Parser           int            `json:"parser"`
	Settings         uint64         `json:"settings,string"` // fingerprint of settings and guards
	Form             uint64         `json:"form,string"`     // fingerprint of the settings alone
	Checksum         uint64         `json:"checksum,string"` // of the copy
	Body             uint64         `json:"body,string"`     // hash of the content
	Entries          int            `json:"entries"`
	Refused          map[string]int `json:"refused"`        // lines that were not understood, by format.Reason
	Held             map[string]int `json:"held,omitempty"` // listings that guards refuse or hold, by outcome and guard
	Fetched          time.Time      `json:"fetched"`        // when the content was last known to be the publisher's
	File             FileState      `json:"file"`           // of a file
	fetch.Validators                // of a URL
}

// Identity returns a number that identifies the listings of the copy by content, settings and parser.
func (r *Record) Identity() uint64 {
	return r.Body ^ bits.RotateLeft64(r.Settings, 17) ^ uint64(r.Parser)
}

// Store keeps the files of lists in a folder: copies, records, contents, and held listings. Its methods may be called concurrently for different lists.
type Store struct{ Dir string }

func (s Store) path(key, suffix string) string { return filepath.Join(s.Dir, key+suffix) }

// copyPath returns the path of the copy of rec. Another content has another path, so that a record has its copy until the next record is
// written.
func (s Store) copyPath(key string, rec *Record) string {
	return s.path(key, fmt.Sprintf(".%016x%s", rec.Identity(), CopySuffix))
}

// Clean removes bodies that an earlier run fetched and did not parse, and the files of lists that have not been configured for a week. keys
// are those of the configured lists.
func (s Store) Clean(keys []string) error {
	return s.remove(func(name string) bool {
		if strings.HasSuffix(name, NewBodySuffix) {
			return true
		}
		if slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(name, key+".") }) {
			return false
		}
		info, err := os.Stat(filepath.Join(s.Dir, name))
		return err == nil && time.Since(info.ModTime()) > forgetAfter
	})
}

// forgetAfter is the time for which the files of a list are kept after it was removed from the configuration.
const forgetAfter = 7 * 24 * time.Hour

// remove removes the files whose names match.
func (s Store) remove(matches func(name string) bool) error {
	files, err := os.ReadDir(s.Dir)
	for _, f := range files {
		if matches(f.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(s.Dir, f.Name())))
		}
	}
	return err
}

// Record reads the record of a list. If there is none, the error is fs.ErrNotExist.
func (s Store) Record(key string) (*Record, error) {
	f, err := durable.OpenRegular(s.path(key, RecordSuffix))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, err
	}
	rec := &Record{}
	if err := json.Unmarshal(text, rec); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return rec, nil
}

// SaveRecord writes the record of a list.
func (s Store) SaveRecord(key string, rec *Record) error {
	return durable.WriteFile(s.path(key, RecordSuffix), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "\t")
		return enc.Encode(rec)
	})
}

// WriteCopy writes a copy and sets Entries and Checksum of rec, its record.
func (s Store) WriteCopy(key string, rec *Record, cp blocklist.Copy) error {
	path := s.copyPath(key, rec)
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

// RemoveCopy removes the copy of rec, unless it is the copy of current too, which may be nil.
func (s Store) RemoveCopy(key string, rec, current *Record) error {
	path := s.copyPath(key, rec)
	if current != nil && path == s.copyPath(key, current) {
		return nil
	}
	return os.Remove(path)
}

// Prune removes all copies except those of the records that wanted holds for each key. A nil record stands for no copy.
func (s Store) Prune(wanted map[string][]*Record) error {
	paths := map[string]bool{}
	for key, records := range wanted {
		for _, rec := range records {
			if rec != nil {
				paths[filepath.Base(s.copyPath(key, rec))] = true
			}
		}
	}
	return s.remove(func(name string) bool { return strings.HasSuffix(name, CopySuffix) && !paths[name] })
}

// UnrecordedCopy is a copy whose record was lost.
type UnrecordedCopy struct {
	Identity uint64    // of its record
	Modified time.Time // when it was written
}

// UnrecordedCopies returns the copies of a list by their file names, the newest first.
func (s Store) UnrecordedCopies(key string) (copies []UnrecordedCopy) {
	paths, err := filepath.Glob(s.path(key, ".*"+CopySuffix))
	if err != nil {
		return nil
	}
	for _, path := range paths {
		text := strings.TrimPrefix(strings.TrimSuffix(filepath.Base(path), CopySuffix), key+".")
		identity, err := strconv.ParseUint(text, 16, 64)
		if err != nil {
			continue
		}
		if info, err := os.Stat(path); err == nil {
			copies = append(copies, UnrecordedCopy{identity, info.ModTime()})
		}
	}
	slices.SortFunc(copies, func(a, b UnrecordedCopy) int { return b.Modified.Compare(a.Modified) })
	return copies
}

// BodyOf returns the Body of the record with that identity, if it has these settings and that parser.
func BodyOf(identity, settings uint64, parser int) uint64 {
	return identity ^ bits.RotateLeft64(settings, 17) ^ uint64(parser)
}

// AdoptCopy completes rec from the copy on disk that it identifies. An error means that the copy is damaged.
func (s Store) AdoptCopy(key string, rec *Record) error {
	input, closeInput, err := openInput(s.copyPath(key, rec))
	if err != nil {
		return err
	}
	defer closeInput()
	if err := input.Verify(); err != nil {
		return err
	}
	rec.Entries, rec.Checksum = input.Len(), input.Checksum()
	return nil
}

// HasCopy reports whether the copy of rec is on disk.
func (s Store) HasCopy(key string, rec *Record) bool {
	_, err := os.Stat(s.copyPath(key, rec))
	return err == nil
}

// LinkCopy makes the copy of a list the copy of another list too, whose record is rec, and writes rec.
func (s Store) LinkCopy(fromKey string, from *Record, key string, rec *Record) error {
	err := os.Link(s.copyPath(fromKey, from), s.copyPath(key, rec))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.SaveRecord(key, rec)
}

// Body returns the path of the content of a list with a URL.
func (s Store) Body(key string) string { return s.path(key, BodySuffix) }

// NewBody returns the path of a fetched content that was not accepted yet.
func (s Store) NewBody(key string) string { return s.path(key, NewBodySuffix) }

// UseNewBody makes the new content the content. The caller writes the record next, which syncs the folder.
func (s Store) UseNewBody(key string) error { return os.Rename(s.NewBody(key), s.Body(key)) }

// OpenCopy opens the copy of rec and checks that it has the checksum on record. The caller calls the returned function when nothing reads the
// input any more.
func (s Store) OpenCopy(key string, rec *Record) (*blocklist.Input, func(), error) {
	input, closeInput, err := openInput(s.copyPath(key, rec))
	if err != nil {
		return nil, nil, err
	}
	if input.Checksum() != rec.Checksum {
		closeInput()
		return nil, nil, fmt.Errorf("%w: the copy is not the one on record", blocklist.ErrSnapshot)
	}
	return input, closeInput, nil
}

// openInput opens a copy to be read in pieces.
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
