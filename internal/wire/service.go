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

// DoHPath is the path of DNS over HTTPS (RFC 8484 section 4.1.1): one on every server, so that clients can be configured by the host name alone.
const DoHPath = "/dns-query"

// Protocol IDs (ALPN) of the encrypted transports (RFC 7858, RFC 9250, RFC 8484 over HTTP/2 and HTTP/3).
const (
	ALPNTLS   = "dot"
	ALPNQUIC  = "doq"
	ALPNHTTP2 = "h2"
	ALPNHTTP3 = "h3"
)

// DefaultPort returns the port of a transport that clients use if no other is named.
func (t Transport) DefaultPort() uint16 {
	switch t {
	case UDP, TCP:
		return 53
	case HTTPS:
		return 443
	}
	return 853 // RFC 7858 section 3.1, RFC 9250 section 4.1.1
}

// ParamsOf returns the parameters of an encrypted transport of this program on a port. The default port is left out (RFC 9461 section 4.2).
func ParamsOf(t Transport, port uint16) ServiceParams {
	p := ServiceParams{Port: port}
	if port == t.DefaultPort() {
		p.Port = 0
	}
	switch t {
	case TLS:
		p.ALPN = []string{ALPNTLS}
	case HTTPS:
		p.ALPN, p.Path = []string{ALPNHTTP2, ALPNHTTP3}, DoHPath+"{?dns}" // RFC 9461 section 5
	case QUIC:
		p.ALPN = []string{ALPNQUIC}
	}
	return p
}

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
