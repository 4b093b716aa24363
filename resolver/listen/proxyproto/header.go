// Package proxyproto reads the address of a client as a proxy states it: in a header of the PROXY protocol, version 2, or in the HTTP fields Forwarded and
// X-Forwarded-For.
package proxyproto

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
)

// The header of the PROXY protocol, version 2 (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt section 2.2). A proxy sends it at the start of a
// connection, or of each datagram. Version 1 is text, exists for TCP only, and is not accepted.
const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	fixedLen  = len(signature) + 4 // with version and command, family, and the length of the rest
	maxHeader = fixedLen + 512     // proxies add fields of some tens of bytes
)

const (
	commandLocal = 0x20 // version 2, a connection of the proxy itself
	commandProxy = 0x21 // version 2, a connection of a client
	familyIPv4   = 1
	familyIPv6   = 2
)

// Header is the content of a header.
type Header struct {
	Client, Local netip.AddrPort // of the client's connection; not valid if the header states none: the proxy itself is the client, or does not know the client
	Size          int            // of the header, in bytes
}

var errHeader = errors.New("no header of the PROXY protocol, version 2")

// FirstByte is the first byte of every header. No request of HTTP begins with it.
const FirstByte = '\r'

// Proxies are the prefixes of the proxies that may state the addresses of clients.
type Proxies []netip.Prefix

// Has reports whether an address belongs to a proxy.
func (p Proxies) Has(addr netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Read reads the header at the start of buf. If buf ends within the header, the error is io.ErrUnexpectedEOF, and Size is the number of bytes that buf must
// have for the next call.
func Read(buf []byte) (h Header, err error) {
	if n := min(len(buf), len(signature)); string(buf[:n]) != signature[:n] {
		return h, errHeader
	}
	if len(buf) < fixedLen {
		return Header{Size: fixedLen}, io.ErrUnexpectedEOF
	}
	fixed := buf[len(signature):]
	h.Size = fixedLen + int(binary.BigEndian.Uint16(fixed[2:]))
	switch {
	case fixed[0] != commandLocal && fixed[0] != commandProxy, h.Size > maxHeader:
		return h, errHeader
	case len(buf) < h.Size:
		return h, io.ErrUnexpectedEOF
	case fixed[0] == commandLocal:
		return h, nil
	}
	data := buf[fixedLen:h.Size]
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
		return h, errHeader
	}
	client, _ := netip.AddrFromSlice(data[:size])
	local, _ := netip.AddrFromSlice(data[size : 2*size])
	h.Client = netip.AddrPortFrom(client.Unmap(), binary.BigEndian.Uint16(data[2*size:]))
	h.Local = netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(data[2*size+2:]))
	return h, nil
}

// ReadFrom reads the header at the start of a connection, and no byte after it.
func ReadFrom(r io.Reader) (h Header, err error) {
	buf := make([]byte, 0, maxHeader)
	need := fixedLen
	for {
		n, err := io.ReadFull(r, buf[len(buf):need])
		buf = buf[:len(buf)+n]
		if err != nil {
			return h, err
		}
		h, err = Read(buf)
		if err != io.ErrUnexpectedEOF {
			return h, err
		}
		need = h.Size
	}
}
