package blocklist

import (
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
)

// streamBuffer is the size of the part of a copy's names that is in memory during a walk.
const streamBuffer = 64 << 10

// OpenInput reads the tables of a snapshot or a list's copy of that size, and returns its content to be merged into another: its names are read in pieces on
// each walk, and checked at the end of a walk. r is borrowed. Any error wraps ErrSnapshot.
func OpenInput(r io.ReaderAt, size int64) (*Input, error) {
	t := &tables{}
	sections, err := t.read(r, size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return &Input{
		sources: t.sourceList, claims: t.claims(), size: t.records, checksum: t.checksum,
		walk: func() cursor {
			return &withPrefixes{cursor: newStreamCursor(r, sections[sectionNames]), prefixes: t.prefixesByHash()}
		},
	}, nil
}

// streamCursor reads names from a file.
type streamCursor struct {
	r      io.ReaderAt
	rest   extent // the part that was not read yet
	buf    []byte
	at     int // in buf
	digest xxhash.Digest
	failed error
}

func newStreamCursor(r io.ReaderAt, names extent) *streamCursor {
	c := &streamCursor{r: r, rest: names, buf: make([]byte, 0, streamBuffer)}
	c.digest.Reset()
	return c
}

func (c *streamCursor) next() (uint64, []byte, uint32, bool) {
	if len(c.buf)-c.at < 512 { // a record has at most 266 bytes
		c.fill()
	}
	name, fact, next := record(c.buf, c.at)
	if next == 0 {
		if c.failed == nil && (c.at < len(c.buf) || c.rest.length > 0 || c.digest.Sum64() != c.rest.checksum) {
			c.failed = fmt.Errorf("%w: %w", ErrSnapshot, errDamaged)
		}
		return 0, nil, 0, false
	}
	c.at = next
	return xxhash.Sum64(name), name, fact, true
}

// fill moves the rest to the front and reads on.
func (c *streamCursor) fill() {
	if c.rest.length == 0 || c.failed != nil {
		return
	}
	n := copy(c.buf[:cap(c.buf)], c.buf[c.at:])
	more := c.buf[n : n+int(min(c.rest.length, uint64(cap(c.buf)-n)))]
	if c.failed = readFull(c.r, more, int64(c.rest.offset)); c.failed != nil {
		return
	}
	c.digest.Write(more)
	c.rest.offset += uint64(len(more))
	c.rest.length -= uint64(len(more))
	c.buf, c.at = c.buf[:n+len(more)], 0
}

func (c *streamCursor) err() error { return c.failed }
