package cache

import (
	"encoding/binary"
	"net/netip"

	"rempart/internal/wire"
)

// SvcParamKeys of addresses (RFC 9460 section 14.3.2).
const (
	ipv4Hint = 4
	ipv6Hint = 6
)

// EachAddress calls yield for the addresses the answer leads to, until it returns false: those of A and AAAA records, and the hints
// of SVCB and HTTPS records.
func (e *Entry) EachAddress(yield func(netip.Addr) bool) {
	body := e.data[e.name:e.bodyEnd]
	for _, ttl := range e.ttls[:min(int(e.counts[0]), len(e.ttls))] {
		// A record's type and class stand before its TTL, its data's length and data after.
		at := int(ttl)
		if at < 4 || at+6 > len(body) {
			return
		}
		typ, data := binary.BigEndian.Uint16(body[at-4:]), body[at+6:]
		if n := int(binary.BigEndian.Uint16(body[at+4:])); n < len(data) {
			data = data[:n]
		}
		switch typ {
		case wire.TypeA, wire.TypeAAAA:
			if addr, ok := netip.AddrFromSlice(data); ok && !yield(addr) {
				return
			}
		case wire.TypeSVCB, wire.TypeHTTPS:
			if !eachHint(data, yield) {
				return
			}
		}
	}
}

// eachHint yields the address hints of a SVCB record's data (RFC 9460 section 7.3).
func eachHint(data []byte, yield func(netip.Addr) bool) bool {
	const priority = 2
	if len(data) < priority {
		return true
	}
	n := wire.NameLen(data[priority:])
	if n == 0 {
		return true
	}
	for params := data[priority+n:]; len(params) >= 4; {
		key, size := binary.BigEndian.Uint16(params), int(binary.BigEndian.Uint16(params[2:]))
		if size > len(params)-4 {
			return true
		}
		value := params[4 : 4+size]
		params = params[4+size:]
		length := 0
		switch key {
		case ipv4Hint:
			length = 4
		case ipv6Hint:
			length = 16
		}
		for ; length > 0 && len(value) >= length; value = value[length:] {
			if addr, ok := netip.AddrFromSlice(value[:length]); ok && !yield(addr) {
				return false
			}
		}
	}
	return true
}
