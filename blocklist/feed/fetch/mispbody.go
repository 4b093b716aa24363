package fetch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cespare/xxhash/v2"
)

// The body of a MISP feed holds each event on a line. The line before it is an eventMark, which the next fetch reads: for the parser it is
// a document that lists nothing. An altered or truncated event is treated as not stored.

// eventMark is the line before an event.
type eventMark struct {
	UUID      string   `json:"uuid"`
	Timestamp int64    `json:"timestamp,string"`
	Hash      uint64   `json:"hash,string"` // of the event
	Objects   []string `json:"objects"`     // always empty: it makes the line a document that lists nothing
}

func writeEvent(w io.Writer, uuid string, changed int64, text []byte) error {
	line, err := json.Marshal(eventMark{UUID: uuid, Timestamp: changed, Hash: xxhash.Sum64(text), Objects: []string{}})
	if err != nil {
		return err
	}
	for _, part := range [][]byte{line, {'\n'}, text, {'\n'}} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// storedEvents are the events of a body written earlier.
type storedEvents struct {
	file   *os.File // nil if there is none
	events map[string]storedEvent
}

// storedEvent is the position of an event in the file, including its mark and the ends of both lines.
type storedEvent struct {
	changed  int64
	at, size int64
}

func (h *storedEvents) close() {
	if h.file != nil {
		h.file.Close()
	}
}

// contains reports whether the event is stored in the state of that change.
func (h *storedEvents) contains(uuid string, changed int64) bool {
	e, ok := h.events[uuid]
	return ok && e.changed == changed
}

// equal reports whether the stored events are the listed ones, and there is at least one.
func (h *storedEvents) equal(listed map[string]int64) bool {
	for uuid, changed := range listed {
		if !h.contains(uuid, changed) {
			return false
		}
	}
	return len(listed) > 0 && len(h.events) == len(listed)
}

// write writes a stored event; if it is not stored, nothing.
func (h *storedEvents) write(w io.Writer, uuid string) error {
	e, ok := h.events[uuid]
	if !ok {
		return nil
	}
	_, err := io.Copy(w, io.NewSectionReader(h.file, e.at, e.size))
	return err
}

// index finds the events of the file.
func (h *storedEvents) index() error {
	h.events = map[string]storedEvent{}
	r := bufio.NewReaderSize(h.file, 64<<10)
	for at := int64(0); len(h.events) < maxEvents; {
		line, err := r.ReadSlice('\n')
		if err == io.EOF || errors.Is(err, bufio.ErrBufferFull) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the stored events: %w", err)
		}
		var m eventMark
		if json.Unmarshal(line, &m) != nil || !isUUID(m.UUID) || len(m.Objects) > 0 {
			return nil
		}
		size := int64(len(line))
		sum, n, err := hashLine(r)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the stored events: %w", err)
		}
		size += n
		if sum == m.Hash {
			h.events[m.UUID] = storedEvent{changed: m.Timestamp, at: at, size: size}
		}
		at += size
	}
	return nil
}

// hashLine reads a line of any length; the hash is without its end, the length with it.
func hashLine(r *bufio.Reader) (sum uint64, n int64, err error) {
	hash := xxhash.New()
	for {
		part, err := r.ReadSlice('\n')
		n += int64(len(part))
		hash.Write(bytes.TrimSuffix(part, []byte("\n")))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return hash.Sum64(), n, err
		}
	}
}
