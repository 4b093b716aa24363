package format

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	utf "golang.org/x/text/encoding/unicode"
)

// Lists are UTF-8 or ASCII. People also save them as what Windows calls Unicode (UTF-16) or ANSI (Windows-1252, which holds
// Latin-1), and paste text from pages and documents, with invisible characters in it.

// sniffed is the number of bytes from which UTF-16 without a byte order mark is detected.
const sniffed = 512

// decoded returns the text that br holds as UTF-8. UTF-16 is detected by its byte order mark, or by a zero in every other byte.
func decoded(br *bufio.Reader) (*bufio.Reader, error) {
	head, _ := br.Peek(sniffed)
	if bytes.HasPrefix(head, []byte("\xff\xfe\x00\x00")) || bytes.HasPrefix(head, []byte("\x00\x00\xfe\xff")) {
		return nil, fmt.Errorf("%w: it is encoded in UTF-32; save it as UTF-8", ErrNotAList)
	}
	order := utf.LittleEndian
	switch little, big := zeros(head, 1), zeros(head, 0); {
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")): // the mark overrides order
	case little && !big:
	case big && !little:
		order = utf.BigEndian
	default:
		return br, nil
	}
	return bufio.NewReaderSize(utf.UTF16(order, utf.UseBOM).NewDecoder().Reader(br), MaxLine), nil
}

// Text returns the text that r holds as UTF-8, without a byte order mark. Pass each of its lines to CutComment.
func Text(r io.Reader) (io.Reader, error) {
	text, err := decoded(bufio.NewReaderSize(r, MaxLine))
	if err != nil {
		return nil, err
	}
	if mark, _ := text.Peek(len(byteOrderMark)); bytes.Equal(mark, byteOrderMark) {
		_, _ = text.Discard(len(byteOrderMark)) // Peek returned them
	}
	return text, nil
}

// zeros reports whether nearly every second byte of head, beginning with byte at, is zero.
func zeros(head []byte, at int) bool {
	pairs, zero := len(head)/2, 0
	for i := range pairs {
		if head[2*i+at] == 0 {
			zero++
		}
	}
	return pairs >= 4 && zero >= pairs-pairs/8
}

// clean is cleanText for a line of a list. A line that is not UTF-8 is read as Windows-1252.
func clean(line []byte) []byte {
	if !utf8.Valid(line) {
		line = fromWindows(line)
	}
	return cleanText(line)
}

// cleanText returns text with every kind of white space as a blank, Unicode's line separators as "\r", and without invisible
// characters, except joiners between letters, which are a part of names in some scripts. The memory of text may be overwritten.
func cleanText(text []byte) []byte {
	if isASCII(text) {
		return text
	}
	out := text[:0]
	for len(text) > 0 {
		c, size := utf8.DecodeRune(text)
		switch {
		case c == '\u2028', c == '\u2029', c == '\u0085':
			out = append(out, '\r')
		case c >= utf8.RuneSelf && unicode.IsSpace(c):
			out = append(out, ' ')
		case (c == '\u200c' || c == '\u200d') && beginsWithLetter(text[size:]):
			out = append(out, text[:size]...)
		case unicode.Is(unicode.Cf, c):
		default:
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out
}

func beginsWithLetter(text []byte) bool {
	c, _ := utf8.DecodeRune(text)
	return unicode.IsLetter(c)
}

func isASCII(text []byte) bool {
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// fromWindows returns a line of Windows-1252 text as UTF-8. A line that holds control characters or any UTF-8 is returned as it is.
func fromWindows(line []byte) []byte {
	for i := 0; i < len(line); {
		c, size := utf8.DecodeRune(line[i:])
		if size > 1 || c < ' ' && c != '\t' && c != '\r' {
			return line
		}
		i += size
	}
	text, err := charmap.Windows1252.NewDecoder().Bytes(line)
	if err != nil {
		return line
	}
	return text
}
