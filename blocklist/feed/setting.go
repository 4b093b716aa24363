package feed

import (
	"bytes"

	"rempart/blocklist"
)

// isDnsmasq knows the settings of dnsmasq that lists are written in.
func isDnsmasq(w []byte) bool {
	return hasPrefixFold(w, "address=/") || hasPrefixFold(w, "server=/") || hasPrefixFold(w, "local=/")
}

// dnsmasq reads "address=/a/b/target": each name and all below it. Without a target it blocks.
// With "address", so do "#" and a sink address; another address or a server is not a block.
func (p *parser) dnsmasq(w []byte) {
	isAddress := hasPrefixFold(w, "address=")
	_, value, _ := bytes.Cut(w, []byte("=/"))
	i := bytes.LastIndexByte(value, '/')
	if i < 0 {
		p.refuse(UnknownForm)
		return
	}
	names, target := value[:i], value[i+1:]
	if len(target) > 0 && !(isAddress && (string(target) == "#" || isSink(target))) {
		p.refuse(Redirect)
		return
	}
	for name := range bytes.SplitSeq(names, []byte("/")) {
		p.add(bytes.TrimPrefix(name, []byte(".")), blocklist.Subtree, blocklist.Block)
	}
}

// localZone reads what follows "local-zone:" in an unbound file: a name, quoted or not, and a type.
func (p *parser) localZone(rest []byte) {
	name, rest := cutField(rest)
	kind, _ := cutField(rest)
	switch string(kind) {
	case "always_nxdomain", "always_null", "always_nodata", "always_refuse", "always_deny",
		"static", "refuse", "deny", "redirect", "inform_deny", "inform_redirect":
		p.add(bytes.Trim(name, `"'`), blocklist.Subtree, blocklist.Block)
	case "":
		p.refuse(UnknownForm)
	default: // transparent and its kin: the zone is answered
		p.refuse(Redirect)
	}
}
