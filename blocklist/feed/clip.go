package feed

import (
	"fmt"
	"io"
)

const (
	maxText  = 256 << 10 // octets of a JSON string; the rest of a longer one is dropped
	maxDepth = 64        // of arrays and objects within each other
	maxToken = 1 << 10   // octets of a number
)

// clip hands JSON on so that a decoder's memory stays bounded: it shortens long strings, such as
// attached files, and white space, and fails where nesting is too deep. It checks nothing else.
type clip struct {
	r      io.Reader
	depth  int
	size   int  // octets of the string or number being read
	text   bool // within a string
	full   bool // that much of the text was kept that no more is
	escape int  // octets of an escape sequence still to come
	blank  bool // the octet before was white space
}

func (c *clip) Read(p []byte) (int, error) {
	for {
		n, err := c.r.Read(p)
		kept := p[:0]
		for _, b := range p[:n] {
			keep, fault := c.keeps(b)
			if fault != nil {
				return 0, fault
			}
			if keep {
				kept = append(kept, b)
			}
		}
		if len(kept) > 0 || err != nil || len(p) == 0 {
			return len(kept), err
		}
	}
}

func (c *clip) keeps(b byte) (bool, error) {
	if c.text {
		return c.keepsText(b), nil
	}
	blank := b == ' ' || b == '\t' || b == '\r' || b == '\n'
	repeated := blank && c.blank
	c.blank = blank
	switch b {
	case '"':
		c.text, c.size, c.escape = true, 0, 0
	case '{', '[':
		if c.depth++; c.depth > maxDepth {
			return false, fmt.Errorf("JSON nested more than %d deep: %w", maxDepth, ErrTooLarge)
		}
		c.size = 0
	case '}', ']':
		c.depth--
		c.size = 0
	case ' ', '\t', '\r', '\n', ',', ':':
		c.size = 0
	default:
		if c.size++; c.size > maxToken {
			return false, fmt.Errorf("JSON number of more than %d digits: %w", maxToken, ErrTooLarge)
		}
	}
	return !repeated, nil
}

// afterSlash is the state of an escape sequence of which only the backslash was read.
const afterSlash = 5

// keepsText never cuts within an escape sequence.
func (c *clip) keepsText(b byte) bool {
	if c.escape == 0 {
		if b == '"' {
			c.text, c.size = false, 0
			return true
		}
		c.full = c.size >= maxText
	}
	switch {
	case c.escape == afterSlash && b == 'u':
		c.escape = 4
	case c.escape == afterSlash:
		c.escape = 0
	case c.escape > 0:
		c.escape--
	case b == '\\':
		c.escape = afterSlash
	}
	c.size++
	return !c.full
}
