package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"rempart/internal/units"
)

// List is a list of values separated by commas; white space around them and empty values are ignored.
type List []string

// UnmarshalText reads values.
func (l *List) UnmarshalText(text []byte) error {
	*l = nil
	for _, item := range strings.Split(string(text), ",") {
		if item = strings.TrimSpace(item); item != "" {
			*l = append(*l, item)
		}
	}
	return nil
}

// Addrs are addresses with ports; an empty host is read as two addresses, the wildcards of both families.
type Addrs []netip.AddrPort

// HasPublic reports whether other machines may reach one of the addresses: it is not a loopback address.
func (a Addrs) HasPublic() bool {
	return slices.ContainsFunc(a, func(one netip.AddrPort) bool { return !one.Addr().IsLoopback() })
}

// UnmarshalText reads addresses, or "none".
func (a *Addrs) UnmarshalText(text []byte) error {
	*a = nil
	if string(text) == none {
		return nil
	}
	var items List
	_ = items.UnmarshalText(text)
	for _, item := range items {
		if port, ok := strings.CutPrefix(item, ":"); ok {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return fmt.Errorf("%q is not a port: write :53 or 192.0.2.1:53", item)
			}
			*a = append(*a, netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(n)),
				netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n)))
			continue
		}
		ap, err := netip.ParseAddrPort(item)
		if err != nil {
			return fmt.Errorf("%q is not an address with a port: write 127.0.0.1:5300, [::1]:5300 or :53", item)
		}
		*a = append(*a, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
	}
	for i, addr := range *a {
		if addr.Port() != 0 && slices.Contains((*a)[:i], addr) {
			return fmt.Errorf("%s is named twice", addr)
		}
	}
	return nil
}

// Prefixes are address prefixes; an address alone is the prefix of its full length.
type Prefixes []netip.Prefix

// UnmarshalText reads prefixes.
func (p *Prefixes) UnmarshalText(text []byte) error {
	*p = nil
	var items List
	_ = items.UnmarshalText(text)
	for _, item := range items {
		if addr, err := netip.ParseAddr(item); err == nil {
			*p = append(*p, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			return fmt.Errorf("%q is not a prefix: write 192.168.0.0/16, 2001:db8::/32 or on-link", item)
		}
		if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 { // IPv4 in IPv6 (RFC 4291 section 2.5.5.2): clients are compared as IPv4
			prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
		}
		*p = append(*p, prefix.Masked())
	}
	if len(*p) == 0 {
		return errors.New("nobody could ask: name a prefix at least, like 192.168.0.0/16")
	}
	return nil
}

// Forward is a zone and the upstream of its names.
type Forward struct{ Zone, Upstream string }

// Forwards are such pairs; a zone may be there several times, each time with another upstream.
type Forwards []Forward

// UnmarshalText reads pairs.
func (f *Forwards) UnmarshalText(text []byte) error {
	*f = nil
	var items List
	_ = items.UnmarshalText(text)
	for _, item := range items {
		zone, upstream, ok := strings.Cut(item, "=")
		if !ok || zone == "" || upstream == "" {
			return fmt.Errorf("%q is not a pair: write home.arpa=udp://192.168.1.1", item)
		}
		*f = append(*f, Forward{strings.TrimSpace(zone), strings.TrimSpace(upstream)})
	}
	return nil
}

// Bytes is a quantity of memory or disk.
type Bytes int64

// UnmarshalText reads a number with or without a unit.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := units.ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = Bytes(n)
	return nil
}

// choose sets a setting of two values: false for the usual one, which empty text stands for too, and true for the other one.
func choose[T ~bool](setting *T, text []byte, usual, other string) error {
	switch string(text) {
	case usual, "":
		*setting = false
	case other:
		*setting = true
	default:
		return fmt.Errorf("either %q or %q", usual, other)
	}
	return nil
}

// LogFormat is the format of the log.
type LogFormat string

// The formats of the log.
const (
	LogText    LogFormat = "text"
	LogJSON    LogFormat = "json"
	LogJournal LogFormat = "journal"
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *LogFormat) UnmarshalText(text []byte) error {
	switch *f = LogFormat(text); *f {
	case LogText, LogJSON, LogJournal:
		return nil
	}
	return errors.New(`not a format of the log: write "text", "json" or "journal"`)
}

// Mode is whether blocks are enforced.
type Mode bool

// Observe only counts.
const Observe Mode = true

// UnmarshalText reads "enforce" or "observe".
func (m *Mode) UnmarshalText(text []byte) error { return choose(m, text, "enforce", "observe") }

// BlockAnswer is the answer to a blocked query.
type BlockAnswer string

// UnmarshalText reads one of the answers.
func (b *BlockAnswer) UnmarshalText(text []byte) error {
	switch s := BlockAnswer(text); s {
	case "page", "nxdomain", "nodata", "refused", "null":
		*b = s
		return nil
	}
	return errors.New(`one of "page", "nxdomain", "nodata", "refused" and "null"`)
}

// PageHTTPS is how a connection with https:// to the warning page is refused.
type PageHTTPS bool

// ResetHTTPS refuses by a TCP reset, not by a TLS alert.
const ResetHTTPS PageHTTPS = true

// UnmarshalText reads "alert" or "reset".
func (p *PageHTTPS) UnmarshalText(text []byte) error { return choose(p, text, "alert", "reset") }

// Reason is the content of the extended error of a blocked answer.
type Reason bool

// NameLists adds the lists that contain the name.
const NameLists Reason = true

// UnmarshalText reads "category" or "lists".
func (r *Reason) UnmarshalText(text []byte) error { return choose(r, text, "category", "lists") }
