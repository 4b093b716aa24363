package format

import (
	"bytes"
	"net/netip"
	"strings"

	"rempart/blocklist"
)

// strip returns a line without white space and comments; nil if nothing is left.
func (p *parser) strip(raw []byte) []byte {
	line := trim(raw)
	switch {
	case len(line) == 0:
		return nil
	case p.zone.inSOA > 0:
		p.zone.continueSOA(line)
		return nil
	case isComment(line):
		return nil
	}
	return cutComment(line)
}

// mixedLine reads one line of any format.
func (p *parser) mixedLine(raw []byte) {
	line := p.strip(raw)
	if line == nil {
		return
	}
	switch c := line[0]; {
	case c == '|', c == '@' && len(line) > 1 && !isBlank(line[1]): // "@ " owns a zone's first record
		p.adblock(line)
		return
	case c == '$':
		p.directive(line)
		return
	case c == '/':
		p.refuse(slashReason(line))
		return
	}
	word, rest := cutField(line)
	if len(rest) == 0 {
		p.word(word)
		return
	}
	p.fields(isBlank(raw[0]), line, word, rest)
}

// isComment knows whole-line comments: the marks in use, the adblock header, rulers.
func isComment(line []byte) bool {
	switch c := line[0]; c {
	case '#', '!', ';':
		return true
	case '/':
		return len(line) > 1 && line[1] == '/'
	case '[':
		return hasPrefixFold(line, "[adblock") || hasPrefixFold(line, "[ublock")
	case '=', '-', '*', '_', '~', '+':
		if c == '=' && bytes.HasPrefix(line, []byte("===")) {
			return true
		}
		return len(line) > 2 && len(bytes.Trim(line, string(rune(c)))) == 0 // "___id___.example.net" is a name
	}
	return false
}

// cutComment takes an inline comment off: a mark after white space, or "#" or ";" right behind a host or an adblock pattern of one.
// Elsewhere in a word these are a part of it (a fragment, a cosmetic rule, a target of dnsmasq).
func cutComment(line []byte) []byte {
	word, hostLike := 0, true // where the word begins that i is in, and whether it may be a host up to there
	for i, c := range line {
		switch {
		case isBlank(c):
			word, hostLike = i+1, true
			continue
		case i == 0:
		case i == word && (c == '#' || c == ';' || c == '/' && i+1 < len(line) && line[i+1] == '/'):
			return trim(line[:i])
		case i > word && hostLike && (c == ';' || c == '#' && !isCosmetic(line[word:])):
			return line[:i]
		}
		hostLike = hostLike && isHostLike(c)
	}
	return line
}

// isHostLike reports whether hosts, as people write them, and adblock patterns of hosts hold such a byte.
func isHostLike(c byte) bool {
	return hostByte[c] != 0 || c >= 0x80 || strings.IndexByte("*|^@[]()", c) >= 0
}

// fields reads a line of several words.
func (p *parser) fields(indented bool, line, word, rest []byte) {
	switch {
	case isSink(word), isHostAddress(word):
		p.hosts(word, rest)
	case isAddress(word):
		p.refuse(Redirect) // a network, an address with a port: no block of the names on the line
	case p.unbound(line):
	case p.record(indented, line):
	case isCosmetic(line):
		p.refuse(Cosmetic)
	default:
		p.refuse(UnknownForm)
	}
}

// hosts reads the names a hosts file gives to an address. An address that is no sink answers the name instead of blocking it.
func (p *parser) hosts(address, names []byte) {
	sink := isSink(address)
	for len(names) > 0 {
		var name []byte
		name, names = cutField(names)
		if sink {
			p.add(name, blocklist.Exact, blocklist.Block)
		} else {
			p.redirect(name, blocklist.Exact)
		}
	}
}

// word reads a line of one word.
func (p *parser) word(w []byte) {
	switch {
	case isDnsmasq(w):
		p.dnsmasq(w)
	case string(w) == "server:": // heads the settings of an unbound file
	default:
		p.indicator(w, blocklist.Subtree)
	}
}

// isSink reports whether a hosts file that gives this address to a name blocks the name: the
// unspecified, loopback and broadcast addresses, and what fills the head of such files.
func isSink(w []byte) bool {
	switch string(w) {
	case "0.0.0.0", "127.0.0.1", "0":
		return true
	}
	if !looksNumeric(w) {
		return false
	}
	a, err := netip.ParseAddr(string(w))
	if err != nil {
		return false
	}
	a = a.Unmap()
	return a.IsUnspecified() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
		a.Is6() && (a.IsLinkLocalUnicast() || a.IsMulticast())
}

// isHostAddress reports whether w is an address as defined in hosts(5).
func isHostAddress(w []byte) bool {
	if !looksNumeric(w) {
		return false
	}
	_, err := netip.ParseAddr(string(w))
	return err == nil
}

// isAddress reports whether w is an IP address or a network in any way lists write them.
func isAddress(w []byte) bool {
	if len(w) > 1 && w[0] == '[' {
		if i := bytes.IndexByte(w, ']'); i > 0 {
			w = w[1:i]
		}
	}
	w = cutIPv4Port(w)
	if !looksNumeric(w) {
		return false
	}
	if _, err := netip.ParseAddr(string(w)); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(string(w))
	return err == nil
}

// cutIPv4Port takes ":port" off an IPv4 address; in an IPv6 address the last colon is its own.
func cutIPv4Port(w []byte) []byte {
	if bytes.Count(w, []byte(":")) == 1 {
		return cutPort(w)
	}
	return w
}

// looksNumeric keeps names away from netip, whose errors cost an allocation each.
func looksNumeric(w []byte) bool {
	if len(w) == 0 || len(w) > 64 {
		return false
	}
	colon := bytes.IndexByte(w, ':') >= 0
	for _, c := range w {
		switch {
		case '0' <= c && c <= '9', c == '.', c == ':', c == '/':
		case c == '%':
			return colon
		case !colon || hostByte[c] < 'a' || hostByte[c] > 'f':
			return false
		}
	}
	return true
}

// slashReason returns Regex or URLPath for a text that begins with "/".
func slashReason(line []byte) Reason {
	body := line
	if i := bytes.LastIndexByte(line, '$'); i > 0 && line[i-1] == '/' {
		body = line[:i]
	}
	if len(body) > 1 && body[len(body)-1] == '/' && bytes.ContainsAny(body, `\^$*+?()[]{}|`) {
		return Regex
	}
	return URLPath
}

// nameReason returns the most specific reason why a text is not a name.
func nameReason(w []byte) Reason {
	has := func(chars string) bool { return bytes.ContainsAny(w, chars) }
	switch {
	case len(w) == 0:
		return NotAName
	case isAddress(w):
		return Address
	case isCosmetic(w):
		return Cosmetic
	case has(`\({+`):
		return Regex
	case has("/?"):
		return URLPath
	case has("$"):
		return Modifier
	case has("*"):
		return Wildcard
	case has("^|"):
		return Pattern
	case has(`=,;"'<>:[`):
		return UnknownForm
	}
	return NotAName
}

func isCosmetic(w []byte) bool {
	i := bytes.IndexByte(w, '#')
	if i < 0 || i+1 == len(w) {
		return false
	}
	switch w[i+1] {
	case '#':
		return true
	case '@', '?', '$', '%':
		return bytes.IndexByte(w[i+1:], '#') > 0
	}
	return false
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\v' || c == '\f' }

// trim takes the white space off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isBlank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// cutField splits the first word off; rest begins with the next, or is empty.
func cutField(b []byte) (word, rest []byte) {
	for i, c := range b {
		if isBlank(c) {
			return b[:i], trim(b[i:])
		}
	}
	return b, nil
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && equalFold(b[:len(prefix)], prefix)
}

// equalFold compares with a text in lower-case ASCII.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
