package listen

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"time"

	"rempart/internal/wire"
)

// The header of the PROXY protocol, version 2 (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt section 2.2): a proxy sends it before a connection or a
// datagram of a client. Version 1 is text, exists for TCP only, and is not accepted.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixed     = len(proxySignature) + 4 // with version and command, family, and the length of the rest
	maxProxyHeader = proxyFixed + 512        // proxies add fields of some tens of bytes
	proxyPatience  = 2 * time.Second         // for the header of a connection
)

const (
	proxyLocal   = 0x20 // version 2, a connection of the proxy itself
	proxyProxied = 0x21 // version 2, a connection of a client
	familyIPv4   = 1
	familyIPv6   = 2
)

// proxied is what a header says.
type proxied struct {
	client, local netip.AddrPort // not valid: the proxy itself
	size          int            // of the header, in bytes
}

var errProxyHeader = errors.New("no header of the PROXY protocol, version 2")

// readProxied reads the header at the start of buf. If buf ends within the header, the error is io.ErrUnexpectedEOF, and size is the length that is needed.
func readProxied(buf []byte) (h proxied, err error) {
	if n := min(len(buf), len(proxySignature)); string(buf[:n]) != proxySignature[:n] {
		return h, errProxyHeader
	}
	if len(buf) < proxyFixed {
		return proxied{size: proxyFixed}, io.ErrUnexpectedEOF
	}
	fixed := buf[len(proxySignature):]
	h.size = proxyFixed + int(binary.BigEndian.Uint16(fixed[2:]))
	switch {
	case fixed[0] != proxyLocal && fixed[0] != proxyProxied, h.size > maxProxyHeader:
		return h, errProxyHeader
	case len(buf) < h.size:
		return h, io.ErrUnexpectedEOF
	case fixed[0] == proxyLocal:
		return h, nil
	}
	data := buf[proxyFixed:h.size]
	size := 0
	switch fixed[1] >> 4 { // the family; the transport is known
	case familyIPv4:
		size = 4
	case familyIPv6:
		size = 16
	default: // the proxy does not know the client (section 2.2: AF_UNSPEC)
		return h, nil
	}
	if len(data) < 2*size+4 {
		return h, errProxyHeader
	}
	client, _ := netip.AddrFromSlice(data[:size])
	local, _ := netip.AddrFromSlice(data[size : 2*size])
	h.client = netip.AddrPortFrom(client.Unmap(), binary.BigEndian.Uint16(data[2*size:]))
	h.local = netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(data[2*size+2:]))
	return h, nil
}

// isProxy reports whether an address is one of a proxy.
func isProxy(proxies []netip.Prefix, addr netip.Addr) bool {
	for _, p := range proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// unwrap removes the header before a query that a proxy sent over UDP, and takes the client from it. Without a valid header, or if nothing is answered to the port of
// the client, the query loses its packet, so that the handler drops it.
func unwrap(q *wire.Query, ports *ignoredPorts, counts *udpCounts) {
	h, err := readProxied(q.Packet)
	switch {
	case err != nil:
		counts.proxyFailures.Add(1)
		q.Packet = nil
	case h.client.IsValid() && ports.has(h.client.Port()):
		counts.ignored[ignoredPort].Add(1)
		q.Packet = nil
	case h.client.IsValid():
		q.Packet, q.Client, q.Local = q.Packet[h.size:], h.client.Addr(), h.local.Addr()
	default:
		q.Packet = q.Packet[h.size:]
	}
}

// readProxyHeader reads the header at the start of a connection, and nothing behind it.
func readProxyHeader(r io.Reader) (h proxied, err error) {
	buf := make([]byte, 0, maxProxyHeader)
	need := proxyFixed
	for {
		n, err := io.ReadFull(r, buf[len(buf):need])
		buf = buf[:len(buf)+n]
		if err != nil {
			return h, err
		}
		h, err = readProxied(buf)
		if err != io.ErrUnexpectedEOF {
			return h, err
		}
		need = h.size
	}
}
