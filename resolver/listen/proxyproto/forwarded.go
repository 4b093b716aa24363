package proxyproto

import (
	"net/netip"
	"strings"
)

// Forwarded returns the client that a proxy names by the values of the field Forwarded (RFC 7239) or X-Forwarded-For: by the last entry, which the proxy added; earlier
// entries were written by the client. The client is not valid if the proxy names none, or if the request has both fields.
func Forwarded(forwarded, forwardedFor []string) netip.Addr {
	switch {
	case len(forwarded) > 0 && len(forwardedFor) > 0: // the proxy wrote one of them, and the client the other
	case len(forwarded) > 0:
		return lastFor(forwarded[len(forwarded)-1])
	case len(forwardedFor) > 0:
		last := forwardedFor[len(forwardedFor)-1]
		return parseClient(last[strings.LastIndexByte(last, ',')+1:])
	}
	return netip.Addr{}
}

// lastFor returns the address in the last element of a Forwarded field.
func lastFor(field string) netip.Addr {
	last := field[strings.LastIndexByte(field, ',')+1:]
	for pair := range strings.SplitSeq(last, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			return parseClient(strings.Trim(value, `"`))
		}
	}
	return netip.Addr{}
}

// parseClient reads an address, with or without a port.
func parseClient(text string) netip.Addr {
	text = strings.TrimSpace(text)
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}
