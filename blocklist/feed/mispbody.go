package feed

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

// The body of a MISP feed holds each event on a line, and on the line before what the next fetch
// wants to know of it: a document that lists nothing. Whatever is altered or cut short counts as not held.

// mark is the line before an event.
type mark struct {
	UUID      string   `json:"uuid"`
	Timestamp int64    `json:"timestamp,string"`
	Hash      uint64   `json:"hash,string"` // of the event
	Objects   []string `json:"objects"`     // none: it says to Parse that the document is one, of nothing
}

func writeEvent(w io.Writer, uuid string, changed int64, text []byte) error {
	line, err := json.Marshal(mark{UUID: uuid, Timestamp: changed, Hash: xxhash.Sum64(text), Objects: []string{}})
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

// heldEvents are the events of a body written before.
type heldEvents struct {
	file   *os.File // nil if there is none
	events map[string]heldEvent
}

// heldEvent is where an event stands, its mark and the ends of both lines included.
type heldEvent struct {
	changed  int64
	at, size int64
}

func (h *heldEvents) close() {
	if h.file != nil {
		h.file.Close()
	}
}

// has reports whether the event is held as it was last changed.
func (h *heldEvents) has(uuid string, changed int64) bool {
	e, ok := h.events[uuid]
	return ok && e.changed == changed
}

// are reports whether the events held are those listed, and there are any.
func (h *heldEvents) are(listed map[string]int64) bool {
	for uuid, changed := range listed {
		if !h.has(uuid, changed) {
			return false
		}
	}
	return len(listed) > 0 && len(h.events) == len(listed)
}

// write writes an event as it is held, if it is.
func (h *heldEvents) write(w io.Writer, uuid string) error {
	e, ok := h.events[uuid]
	if !ok {
		return nil
	}
	_, err := io.Copy(w, io.NewSectionReader(h.file, e.at, e.size))
	return err
}

// index finds the events of the file.
func (h *heldEvents) index() error {
	h.events = map[string]heldEvent{}
	r := bufio.NewReaderSize(h.file, 64<<10)
	for at := int64(0); len(h.events) < maxEvents; {
		line, err := r.ReadSlice('\n')
		if err == io.EOF || errors.Is(err, bufio.ErrBufferFull) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the events held: %w", err)
		}
		var m mark
		if json.Unmarshal(line, &m) != nil || !isUUID(m.UUID) || len(m.Objects) > 0 {
			return nil
		}
		size := int64(len(line))
		sum, n, err := hashLine(r)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the events held: %w", err)
		}
		size += n
		if sum == m.Hash {
			h.events[m.UUID] = heldEvent{changed: m.Timestamp, at: at, size: size}
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
