package cache

import "rempart/internal/wire"

// forms holds the format of the data of each type, one character per field: a digit for that number of bytes, "s" for a character-string, "t" for a
// character-string that is not empty, "n" for a name. The last field may be "S" for one or more character-strings, "b" for type bitmaps, "p" for
// SvcParams, "+" for one or more bytes, "." for any bytes. "v" checks a version: if it is not 0, the rest may be any bytes.
//
// The map holds the types whose names may be compressed (RFC 1035 section 3.3, RFC 3597 section 4), and the types that clients act on, because some
// clients refuse a whole message for one malformed record of such a type.
var forms = map[uint16]string{
	1:   "4",         // A
	2:   "n",         // NS
	3:   "n",         // MD
	4:   "n",         // MF
	5:   "n",         // CNAME
	6:   "nn44444",   // SOA
	7:   "n",         // MB
	8:   "n",         // MG
	9:   "n",         // MR
	12:  "n",         // PTR
	13:  "ss",        // HINFO
	14:  "nn",        // MINFO
	15:  "2n",        // MX
	16:  "S",         // TXT
	17:  "nn",        // RP
	18:  "2n",        // AFSDB
	21:  "2n",        // RT
	24:  "2114442n.", // SIG
	26:  "2nn",       // PX
	28:  "88",        // AAAA
	29:  "v88",       // LOC
	30:  "n.",        // NXT
	33:  "222n",      // SRV
	35:  "22sssn",    // NAPTR
	36:  "2n",        // KX
	39:  "n",         // DNAME
	43:  "211+",      // DS
	44:  "11+",       // SSHFP
	46:  "2114442n+", // RRSIG
	47:  "nb",        // NSEC
	48:  "211+",      // DNSKEY
	50:  "112ssb",    // NSEC3
	51:  "112s",      // NSEC3PARAM
	52:  "111+",      // TLSA
	53:  "111+",      // SMIMEA
	59:  "211+",      // CDS
	60:  "211+",      // CDNSKEY
	64:  "2np",       // SVCB
	65:  "2np",       // HTTPS
	99:  "S",         // SPF
	108: "24",        // EUI48
	109: "8",         // EUI64
	256: "22+",       // URI
	257: "1t.",       // CAA
}

// appendData appends the data of a record with its names written out, in lower case. ok is false if the data cannot be of the record's type.
// Data of a type that forms does not hold is copied.
func appendData(dst, msg []byte, rr *wire.Record) (out []byte, ok bool) {
	at := rr.Data
	for _, field := range []byte(forms[rr.Type]) {
		if field == 'n' {
			if dst, at, ok = wire.ExpandName(dst, msg, at); !ok || at > rr.End {
				return dst, false
			}
			continue
		}
		n, ok := fieldLen(field, msg[at:rr.End])
		if !ok {
			return dst, false
		}
		dst, at = append(dst, msg[at:at+n]...), at+n
		if field == 'v' && n > 0 {
			break
		}
	}
	if _, known := forms[rr.Type]; known {
		return dst, at == rr.End
	}
	return append(dst, msg[at:rr.End]...), true
}

// fieldLen returns the length of a field other than a name at the start of data; ok is false if there is none.
func fieldLen(field byte, data []byte) (n int, ok bool) {
	switch field {
	case 's', 't':
		if len(data) == 0 || field == 't' && data[0] == 0 {
			return 0, false
		}
		n = 1 + int(data[0])
		return n, n <= len(data)
	case 'v':
		if len(data) > 0 && data[0] != 0 {
			return len(data), true
		}
		return 0, true
	case 'S':
		return len(data), areStrings(data)
	case 'b':
		return len(data), areBitmaps(data)
	case 'p':
		return len(data), areParams(data)
	case '+':
		return len(data), len(data) > 0
	case '.':
		return len(data), true
	}
	n = int(field - '0')
	return n, n <= len(data)
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

// areBitmaps reports whether data consists of type bitmaps, in the order of their windows (RFC 4034 section 4.1.2).
func areBitmaps(data []byte) bool {
	for window := -1; len(data) > 0; {
		if len(data) < 2 || int(data[0]) <= window || data[1] == 0 || data[1] > 32 || 2+int(data[1]) > len(data) {
			return false
		}
		window, data = int(data[0]), data[2+data[1]:]
	}
	return true
}

// areParams reports whether data consists of SvcParams in the order of their keys, whose values have the format of their key (RFC 9460 sections 2.2, 7
// and 8).
func areParams(data []byte) bool {
	for last := -1; len(data) > 0; {
		key, value, rest, ok := nextParam(data)
		if !ok || int(key) <= last || !isParam(key, value) {
			return false
		}
		last, data = int(key), rest
	}
	return true
}

// isParam reports whether value has the format that key requires. An unknown key may have any value.
func isParam(key uint16, value []byte) bool {
	const (
		mandatory, alpn, noDefaultALPN, port = 0, 1, 2, 3
	)
	many := func(size int) bool { return len(value) > 0 && len(value)%size == 0 }
	switch key {
	case mandatory:
		return many(2)
	case alpn:
		for rest := value; len(rest) > 0; {
			if rest[0] == 0 || int(rest[0]) >= len(rest) {
				return false
			}
			rest = rest[1+rest[0]:]
		}
		return len(value) > 0
	case noDefaultALPN:
		return len(value) == 0
	case port:
		return len(value) == 2
	case ipv4Hint, ipv6Hint:
		return many(hintLen(key))
	}
	return true
}
