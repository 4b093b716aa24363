package cache

import "rempart/internal/wire"

// layout is where domain names stand in the data of a type: names of them in a row, after prefix bytes and before tail bytes.
type layout struct {
	prefix, names, tail int
}

// anyTail is the tail of data that ends with bytes of any number.
const anyTail = -1

// layouts are those of the types whose names may be compressed (RFC 1035 section 3.3, RFC 3597 section 4), and of those that are checked or written
// again because clients act on them.
var layouts = map[uint16]layout{
	2:  {names: 1}, // NS
	3:  {names: 1}, // MD
	4:  {names: 1}, // MF
	5:  {names: 1}, // CNAME
	6:  {names: 2, tail: 20},
	7:  {names: 1}, // MB
	8:  {names: 1}, // MG
	9:  {names: 1}, // MR
	12: {names: 1}, // PTR
	14: {names: 2}, // MINFO
	15: {prefix: 2, names: 1},
	17: {names: 2},                            // RP
	18: {prefix: 2, names: 1},                 // AFSDB
	21: {prefix: 2, names: 1},                 // RT
	24: {prefix: 18, names: 1, tail: anyTail}, // SIG
	26: {prefix: 2, names: 2},                 // PX
	30: {names: 1, tail: anyTail},             // NXT
	33: {prefix: 6, names: 1},                 // SRV
	36: {prefix: 2, names: 1},                 // KX
	39: {names: 1},                            // DNAME
	46: {prefix: 18, names: 1, tail: anyTail}, // RRSIG
	47: {names: 1, tail: anyTail},             // NSEC
	64: {prefix: 2, names: 1, tail: anyTail},  // SVCB
	65: {prefix: 2, names: 1, tail: anyTail},  // HTTPS
}

// appendData appends the data of a record with its names written out, in lower case. ok is false if the data cannot be of the record's type.
// Data of a type without a layout is copied.
func appendData(dst, msg []byte, rr *wire.Record) (out []byte, ok bool) {
	at := rr.Data
	switch l, known := layouts[rr.Type]; {
	case rr.Type == wire.TypeA:
		ok = rr.End-at == 4
	case rr.Type == wire.TypeAAAA:
		ok = rr.End-at == 16
	case rr.Type == wire.TypeTXT:
		ok = areStrings(msg[at:rr.End])
	case !known:
		ok = true
	default:
		if at+l.prefix > rr.End {
			return dst, false
		}
		dst, at = append(dst, msg[at:at+l.prefix]...), at+l.prefix
		for range l.names {
			if dst, at, ok = wire.ExpandName(dst, msg, at); !ok || at > rr.End {
				return dst, false
			}
		}
		ok = l.tail == anyTail || rr.End-at == l.tail
		if rr.Type == wire.TypeSVCB || rr.Type == wire.TypeHTTPS {
			ok = areParams(msg[at:rr.End])
		}
	}
	return append(dst, msg[at:rr.End]...), ok
}

// areStrings reports whether data consists of character-strings, one at least (RFC 1035 section 3.3.14).
func areStrings(data []byte) bool {
	if len(data) == 0 {
		return false
	}
	for len(data) > 0 {
		n := 1 + int(data[0])
		if n > len(data) {
			return false
		}
		data = data[n:]
	}
	return true
}
