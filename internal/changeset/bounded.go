package changeset

import (
	"fmt"
	"io"
	"strings"

	"rempart/internal/journal"
)

// readAhead is larger than the number of bytes that a decoder reads after the end of its row or value.
const readAhead = 8 << 10

// BoundedReader limits the number of bytes that a decoder reads for one row or value. Without the limit, a quote that is never closed
// would make the decoder read the whole upload.
type BoundedReader struct {
	R    io.Reader
	Most int64 // largest size of a row or value in bytes
	Long error // error of Read for a longer row or value

	read int64 // number of bytes that were read
	end  int64 // Read returns Long from this offset on
}

// Allow permits reading a row or value that begins at an offset. It must be called before each one.
func (b *BoundedReader) Allow(offset int64) { b.end = offset + b.Most + readAhead }

func (b *BoundedReader) Read(p []byte) (int, error) {
	if b.read >= b.end {
		return 0, b.Long
	}
	n, err := b.R.Read(p[:min(int64(len(p)), b.end-b.read)])
	b.read += int64(n)
	return n, err
}

// lastByteReader stores the last byte that was read.
type lastByteReader struct {
	r    io.Reader
	last byte
}

func (l *lastByteReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if n > 0 {
		l.last = p[n-1]
	}
	return n, err
}

// errLongRow is the error of a row that is too long.
var errLongRow = fmt.Errorf("a row of more than %d bytes, or a quote that is not closed", journal.MaxLine)

// Shorten returns a text that is short enough for a message, with an ellipsis if it is cut.
func Shorten(text string) string {
	if len(text) > 300 {
		return strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}
