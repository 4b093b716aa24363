package guard

import "bytes"

const (
	maxLabel = 63  // bytes of a label (RFC 1035 section 2.3.4)
	maxName  = 255 // bytes of a whole name on the wire
)

// hostOctet holds the bytes that a name may contain. Upper-case letters would make another name than the canonical one in the lists; a dot inside a label would
// make its text that of another name. The underscore is legal in DNS, and listed names use it.
var hostOctet = func() (t [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789-_" {
		t[c] = true
	}
	return t
}()

// checkName judges whether name can be listed at all; ok is true if it can.
func checkName(name []byte) (why reason, ok bool) {
	if len(name) == 0 || len(name) > maxName {
		return malformed, false
	}
	labels, last := 0, 0
	at := 0
	for name[at] != 0 {
		end := at + 1 + int(name[at])
		if name[at] > maxLabel || end >= len(name) {
			return malformed, false
		}
		for _, c := range name[at+1 : end] {
			if !hostOctet[c] {
				return badOctet, false
			}
		}
		labels++
		last, at = at, end
	}
	switch {
	case at != len(name)-1:
		return malformed, false
	case labels == 0:
		return root, false
	}
	top := name[last+1 : at]
	switch {
	case string(top) == "localhost":
		return localhost, false
	case isNumber(top):
		return numeric, false
	case labels == 1:
		return singleLabel, false
	}
	return 0, true
}

// isNumber reports whether label is a number as inet_aton reads one: decimal, octal or hexadecimal.
func isNumber(label []byte) bool {
	if label[0] < '0' || label[0] > '9' {
		return false
	}
	digits := "0123456789"
	if rest, hex := bytes.CutPrefix(label, []byte("0x")); hex {
		label, digits = rest, "0123456789abcdef"
	}
	return len(bytes.Trim(label, digits)) == 0
}

// parent returns the name without its first label; nothing for the root.
func parent(name []byte) []byte {
	if len(name) == 0 || name[0] == 0 {
		return nil
	}
	return name[1+int(name[0]):]
}

// labelsAtLeast2 reports whether name has two labels or more.
func labelsAtLeast2(name []byte) bool {
	p := parent(name)
	return len(p) > 0 && p[0] != 0
}

// isWWW reports whether name's first label is "www".
func isWWW(name []byte) bool { return len(name) > 4 && string(name[:4]) == "\x03www" }
