package format

import (
	"bytes"

	"rempart/blocklist"
)

// only reads one line of the configured line format. A line of another format is refused.
func (p *parser) only(raw []byte) {
	line := p.meaning(raw)
	if line == nil {
		return
	}
	word, rest := cutField(line)
	oneWord := len(rest) == 0
	ok := true
	switch p.stats.Format {
	case Hosts:
		ok = p.onlyHosts(word, rest)
	case Domains:
		if ok = oneWord; ok {
			p.add(refang(word), blocklist.Subtree, blocklist.Block)
		}
	case Wildcards:
		if ok = oneWord; ok {
			name, starred := bytes.CutPrefix(word, []byte("*."))
			if !starred {
				name = bytes.TrimPrefix(name, []byte("."))
			}
			p.add(name, blocklist.Subtree, blocklist.Block)
		}
	case Adblock:
		p.onlyAdblock(line)
	case Dnsmasq:
		if ok = oneWord && isDnsmasq(word); ok {
			p.dnsmasq(word)
		}
	case Unbound:
		ok = p.unbound(line) || string(line) == "server:"
	case RPZ:
		if word[0] == '$' {
			p.directive(line)
		} else {
			ok = p.record(isBlank(raw[0]), line)
		}
	case URLs:
		if ok = oneWord; ok {
			p.url(word)
		}
	default:
		ok = false
	}
	if !ok {
		p.refuse(UnknownForm)
	}
}

// onlyHosts reads a line of a hosts file. Some publish theirs without the addresses.
func (p *parser) onlyHosts(word, rest []byte) bool {
	switch {
	case len(rest) == 0:
		p.add(word, blocklist.Exact, blocklist.Block)
	case isSink(word), isHostAddress(word):
		p.hosts(word, rest)
	default:
		return false
	}
	return true
}

// onlyAdblock reads a line of an adblock list. What is no rule on a whole host is refused as what it is;
// a bare name is a pattern, which matches a part of addresses.
func (p *parser) onlyAdblock(line []byte) {
	switch line[0] {
	case '|', '@':
		p.adblock(line)
	case '$':
		p.refuse(Modifier)
	default:
		p.refuse(otherRule(line))
	}
}
