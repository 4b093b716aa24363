package bounded

import (
	"encoding/json"
	"fmt"
	"io"
)

const (
	maxText  = 256 << 10 // bytes of a JSON string; the rest of a longer string is dropped
	maxDepth = 64        // arrays and objects within each other
	maxToken = 1 << 10   // bytes of a number
)

// ClipJSON returns a reader of the JSON that r holds which keeps the memory of a decoder bounded: long strings, such as attached files, and
// repeated white space are shortened. Reading fails with ErrTooLarge where arrays and objects are nested too deeply. Nothing else is checked.
func ClipJSON(r io.Reader) io.Reader { return &clip{r: r} }

// clip is the reader of ClipJSON.
type clip struct {
	r      io.Reader
	depth  int
	size   int  // bytes read of the current string or number
	text   bool // the position is within a string
	full   bool // the rest of the string is dropped
	escape int  // remaining bytes of an escape sequence
	blank  bool // the byte before was white space
}

func (c *clip) Read(p []byte) (int, error) {
	for {
		n, err := c.r.Read(p)
		clipped := p[:0]
		for _, b := range p[:n] {
			keep, fault := c.keep(b)
			if fault != nil {
				return 0, fault
			}
			if keep {
				clipped = append(clipped, b)
			}
		}
		if len(clipped) > 0 || err != nil || len(p) == 0 {
			return len(clipped), err
		}
	}
}

// keep reports whether the byte b is passed on.
func (c *clip) keep(b byte) (bool, error) {
	if c.text {
		return c.keepText(b), nil
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

// keepText reports whether b, a byte of a string, is passed on. Escape sequences are passed on or dropped as a whole.
func (c *clip) keepText(b byte) bool {
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

// Values decodes JSON of any length in bounded memory: Decode fails with ErrTooLarge on a value that is longer than the limit after long
// strings were shortened.
type Values struct {
	*json.Decoder
	r     io.Reader
	read  int64
	limit int64
	err   error // the first error of r: json.Decoder.More ignores errors
}

// NewValues returns the values of r, each of limit bytes at most.
func NewValues(r io.Reader, limit int64) *Values {
	v := &Values{r: ClipJSON(r), limit: limit}
	v.Decoder = json.NewDecoder(v)
	return v
}

// Read is for the decoder, which reads ahead of its offset until the current value is complete.
func (v *Values) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	left := v.limit - (v.read - v.InputOffset())
	if left <= 0 {
		return 0, ErrTooLarge
	}
	n, err := v.r.Read(p[:min(int64(len(p)), left)])
	v.read += int64(n)
	v.err = err
	return n, err
}

// Open reads the bracket or brace that begins a value and reports whether it is d.
func (v *Values) Open(d json.Delim) (bool, error) {
	token, err := v.Token()
	return token == d, err
}

// Key reads the next key of an object. Call it after More reported that there is one.
func (v *Values) Key() (string, error) {
	token, err := v.Token()
	name, _ := token.(string)
	return name, err
}
