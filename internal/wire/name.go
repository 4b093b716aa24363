package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of RFC 1035 section 2.3.4, in bytes on the wire.
const (
	MaxName  = 255 // a whole name, with its length bytes and the root
	MaxLabel = 63  // one label, without its length byte
)

// ErrName is wrapped by the error of every malformed name, in text or on the wire.
var ErrName = errors.New("not a domain name")

// AppendName appends the canonical wire format (RFC 4034 section 6.2: uncompressed, lower case, with the root label) of a name in text form to dst. The text is
// ASCII with or without the trailing dot; it may have the escapes \DDD and \X of RFC 1035 section 5.1, so that AppendName reverses Text. The root is "." or "".
// Its error wraps ErrName, and dst is then returned unchanged.
func AppendName(dst []byte, text string) ([]byte, error) {
	start := len(dst)
	if text == "" || text == "." {
		return append(dst, 0), nil
	}
	out := append(dst, 0)
	label := start // where the length byte of the current label is
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '.' {
			n := len(out) - label - 1
			if n == 0 {
				return dst, fmt.Errorf("%w: empty label in %q", ErrName, text)
			}
			out[label] = byte(n)
			label = len(out)
			out = append(out, 0)
			continue
		}
		if c == '\\' {
			var size int
			if c, size = unescape(text[i:]); size == 0 {
				return dst, fmt.Errorf("%w: bad escape in %q", ErrName, text)
			}
			i += size - 1
		}
		out = append(out, Lower(c))
		if len(out)-label-1 > MaxLabel {
			return dst, fmt.Errorf("%w: a label of %q is longer than %d octets", ErrName, text, MaxLabel)
		}
		if len(out)-start > MaxName {
			return dst, fmt.Errorf("%w: %.40q… is longer than %d octets", ErrName, text, MaxName)
		}
	}
	if n := len(out) - label - 1; n > 0 {
		out[label] = byte(n)
		out = append(out, 0)
	}
	if len(out)-start > MaxName {
		return dst, fmt.Errorf("%w: %.40q… is longer than %d octets", ErrName, text, MaxName)
	}
	return out, nil
}

// unescape reads the escape at the start of s and returns its byte and its length in s, 0 if s has none.
func unescape(s string) (c byte, size int) {
	if len(s) < 2 {
		return 0, 0
	}
	if s[1] < '0' || s[1] > '9' {
		return s[1], 2
	}
	if len(s) < 4 || s[2] < '0' || s[2] > '9' || s[3] < '0' || s[3] > '9' {
		return 0, 0
	}
	v := int(s[1]-'0')*100 + int(s[2]-'0')*10 + int(s[3]-'0')
	if v > 255 {
		return 0, 0
	}
	return byte(v), 4
}

// AppendText appends the text form of a wire-format name, without the trailing dot (the root is "."), with the escapes of RFC 1035 section 5.1. A malformed
// name is written up to the first malformed label.
func AppendText(dst, name []byte) []byte {
	start := len(dst)
	for len(name) > 0 {
		n := int(name[0])
		if n == 0 || n > MaxLabel || n >= len(name) {
			break
		}
		if len(dst) > start {
			dst = append(dst, '.')
		}
		for _, c := range name[1 : 1+n] {
			switch {
			case c == '.' || c == '\\' || c == '"' || c == '(' || c == ')' || c == ';' || c == '@' || c == '$':
				dst = append(dst, '\\', c)
			case c <= ' ' || c >= 0x7f:
				dst = append(dst, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
			default:
				dst = append(dst, c)
			}
		}
		name = name[1+n:]
	}
	if len(dst) == start {
		dst = append(dst, '.')
	}
	return dst
}

// Text returns AppendText as a string.
func Text(name []byte) string { return string(AppendText(nil, name)) }

// Lower folds an ASCII letter (RFC 4343); it returns every other byte unchanged.
func Lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// lowerName copies a wire-format name, as long as dst, in lower case. Lengths of labels are below the letters, and so do not change.
func lowerName(dst, name []byte) {
	name = name[:len(dst)]
	i := 0
	for ; i+8 <= len(dst); i += 8 {
		binary.LittleEndian.PutUint64(dst[i:], lower8(binary.LittleEndian.Uint64(name[i:])))
	}
	for ; i < len(dst); i++ {
		dst[i] = Lower(name[i])
	}
}

// lower8 is Lower of eight bytes at once: in each, bit 7 of a sum is set if it is at or after a letter.
func lower8(w uint64) uint64 {
	const each = 0x0101010101010101
	low := w &^ (0x80 * each)
	fromA, pastZ := low+(0x80-'A')*each, low+(0x80-'Z'-1)*each
	return w | (fromA&^pastZ&^w&(0x80*each))>>2
}

// NameLen returns the length in bytes, root included, of the uncompressed wire-format name at the start of b, or 0 if there is none: truncated, compressed, or
// longer than 255 bytes.
func NameLen(b []byte) int {
	for i := 0; i < len(b) && i < MaxName; {
		n := int(b[i])
		if n == 0 {
			return i + 1
		}
		if n > MaxLabel {
			return 0
		}
		i += 1 + n
	}
	return 0
}

// Labels counts the labels of a sound wire-format name, the root not counted.
func Labels(name []byte) int {
	count := 0
	for i := 0; i < len(name) && name[i] != 0; i += 1 + int(name[i]) {
		count++
	}
	return count
}

// InZone reports whether name is zone or below it. Both are canonical wire names.
func InZone(name, zone []byte) bool {
	for i := 0; i < len(name); i += 1 + int(name[i]) {
		if len(name)-i == len(zone) {
			return string(name[i:]) == string(zone)
		}
		if name[i] == 0 {
			break
		}
	}
	return false
}
