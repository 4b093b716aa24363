package feed

import (
	"bytes"
	"net/netip"

	"rempart/blocklist"
)

// entry reads one line.
func (p *parser) entry(raw []byte) {
	line := trim(raw)
	if len(line) == 0 {
		return
	}
	if p.zone.inSOA > 0 {
		p.zone.continueSOA(line)
		return
	}
	if isComment(line) {
		return
	}
	line = cutComment(line)
	switch c := line[0]; {
	case c == '|', c == '@' && len(line) > 1 && !isBlank(line[1]): // "@ " owns a zone's first record
		p.adblock(line)
		return
	case c == '$':
		p.directive(line)
		return
	case c == '/':
		p.refuse(slashed(line))
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

// cutComment takes an inline comment off: a mark after white space. A "#" inside a word is
// a part of it (a fragment, a cosmetic rule).
func cutComment(line []byte) []byte {
	for i := 1; i < len(line); i++ {
		if !isBlank(line[i-1]) {
			continue
		}
		switch line[i] {
		case '/':
			if i+1 == len(line) || line[i+1] != '/' {
				continue
			}
			fallthrough
		case '#', ';':
			return trim(line[:i])
		}
	}
	return line
}

// fields reads a line of several words.
func (p *parser) fields(indented bool, line, word, rest []byte) {
	switch {
	case isSink(word):
		for len(rest) > 0 {
			var name []byte
			name, rest = cutField(rest)
			p.add(name, blocklist.Exact, blocklist.Block)
		}
	case isAddress(word):
		p.refuse(Redirect) // a hosts file that answers with a host's own address blocks nothing
	case hasPrefixFold(word, "local-zone:"):
		p.localZone(rest)
	case p.record(indented, line):
	case isCosmetic(line):
		p.refuse(Cosmetic)
	default:
		p.refuse(UnknownForm)
	}
}

// word reads a line of one word.
func (p *parser) word(w []byte) {
	name, why := appendName(p.name[:0], w)
	switch {
	case why == accepted:
		p.list(name, blocklist.Subtree, blocklist.Block)
		return
	case why != NotAName:
		p.refuse(why)
		return
	}
	switch {
	case isDnsmasq(w):
		p.dnsmasq(w)
	case string(w) == "server:": // heads the local-zone lines of an unbound file
	case bytes.Contains(w, []byte("://")):
		p.url(w)
	case bytes.Contains(w, []byte("[.]")):
		p.defanged(refang(w))
	case w[0] == '.' && len(w) > 1 && w[1] != '.':
		p.add(w[1:], blocklist.Subtree, blocklist.Block)
	case bytes.HasPrefix(w, []byte("*.")):
		p.add(w[2:], blocklist.Subtree, blocklist.Block)
	default:
		p.host(w)
	}
}

// defanged reads a word whose dots were written "[.]".
func (p *parser) defanged(w []byte) {
	if name, why := appendName(p.name[:0], w); why == accepted {
		p.list(name, blocklist.Subtree, blocklist.Block)
		return
	}
	p.host(w)
}

// host reads "host:port" and "host/": they name a host, and no name below it.
func (p *parser) host(w []byte) {
	if isAddress(w) {
		p.refuse(Address)
		return
	}
	host := cutPort(bytes.TrimSuffix(w, []byte("/")))
	if len(host) == len(w) {
		p.refuse(notAName(w))
		return
	}
	p.add(host, blocklist.Exact, blocklist.Block)
}

// url reads "scheme://host": a host if nothing follows it, refused if a page does.
func (p *parser) url(w []byte) {
	scheme, rest, _ := bytes.Cut(w, []byte("://"))
	rest = refang(rest)
	host, page := rest, []byte(nil)
	if i := bytes.IndexAny(rest, "/?#"); i >= 0 {
		host, page = rest[:i], rest[i:]
	}
	switch {
	case isAddress(cutPort(host)):
		p.refuse(Address)
	case bytes.IndexByte(scheme, '*') >= 0 || bytes.IndexByte(host, '*') >= 0:
		p.refuse(Wildcard)
	case !isScheme(scheme):
		p.refuse(UnknownForm)
	case bytes.ContainsAny(rest, "^$|") && len(page) == 0:
		p.refuse(Pattern)
	case len(page) > 1 || len(page) == 1 && page[0] != '/':
		p.refuse(URLPath)
	default:
		p.add(cutPort(host), blocklist.Exact, blocklist.Block)
	}
}

func isScheme(s []byte) bool {
	for _, known := range []string{"http", "https", "hxxp", "hxxps", "ftp"} {
		if equalFold(s, known) {
			return true
		}
	}
	return false
}

func refang(w []byte) []byte { return bytes.ReplaceAll(w, []byte("[.]"), []byte(".")) }

// cutPort takes ":port" off.
func cutPort(host []byte) []byte {
	i := bytes.LastIndexByte(host, ':')
	if i <= 0 || i == len(host)-1 || len(host)-i > len(":65535") {
		return host
	}
	for _, c := range host[i+1:] {
		if c < '0' || c > '9' {
			return host
		}
	}
	return host[:i]
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
		case !colon || hostOctet[c] < 'a' || hostOctet[c] > 'f':
			return false
		}
	}
	return true
}

// slashed tells a regular expression from a path, both of which begin with "/".
func slashed(line []byte) Reason {
	body := line
	if i := bytes.LastIndexByte(line, '$'); i > 0 && line[i-1] == '/' {
		body = line[:i]
	}
	if len(body) > 1 && body[len(body)-1] == '/' && bytes.ContainsAny(body, `\^$*+?()[]{}|`) {
		return Regex
	}
	return URLPath
}

// notAName finds the reason that says most about a text that is no name.
func notAName(w []byte) Reason {
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
