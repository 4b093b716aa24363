package format

import (
	"bytes"

	"rempart/blocklist"
)

// A URL names a page. It lists its host only if it has no path: a provider of pages has other content at other paths. On a shared host
// (pages.dev, a shortener) not even the front page represents the host.

// url reads "scheme://host", with or without the scheme.
func (p *parser) url(w []byte) {
	w = refang(w)
	scheme, rest, ok := bytes.Cut(w, []byte("://"))
	if !ok {
		scheme, rest = []byte("http"), w
	}
	host, page := cutPage(rest)
	switch {
	case isAddress(cutPort(host)):
		p.refuse(Address)
	case bytes.IndexByte(scheme, '*') >= 0 || bytes.IndexByte(host, '*') >= 0:
		p.refuse(Wildcard)
	case !isScheme(scheme):
		p.refuse(UnknownForm)
	case bytes.ContainsAny(rest, "^$|") && len(page) == 0:
		p.refuse(Pattern)
	case !p.opt.DeepURLs && (len(page) > 1 || len(page) == 1 && page[0] != '/'):
		p.refuse(URLPath)
	default:
		p.site(host)
	}
}

// site lists the host, with or without a port, of a URL without a page.
func (p *parser) site(host []byte) {
	host = cutPort(host)
	name, why := appendName(p.name[:0], host)
	switch {
	case why != accepted:
		p.refuseText(host, why)
	case p.opt.SharedHost != nil && p.opt.SharedHost(name):
		p.refuse(SharedHost)
	default:
		p.list(name, blocklist.Exact, blocklist.Block)
	}
}

// cutPage splits what follows a URL's scheme into its host and its path, query and fragment.
func cutPage(w []byte) (host, page []byte) {
	if i := bytes.IndexAny(w, "/?#"); i >= 0 {
		return w[:i], w[i:]
	}
	return w, nil
}

func isScheme(s []byte) bool {
	for _, known := range []string{"http", "https", "hxxp", "hxxps", "ftp", "ftps", "ws", "wss"} {
		if equalFold(s, known) {
			return true
		}
	}
	return false
}

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
