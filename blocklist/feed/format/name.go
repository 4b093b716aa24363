package format

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxLabel = 63  // bytes of a label (RFC 1035 section 2.3.4)
	maxWire  = 255 // bytes of a whole name on the wire
	maxIDN   = 1024
)

// hostByte maps the ASCII bytes of host names to their lower case and the others to 0.
// The underscore stays: it is legal in DNS, and listed names use it.
var hostByte = func() (t [256]byte) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = byte(c), byte(c)
	}
	for _, c := range "0123456789-_." {
		t[c] = byte(c)
	}
	return t
}()

// mapping is UTS 46 non-transitional processing, without the rules that would refuse names in
// use: underscores (UseSTD3ASCIIRules) and hyphens in the third and fourth place (CheckHyphens).
var mapping = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false))

// Name returns the canonical wire form of a name as a feed or an operator writes it: Unicode is mapped
// to A-labels (UTS 46, non-transitional), upper case folded, one trailing dot taken off. It
// refuses a text that is not a host name of two labels at least; the error is a Reason.
func Name(text string) ([]byte, error) {
	name, why := appendName(nil, bytes.Trim(cleanText([]byte(text)), " \t\r\n"))
	if why != accepted {
		return nil, why
	}
	return name, nil
}

// appendName is Name on bytes: it appends the wire form to dst. On a refusal the result is dst,
// as it came.
func appendName(dst, text []byte) ([]byte, Reason) {
	if out, ok := appendPlain(dst, text); ok {
		return out, accepted
	}
	return appendChecked(dst, text)
}

// appendPlain is appendName for what nearly all names are: host bytes only, no A-label. It reports
// false where it does not know, and leaves it to appendChecked to say why.
func appendPlain(dst, text []byte) ([]byte, bool) {
	if n := len(text); n > 0 && text[n-1] == '.' {
		text = text[:n-1]
	}
	if len(text)+2 > maxWire {
		return dst, false
	}
	start := len(dst)
	dst = slices.Grow(dst, maxWire)
	out := dst[start : start+len(text)+2]
	lower := out[1 : 1+len(text)]
	label := 0 // where the length of the label being read goes
	for i, c := range text {
		o := hostByte[c]
		lower[i] = o
		if o > '.' || o == '-' {
			continue
		}
		if o == 0 || !closePlain(out[label:i+1]) {
			return dst, false
		}
		label = i + 1
	}
	last := out[label : len(text)+1]
	if label == 0 || !closePlain(last) || checkLast(out[:label], last[1:]) != accepted {
		return dst, false
	}
	out[len(text)+1] = 0
	return dst[:start+len(out)], true
}

// closePlain writes the length of a label before it, unless it is none, too long, or may be an A-label.
func closePlain(label []byte) bool {
	n := len(label) - 1
	if n < 1 || n > maxLabel || n > 3 && label[1] == 'x' && label[2] == 'n' && label[3] == '-' && label[4] == '-' {
		return false
	}
	label[0] = byte(n)
	return true
}

// appendChecked is appendName step by step.
func appendChecked(dst, text []byte) ([]byte, Reason) {
	if n := len(text); n > 0 && text[n-1] == '.' {
		text = text[:n-1]
	}
	start, label := len(dst), len(dst)
	out := append(dst, 0)
	for _, c := range text {
		switch o := hostByte[c]; {
		case o == '.':
			if why := closeLabel(out, label); why != accepted {
				return dst, why
			}
			label = len(out)
			out = append(out, 0)
		case o != 0:
			out = append(out, o)
		case c >= 0x80:
			return appendUnicode(dst, text)
		default:
			return dst, NotAName
		}
	}
	if why := closeLabel(out, label); why != accepted {
		return dst, why
	}
	if why := checkLast(out[start:label], out[label+1:]); why != accepted {
		return dst, why
	}
	if len(out)+1-start > maxWire {
		return dst, TooLong
	}
	return append(out, 0), accepted
}

// closeLabel writes the length of the label that begins at out[at] and runs to out's end.
func closeLabel(out []byte, at int) Reason {
	label := out[at+1:]
	switch {
	case len(label) == 0:
		return NotAName
	case len(label) > maxLabel:
		return TooLong
	case len(label) >= 4 && string(label[:4]) == "xn--" && !isALabel(string(label)):
		return Punycode
	}
	out[at] = byte(len(label))
	return accepted
}

// isALabel reports whether label, in lower case, is the A-label of some U-label. Which characters
// the U-label may hold is not asked: registries and browsers differ, and change.
func isALabel(label string) bool {
	u, err := idna.Punycode.ToUnicode(label)
	if err != nil || u == label[len("xn--"):] {
		return false
	}
	a, err := idna.Punycode.ToASCII(u)
	return err == nil && a == label
}

// checkLast judges a name by its last label; before is what precedes it, empty for a name of one.
func checkLast(before, last []byte) Reason {
	if isNumber(last) { // what "ends in a number" is an address, or nothing (WHATWG URL, host parsing)
		return Address
	}
	if string(last) == "localhost" {
		return LocalName
	}
	if len(before) == 0 {
		switch string(last) {
		case "local", "localdomain", "broadcasthost", "ip6-localhost", "ip6-loopback", "ip6-localnet",
			"ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "ip6-allhosts":
			return LocalName
		}
		return SingleLabel
	}
	if string(last) == "localdomain" {
		return LocalName
	}
	if last[0] == '-' || last[len(last)-1] == '-' || bytes.IndexByte(last, '_') >= 0 {
		return NotAName
	}
	return accepted
}

// isNumber reports whether label is decimal, octal or hexadecimal, as inet_aton reads them.
func isNumber(label []byte) bool {
	digits := "0123456789"
	if len(label) >= 2 && label[0] == '0' && label[1] == 'x' {
		label, digits = label[2:], "0123456789abcdef"
	}
	for _, c := range label {
		if strings.IndexByte(digits, c) < 0 {
			return false
		}
	}
	return true
}

// appendUnicode is appendName for a name that is not ASCII.
func appendUnicode(dst, text []byte) ([]byte, Reason) {
	if len(text) > maxIDN {
		return dst, TooLong
	}
	unicode, err := mapping.ToUnicode(string(text))
	if err != nil || strings.ContainsRune(unicode, utf8.RuneError) { // RuneError marks characters that cannot be decoded
		return dst, Punycode
	}
	ascii, err := idna.Punycode.ToASCII(unicode)
	if err != nil {
		return dst, Punycode
	}
	for i := range len(ascii) { // or appendName would come back here
		if ascii[i] >= 0x80 {
			return dst, Punycode
		}
	}
	return appendName(dst, []byte(ascii))
}
