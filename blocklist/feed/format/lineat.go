package format

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// maxShown is the number of bytes of a line that LineAt returns at most.
const maxShown = 512

// LineAt returns the line that Parse reports as number n of the list in r, as text that is fit to print. A long line is cut.
func LineAt(list io.Reader, n int) (string, error) {
	r, err := plainText(list, maxPlain)
	if err != nil {
		return "", err
	}
	for i := 1; ; i++ {
		line, err := r.ReadSlice('\n')
		for i < n && errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if i < n && err == nil {
			continue
		}
		if i < n {
			return "", fmt.Errorf("line %d is gone: %w", n, err)
		}
		line = bytes.TrimSpace(line)
		text := strings.ToValidUTF8(string(line[:min(len(line), maxShown)]), "�")
		return strings.Map(func(c rune) rune {
			if !unicode.IsPrint(c) {
				return ' '
			}
			return c
		}, text), nil
	}
}

// plainText reads all contents of r one after the other. Each begins on a line of its own, so that lines have the numbers that Parse
// reports.
func plainText(r io.Reader, limit int64) (*bufio.Reader, error) {
	u, err := unpack(r, limit)
	if err != nil {
		return nil, err
	}
	return bufio.NewReaderSize(&joined{u: u, last: '\n'}, MaxLine), nil
}

// joined reads all contents of an unpacker as one text.
type joined struct {
	u    *unpacker
	r    io.Reader // the current content; nil between contents
	last byte      // the last byte that was read
}

func (j *joined) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if j.r == nil {
			r, err := j.u.next()
			if err != nil {
				return 0, err
			}
			j.r = r
			if j.last != '\n' {
				p[0], j.last = '\n', '\n'
				return 1, nil
			}
		}
		n, err := j.r.Read(p)
		if n > 0 {
			j.last = p[n-1]
		}
		if err == io.EOF {
			j.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}
