package wire

import (
	"encoding/binary"
	"net/netip"
)

// Keys of the parameters of a service (RFC 9460 section 14.3.2, RFC 9461 section 5).
const (
	keyALPN     uint16 = 1
	keyPort     uint16 = 3
	keyIPv4Hint uint16 = 4
	keyIPv6Hint uint16 = 6
	keyPath     uint16 = 7
)

// Service is the data of an SVCB record in ServiceMode (RFC 9460 section 2.4.3) that describes one transport of a DNS server (RFC 9461).
type Service struct {
	Priority uint16 // 1 or more; clients prefer low numbers
	Target   []byte // the server's name, in wire format
	ServiceParams
}

// ServiceParams are the parameters of a Service. The options of RFC 9463, by which networks announce a DNS server, have the same format.
type ServiceParams struct {
	ALPN  []string     // protocol IDs of 1 to 255 bytes: "dot", "doq", "h2", "h3"
	Port  uint16       // 0: the default port of the transport
	Hints []netip.Addr // addresses of the server
	Path  string       // URI template of DNS over HTTPS; "" for other transports
}

// Append appends the data of the record to dst. The target is not compressed (RFC 9460 section 2.2).
func (s *Service) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, s.Priority)
	dst = append(dst, s.Target...)
	return s.ServiceParams.Append(dst)
}

// Append appends the parameters to dst, in ascending order of their keys (RFC 9460 section 2.2).
func (p *ServiceParams) Append(dst []byte) []byte {
	var ids, ipv4, ipv6 []byte
	for _, id := range p.ALPN {
		ids = append(append(ids, byte(len(id))), id...)
	}
	for _, addr := range p.Hints {
		if addr.Is4() {
			ipv4 = append(ipv4, addr.AsSlice()...)
		} else {
			ipv6 = append(ipv6, addr.AsSlice()...)
		}
	}
	dst = appendParam(dst, keyALPN, ids)
	if p.Port != 0 {
		dst = appendParam(dst, keyPort, binary.BigEndian.AppendUint16(nil, p.Port))
	}
	dst = appendParam(dst, keyIPv4Hint, ipv4)
	dst = appendParam(dst, keyIPv6Hint, ipv6)
	return appendParam(dst, keyPath, []byte(p.Path))
}

// appendParam appends a parameter unless its value is empty.
func appendParam(dst []byte, key uint16, value []byte) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = binary.BigEndian.AppendUint16(dst, key)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value)))
	return append(dst, value...)
}
