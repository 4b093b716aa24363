package transport

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"rempart/internal/wire"
)

// Protocol is the protocol by which an upstream is asked.
type Protocol uint8

const (
	UDP Protocol = iota // and TCP on truncation (RFC 7766 section 5)
	TCP
	TLS   // RFC 7858
	HTTPS // RFC 8484, over HTTP/2
	QUIC  // RFC 9250
)

func (t Protocol) String() string { return [...]string{"udp", "tcp", "tls", "https", "quic"}[t] }

// Encrypted reports whether the transport is encrypted. The server's certificate or key is then always verified.
func (t Protocol) Encrypted() bool { return t >= TLS }

// port returns the default port of the transport.
func (t Protocol) port() uint16 { return [...]uint16{53, 53, 853, 443, 853}[t] }

// Endpoint says where and how an upstream is asked. ParseEndpoint makes one. Endpoints can be compared with ==.
type Endpoint struct {
	Protocol Protocol
	Host     string         // the host name in the URL; "" if the URL has an address
	Addr     netip.AddrPort // with an invalid address if Host has to be looked up: see WithAddress
	Name     string         // the host name that the certificate must contain; "" for its address
	Path     string         // of HTTPS: the path of the URL, with a query if it has one
	Pins     string         // SHA-256 hashes of public keys (RFC 7469 section 2.4) in base64, separated by spaces; "" accepts every valid certificate
	Weight   int            // share of the questions, if they are spread; 0 is the same as 1
}

const (
	maxEndpoint = 1024 // bytes of an endpoint as text: a host name, a path, pins and more
	maxPins     = 8
	maxWeight   = 100
	defaultPath = "/dns-query"
)

// NeedsLookup reports whether the endpoint has a host name without an address.
func (e Endpoint) NeedsLookup() bool { return !e.Addr.Addr().IsValid() }

// WithAddress returns the endpoint at an address of its host.
func (e Endpoint) WithAddress(a netip.Addr) Endpoint {
	e.Addr = netip.AddrPortFrom(a.Unmap(), e.Addr.Port())
	return e
}

// ParseEndpoint reads an upstream from text:
//
//	[transport://]host[:port][/path][@address][#[name][&pin-sha256=hash]...[&weight=number]]
//
// The transport is udp, tcp, tls, https or quic; without one, it is udp, and the host must be an address. If the host is a name, it is looked up, unless an address follows after @. name is
// the name that the certificate must contain, if it is not the host. A hash is the SHA-256 hash of the public key of a certificate in the server's chain, in base64.
// If there are several, one of them must match. With a hash, a server at an address without a name is verified by its key alone (RFC 8310 section 5).
func ParseEndpoint(s string) (Endpoint, error) {
	fail := func(format string, args ...any) (Endpoint, error) {
		return Endpoint{}, fmt.Errorf("upstream %.80q: %w", s, fmt.Errorf(format, args...))
	}
	if len(s) > maxEndpoint {
		return fail("longer than %d bytes", maxEndpoint)
	}
	if strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return fail("it contains a space or a character that is not ASCII; several upstreams are separated by commas")
	}
	if strings.ContainsAny(s, `"'`) {
		return fail("remove the quotation marks")
	}
	if strings.Contains(s, ";") {
		return fail("several upstreams are separated by commas")
	}
	e := Endpoint{}
	scheme, rest, found := strings.Cut(s, "://")
	if word, _, _ := strings.Cut(s, ":"); !found && (isProtocol(word) || isProtocol(strings.TrimRight(strings.SplitN(s, "/", 2)[0], ":"))) {
		return fail("the transport is followed by ://, as in udp://192.0.2.1")
	}
	if !found {
		scheme, rest = "udp", s
	}
	i := protocolOf(scheme)
	if i < 0 {
		return fail("%w", unsupported(scheme, rest))
	}
	e.Protocol = Protocol(i)
	rest, fragment, hasFragment := strings.Cut(rest, "#")
	rest, at, hasAt := strings.Cut(rest, "@")
	rest, err := e.cutPath(rest)
	if err == nil {
		err = e.setHost(rest, found)
	}
	if err == nil && hasAt {
		err = e.setAddress(at)
	}
	if err == nil && hasFragment {
		err = e.setOptions(fragment)
	}
	if err != nil {
		return fail("%w", err)
	}
	return e, nil
}

// protocolOf returns the protocol with a name, as a number; -1 if there is none.
func protocolOf(scheme string) int {
	return slices.IndexFunc([]Protocol{UDP, TCP, TLS, HTTPS, QUIC}, func(t Protocol) bool { return t.String() == strings.ToLower(scheme) })
}

func isProtocol(word string) bool { return protocolOf(word) >= 0 }

// cutPath sets the path, and returns the text before it.
func (e *Endpoint) cutPath(text string) (rest string, err error) {
	rest, path, has := strings.Cut(text, "/")
	switch {
	case e.Protocol != HTTPS && has && path != "":
		return "", fmt.Errorf("%v has no path: only https has one", e.Protocol)
	case e.Protocol != HTTPS:
		return rest, nil
	}
	path = strings.TrimSuffix("/"+path, "{?dns}") // of the URI template (RFC 8484 section 4.1.1): queries are sent by POST
	if path == "/" {
		path = defaultPath
	}
	if strings.ContainsAny(path, "{}\\\"<>^`|") {
		return "", fmt.Errorf("the path %q contains a character that a URL may not contain", path)
	}
	if _, err := url.Parse("https://host" + path); err != nil {
		return "", fmt.Errorf("the path %q contains a percent sign without two hexadecimal digits after it", path)
	}
	e.Path = path
	return rest, nil
}

// setHost reads an address or a name, and a port if there is one.
func (e *Endpoint) setHost(host string, hasScheme bool) error {
	addr, err := parseAddr(host, e.Protocol.port())
	if err == nil {
		e.Addr = addr
		return nil
	}
	name, port, hasPort := strings.Cut(host, ":")
	if errors.Is(err, errNotHost) || !hostName(name) || isNumber(name[strings.LastIndexByte(name, '.')+1:]) {
		return err
	}
	n := uint64(e.Protocol.port())
	if hasPort {
		if n, err = strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("the text after the colon is not a port from 1 to 65535; a user and a password are not possible") // it may be a password
		}
	}
	e.Host = strings.ToLower(name)
	if !hasScheme {
		return fmt.Errorf("a host name needs a transport before it: write tls://%s, or udp://%s", e.Host, e.Host)
	}
	e.Addr = netip.AddrPortFrom(netip.Addr{}, uint16(n))
	if e.Protocol.Encrypted() {
		e.Name = e.Host
	}
	return nil
}

// setAddress reads the address of the host.
func (e *Endpoint) setAddress(text string) error {
	if e.Host == "" {
		if isNumber(text) {
			return fmt.Errorf("a port follows after a colon, not after @: write %s", net.JoinHostPort(e.Addr.Addr().String(), text))
		}
		return errors.New("an address after @ is the address of a host name, but the host is an address already")
	}
	text, path, _ := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil || path != "" {
		return fmt.Errorf("an IP address must follow after @, at the end of the URL, as in %v", e.WithAddress(netip.AddrFrom4([4]byte{192, 0, 2, 1})))
	}
	if err := oneHost(addr); err != nil {
		return err
	}
	*e = e.WithAddress(addr)
	return nil
}

// setOptions reads the text after #.
func (e *Endpoint) setOptions(fragment string) error {
	name, _, _ := strings.Cut(fragment, "&")
	words := strings.Split(fragment, "&")
	if !strings.Contains(name, "=") {
		if err := e.setName(name, len(words) > 1); err != nil {
			return err
		}
		words = words[1:]
	}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "pin-sha256":
			if err := e.addPin(value); err != nil {
				return err
			}
		case "weight":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > maxWeight {
				return fmt.Errorf("the weight %q is not a number from 1 to %d", value, maxWeight)
			}
			e.Weight = n
		default:
			return fmt.Errorf("%q is not known after #: possible are the name on the certificate, pin-sha256=HASH and weight=NUMBER, separated by &", word)
		}
	}
	return nil
}

// setName reads the name on the certificate. It may be empty if options follow.
func (e *Endpoint) setName(name string, more bool) error {
	switch before, port, found := strings.Cut(name, ":"); {
	case name == "" && more:
		return nil
	case !e.Protocol.Encrypted():
		return fmt.Errorf("#name is the name on the certificate, and %v has no certificate: only tls, https and quic have one", e.Protocol)
	case found && hostName(before):
		return fmt.Errorf("%q is not a host name: the port belongs before #, as in %v://%s:%s#%s", name, e.Protocol, e.hostText(), port, before)
	case !hostName(name):
		return fmt.Errorf("%q is not a host name", name)
	}
	e.Name = strings.ToLower(name)
	return nil
}

// addPin adds the hash of a public key.
func (e *Endpoint) addPin(text string) error {
	hash, err := base64.StdEncoding.DecodeString(text)
	if !e.Protocol.Encrypted() {
		return fmt.Errorf("pin-sha256 is the hash of a key, and %v has no key: only tls, https and quic have one", e.Protocol)
	}
	if err != nil || len(hash) != 32 {
		return fmt.Errorf("pin-sha256=%.60q is not a SHA-256 hash in base64, which has 44 characters", text)
	}
	pins := strings.Fields(e.Pins)
	if len(pins) == maxPins {
		return fmt.Errorf("more than %d pins", maxPins)
	}
	pins = append(pins, base64.StdEncoding.EncodeToString(hash))
	slices.Sort(pins)
	e.Pins = strings.Join(slices.Compact(pins), " ")
	return nil
}

// errNotHost is wrapped by errors about addresses that are no address of one host.
var errNotHost = errors.New("not the address of one host")

// oneHost returns an error unless addr can be the address of one host.
func oneHost(addr netip.Addr) error {
	if addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return fmt.Errorf("%v is %w", addr, errNotHost)
	}
	return nil
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
		return at, errors.New("the host is neither an IP address (an IPv6 one with a port in brackets) nor a host name")
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if at.Port() == 0 {
		return at, errors.New("port 0 cannot be reached")
	}
	return at, oneHost(at.Addr())
}

// unsupported returns an error that says what to write instead of an upstream with another transport.
func unsupported(scheme, rest string) error {
	switch strings.ToLower(scheme) {
	case "h2", "h3", "doh":
		return fmt.Errorf("%.20q is not a transport: write https://%s", scheme, rest)
	case "doq":
		return fmt.Errorf("%.20q is not a transport: write quic://%s", scheme, rest)
	case "dot":
		return fmt.Errorf("%.20q is not a transport: write tls://%s", scheme, rest)
	case "http":
		return errors.New("DNS over HTTP without encryption is not supported: write https://, with the same path")
	case "sdns":
		return errors.New("a DNS stamp is not supported: write the server as https://NAME/dns-query, tls://NAME or quic://NAME")
	}
	return fmt.Errorf("the transport %.20q is not known: udp, tcp, tls, https or quic, as in udp://192.0.2.1 or tls://dns.example", scheme)
}

// isNumber reports whether s consists of digits.
func isNumber(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c < '0' || c > '9' })
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

// hostText returns the host without a port.
func (e Endpoint) hostText() string {
	switch addr := e.Addr.Addr(); {
	case e.Host != "":
		return e.Host
	case addr.Is6():
		return "[" + addr.String() + "]"
	default:
		return addr.String()
	}
}

// String returns the endpoint in the format that ParseEndpoint reads, without a default port.
func (e Endpoint) String() string {
	var b strings.Builder
	b.WriteString(e.Protocol.String() + "://" + e.hostText())
	if port := e.Addr.Port(); port != e.Protocol.port() {
		fmt.Fprintf(&b, ":%d", port)
	}
	b.WriteString(e.Path)
	if e.Host != "" && !e.NeedsLookup() {
		b.WriteString("@" + e.Addr.Addr().String())
	}
	var options []string
	if e.Name != "" && e.Name != e.Host {
		options = append(options, e.Name)
	}
	for _, pin := range strings.Fields(e.Pins) {
		options = append(options, "pin-sha256="+pin)
	}
	if e.Weight > 0 {
		options = append(options, fmt.Sprintf("weight=%d", e.Weight))
	}
	if len(options) > 0 {
		b.WriteString("#" + strings.Join(options, "&"))
	}
	return b.String()
}
