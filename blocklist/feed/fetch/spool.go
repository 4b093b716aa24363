package fetch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist/feed/bounded"
)

const (
	maxObject  = 4 << 20 // bytes of a STIX object, long texts clipped
	maxObjects = 1 << 20 // of a collection, all versions
)

// spool stores STIX objects in a temporary file, one per line, until the newest of several versions of an object is known. It needs a few
// bytes of memory per object.
type spool struct {
	file    *os.File
	w       *bufio.Writer
	left    int64
	limit   int64
	ids     []uint64 // of each line: the hash of its object's identifier
	newest  map[uint64]objectVersion
	scratch bytes.Buffer
}

type objectVersion struct {
	modified int64 // Unix microseconds, 0 if it is not said
	line     int
}

// newSpool creates a spool in the folder of path. Its name makes durable.Clean remove it after a crash.
func newSpool(path string, limit int64) (*spool, error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.rempart-tmp")
	if err != nil {
		return nil, err
	}
	s := &spool{file: file, limit: limit}
	if err := s.reset(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *spool) close() {
	s.file.Close()
	os.Remove(s.file.Name())
}

// reset removes all objects.
func (s *spool) reset() error {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s.left, s.ids, s.newest = s.limit, nil, map[uint64]objectVersion{}
	s.w = bufio.NewWriter(s.file)
	return s.file.Truncate(0)
}

// count returns the number of objects that were added, all versions.
func (s *spool) count() int { return len(s.ids) }

// add appends an object. Objects are added in the order in which they were added to the collection.
func (s *spool) add(object json.RawMessage) error {
	s.scratch.Reset()
	if err := json.Compact(&s.scratch, object); err != nil {
		return err
	}
	line := append(s.scratch.Bytes(), '\n')
	if line[0] != '{' {
		return errors.New("one of its objects is not a JSON object")
	}
	if s.left -= int64(len(line)); s.left < 0 || len(s.ids) == maxObjects {
		return fmt.Errorf("the collection: %w", bounded.ErrTooLarge)
	}
	id, modified := versionOf(line)
	if v, ok := s.newest[id]; !ok || modified >= v.modified {
		s.newest[id] = objectVersion{modified: modified, line: len(s.ids)}
	}
	s.ids = append(s.ids, id)
	_, err := s.w.Write(line)
	return err
}

// versionOf returns the hash of an object's identifier, or of the whole object if it has none, and the time of its last change.
func versionOf(object []byte) (id uint64, modified int64) {
	var o struct {
		ID       string `json:"id"`
		Modified string `json:"modified"`
	}
	if err := json.Unmarshal(object, &o); err != nil || o.ID == "" {
		return xxhash.Sum64(object), 0
	}
	if t, err := time.Parse(time.RFC3339Nano, o.Modified); err == nil {
		modified = t.UnixMicro()
	}
	return xxhash.Sum64String(o.ID), modified
}

// write writes the newest version of each object as one TAXII envelope, one object per line.
func (s *spool) write(w io.Writer) error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.WriteString(w, `{"objects":[`); err != nil {
		return err
	}
	r := bufio.NewReaderSize(s.file, 64<<10)
	separator := "\n"
	for i, id := range s.ids {
		keep := s.newest[id].line == i
		if keep {
			if _, err := io.WriteString(w, separator); err != nil {
				return err
			}
			separator = ",\n"
		}
		if err := copyLine(w, r, keep); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "\n]}\n")
	return err
}

// copyLine reads a line of any length and writes it, without its end, if keep says so.
func copyLine(w io.Writer, r *bufio.Reader, keep bool) error {
	for {
		part, err := r.ReadSlice('\n')
		if keep {
			if _, err := w.Write(bytes.TrimSuffix(part, []byte("\n"))); err != nil {
				return err
			}
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}
