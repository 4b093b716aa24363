// Package bounded reads untrusted input in bounded memory: readers and writers that fail past a limit, and JSON of any
// length whose values are decoded one by one.
package bounded

import (
	"errors"
	"io"
)

// ErrTooLarge is wrapped by the error of input that is longer than its limit.
var ErrTooLarge = errors.New("too large")

// Reader returns the bytes of another reader and fails with ErrTooLarge if there are more than its limit.
type Reader struct {
	meter Meter
	left  int64
}

// NewReader returns a Reader of r that yields limit bytes at most.
func NewReader(r io.Reader, limit int64) *Reader {
	b := &Reader{left: limit}
	b.meter = Meter{r: r, left: &b.left}
	return b
}

// Read reads from the underlying reader.
func (b *Reader) Read(p []byte) (int, error) { return b.meter.Read(p) }

// Meter is a Reader whose limit is shared with other readers. Its first error stays: a bufio.Reader forgets an error that occurred while
// it peeked.
type Meter struct {
	// Check, if not nil, is called after each read. Its error, if any, ends the reading.
	Check func() error

	r    io.Reader
	left *int64
	err  error
}

// NewMeter returns a Meter of r that yields *left bytes at most and subtracts the bytes that it yields. All readers that share left must be
// used by one goroutine.
func NewMeter(r io.Reader, left *int64) *Meter { return &Meter{r: r, left: left} }

// Read reads from the underlying reader.
func (m *Meter) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	if int64(len(p)) > *m.left+1 {
		p = p[:*m.left+1]
	}
	n, err := m.r.Read(p)
	if int64(n) > *m.left {
		n, err = int(*m.left), ErrTooLarge
	}
	*m.left -= int64(n)
	if m.Check != nil {
		if failed := m.Check(); failed != nil {
			err = failed
		}
	}
	m.err = err
	return n, err
}

// Writer passes bytes to another writer and fails with ErrTooLarge if there are more than its limit.
type Writer struct {
	w    io.Writer
	left int64
}

// NewWriter returns a Writer to w that accepts limit bytes at most.
func NewWriter(w io.Writer, limit int64) *Writer { return &Writer{w: w, left: limit} }

// Write writes p, or nothing of p if it does not fit.
func (b *Writer) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, ErrTooLarge
	}
	return b.w.Write(p)
}
