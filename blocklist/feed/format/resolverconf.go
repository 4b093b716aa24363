package format

import (
	"bytes"

	"rempart/blocklist"
)

// isDnsmasq knows the settings of dnsmasq that lists are written in.
func isDnsmasq(w []byte) bool {
	return hasPrefixFold(w, "address=/") || hasPrefixFold(w, "server=/") || hasPrefixFold(w, "local=/")
}

// dnsmasq reads "address=/a/b/target": each name, with or without "*." before it, and all below it. Without a target it blocks. With "address", so do "#" and a sink
// address. Other targets say that the names are answered: by another address, by a server, by the usual servers ("server=/a/#").
func (p *parser) dnsmasq(w []byte) {
	isAddress := hasPrefixFold(w, "address=")
	_, value, _ := bytes.Cut(w, []byte("=/"))
	i := bytes.LastIndexByte(value, '/')
	if i < 0 {
		p.refuse(UnknownForm)
		return
	}
	names, target := value[:i], value[i+1:]
	for name := range bytes.SplitSeq(names, []byte("/")) {
		excepts := !isAddress && string(target) == "#"
		if rest, ok := bytes.CutPrefix(name, []byte("*")); ok && (excepts || len(rest) > 0 && rest[0] == '.') {
			name = rest
			if excepts { // dnsmasq reads "*" as any characters, or none
				p.refuse(InexactException)
			}
		}
		name = bytes.TrimPrefix(name, []byte("."))
		switch {
		case len(target) == 0, isAddress && (string(target) == "#" || isSink(target)):
			p.add(name, blocklist.Subtree, blocklist.Block)
		case isAddress:
			p.redirect(name, blocklist.Subtree)
		case excepts:
			p.add(name, blocklist.Subtree, blocklist.Except)
		default:
			p.exceptAnswered(name, blocklist.Subtree)
		}
	}
}

// unbound reads a setting of unbound that lists are written in. It returns false for any other line.
func (p *parser) unbound(line []byte) bool {
	key, rest, _ := bytes.Cut(line, []byte(":"))
	switch {
	case equalFold(key, "local-zone"):
		p.localZone(trim(rest))
	case equalFold(key, "local-data"):
		p.localData(trim(rest))
	default:
		return false
	}
	return true
}

// localZone reads what follows "local-zone:" in an unbound file: a name, quoted or not, and a type. Of nested zones unbound uses the
// innermost.
func (p *parser) localZone(rest []byte) {
	name, rest := cutField(rest)
	name = bytes.Trim(name, `"'`)
	kind, _ := cutField(rest)
	switch string(kind) {
	case "always_nxdomain", "always_null", "always_nodata", "always_refuse", "always_deny",
		"static", "refuse", "deny", "redirect", "inform_deny", "inform_redirect":
		p.add(name, blocklist.Subtree, blocklist.Block)
	case "transparent", "typetransparent", "always_transparent", "inform", "nodefault", "noview":
		p.add(name, blocklist.Subtree, blocklist.Except)
	default:
		p.refuse(UnknownForm)
	}
}

// localData reads what follows "local-data:" in an unbound file: a record in quotes. An address record with a sink address blocks the owner name.
// With another address the owner gets an answer, most often under a local-zone of the same list, which blocks it: the record alone says neither
// that the name is to pass nor that it is to be blocked.
func (p *parser) localData(rest []byte) {
	owner, rest := cutField(trim(bytes.Trim(rest, `"'`)))
	kind, address := cutField(rest)
	for range 2 { // TTL and class, in either order
		if isTTL(kind) || equalFold(kind, "in") {
			kind, address = cutField(address)
		}
	}
	switch {
	case !equalFold(kind, "a") && !equalFold(kind, "aaaa"), !isHostAddress(address):
		p.refuse(UnknownForm)
	case isSink(address), p.opt.RedirectsBlock:
		p.add(owner, blocklist.Exact, blocklist.Block)
	default:
		p.refuse(Redirect)
	}
}
