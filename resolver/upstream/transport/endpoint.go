package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"rempart/internal/wire"
)

// Protocol is the protocol by which an upstream is asked.
type Protocol uint8

// The protocols.
const (
	UDP Protocol = iota // and TCP on truncation (RFC 7766 section 5)
	TCP
	TLS // RFC 7858; the certificate is always verified
)

// String returns the scheme of the protocol, as in the text form of an Endpoint.
func (t Protocol) String() string { return [...]string{"udp", "tcp", "tls"}[t] }

// Endpoint is the address and protocol of an upstream. ParseEndpoint makes one.
type Endpoint struct {
	Protocol Protocol
	Addr     netip.AddrPort
	Name     string // of TLS: the host name that its certificate must contain; "" for its address
}

const (
	plainPort   = 53
	tlsPort     = 853
	maxEndpoint = 512 // bytes of an endpoint in text form: a host name, an address, a zone id and more
)

// ParseEndpoint reads "udp://192.0.2.1", "udp://[2001:db8::1]:5353", "tcp://…" or
// "tls://9.9.9.9:853#dns.quad9.net"; a bare address, with a port or without, is UDP. The
// default port is 53, of TLS 853. The host is an address: to resolve a name an upstream
// would be needed first.
func ParseEndpoint(s string) (Endpoint, error) {
	fail := func(format string, args ...any) (Endpoint, error) {
		return Endpoint{}, fmt.Errorf("upstream %.80q: %w", s, fmt.Errorf(format, args...))
	}
	if len(s) > maxEndpoint {
		return fail("longer than %d bytes", maxEndpoint)
	}
	e := Endpoint{}
	host := s
	if scheme, rest, found := strings.Cut(s, "://"); found {
		switch strings.ToLower(scheme) {
		case "udp":
		case "tcp":
			e.Protocol = TCP
		case "tls":
			e.Protocol = TLS
		default:
			return fail("%w", unsupported(scheme, rest))
		}
		host = rest
	}
	host, name, named := strings.Cut(host, "#")
	if named {
		if e.Protocol != TLS {
			return fail("#name says whose certificate to expect, of which only tls has one")
		}
		if before, port, found := strings.Cut(name, ":"); found && hostName(before) {
			return fail("%q is not a host name: the port stands before it, as in tls://%s:%s#%s", name, host, port, before)
		}
		if !hostName(name) {
			return fail("%q is not a host name", name)
		}
		e.Name = strings.ToLower(name)
	}
	addr, err := parseAddr(host, map[bool]uint16{false: plainPort, true: tlsPort}[e.Protocol == TLS])
	if err != nil {
		return fail("%w", err)
	}
	e.Addr = addr
	return e, nil
}

// parseAddr reads an address with a port or without.
func parseAddr(host string, port uint16) (netip.AddrPort, error) {
	bare := host
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
	}
	var at netip.AddrPort
	if addr, err := netip.ParseAddr(bare); err == nil {
		at = netip.AddrPortFrom(addr, port)
	} else if at, err = netip.ParseAddrPort(host); err != nil {
		return at, notAnAddress(host)
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	switch addr := at.Addr(); {
	case at.Port() == 0:
		return at, errors.New("port 0 cannot be reached")
	case addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return at, fmt.Errorf("%v is not the address of one host", addr)
	}
	return at, nil
}

// unsupported returns an error that says what to write instead of an upstream with another transport.
func unsupported(scheme, rest string) error {
	name := map[string]string{
		"https": "DNS over HTTPS", "h2": "DNS over HTTPS", "h3": "DNS over HTTPS", "http": "DNS over HTTP", "doh": "DNS over HTTPS",
		"quic": "DNS over QUIC", "doq": "DNS over QUIC", "sdns": "a DNS stamp",
	}[strings.ToLower(scheme)]
	if name == "" {
		return fmt.Errorf("the transport %.20q is not known: udp, tcp or tls, as in udp://192.0.2.1 or tls://192.0.2.1:853#dns.example", scheme)
	}
	host, _, _ := strings.Cut(rest, "/")
	instead := "tls://ADDRESS:853#NAME"
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		instead = "tls://" + netip.AddrPortFrom(addr, tlsPort).String()
	} else if at, err := netip.ParseAddrPort(host); err == nil {
		instead = "tls://" + netip.AddrPortFrom(at.Addr(), tlsPort).String()
	} else if host, _, _ = strings.Cut(host, ":"); hostName(host) {
		instead = "tls://ADDRESS:853#" + strings.ToLower(host)
	}
	return fmt.Errorf("%s is not supported, only udp, tcp or tls; such servers mostly answer over TLS as well: write %s, with the server's IP address and the name on its certificate",
		name, instead)
}

// notAnAddress returns an error that says what to write instead of a host that is no address.
func notAnAddress(host string) error {
	const rule = "the host must be an IP address (an IPv6 one with a port in brackets)"
	if before, port, found := strings.Cut(host, "@"); found {
		if addr, err := netip.ParseAddr(before); err == nil {
			return fmt.Errorf("%s: its port follows a colon, not @; write %s", rule, net.JoinHostPort(addr.String(), port))
		}
	}
	name, _, _ := strings.Cut(host, ":")
	if !hostName(name) || !strings.ContainsFunc(name, func(c rune) bool { return c != '.' && (c < '0' || c > '9') }) {
		name = "dns.example"
	}
	return fmt.Errorf("%s: a host name could only be resolved by asking an upstream; for TLS give its name after #, as in tls://192.0.2.1#%s, with its own address for 192.0.2.1",
		rule, strings.ToLower(name))
}

// hostName reports whether s is a possible name in a certificate: letters, digits, hyphens and dots.
func hostName(s string) bool {
	for _, c := range []byte(s) {
		c = wire.Lower(c)
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	_, err := wire.AppendName(nil, s)
	return err == nil && s != "" && s != "." && !strings.HasSuffix(s, ".")
}

// String returns the endpoint in the format that ParseEndpoint reads, without a default port.
func (e Endpoint) String() string {
	host := e.Addr.String()
	if port := e.Addr.Port(); e.Protocol == TLS && port == tlsPort || e.Protocol != TLS && port == plainPort {
		host = e.Addr.Addr().String()
		if e.Addr.Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	if e.Name != "" {
		host += "#" + e.Name
	}
	return e.Protocol.String() + "://" + host
}

// maxResolvConf bounds a resolv.conf: real ones have a few hundred bytes.
const maxResolvConf = 64 << 10

// ResolvConf reads the nameserver lines of a resolv.conf as UDP endpoints, each once, in their order; other lines are ignored. A line with an unusable address
// is left out and named in the error. The valid endpoints are returned with the error.
func ResolvConf(r io.Reader) ([]Endpoint, error) {
	var out []Endpoint
	var errs []error
	seen := map[Endpoint]bool{}
	lines := bufio.NewScanner(io.LimitReader(r, maxResolvConf+1))
	read := 0
	for lines.Scan() {
		read += len(lines.Bytes()) + 1
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		addr, err := netip.ParseAddr(fields[1])
		if err != nil {
			errs = append(errs, fmt.Errorf("resolv.conf: nameserver %.80q is not an address", fields[1]))
			continue
		}
		at, err := parseAddr(addr.String(), plainPort)
		if err != nil {
			errs = append(errs, fmt.Errorf("resolv.conf: nameserver: %w", err))
			continue
		}
		if e := (Endpoint{Addr: at}); !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	if err := lines.Err(); err != nil {
		errs = append(errs, fmt.Errorf("resolv.conf: %w", err))
	}
	if read > maxResolvConf {
		errs = append(errs, fmt.Errorf("resolv.conf: longer than %d bytes", maxResolvConf))
	}
	return out, errors.Join(errs...)
}
