package format

import (
	"bytes"

	"rempart/blocklist"
)

// strictLine reads one line of the configured line format. A line of another format is refused.
func (p *parser) strictLine(raw []byte) {
	line := p.strip(raw)
	if line == nil {
		return
	}
	word, rest := cutField(line)
	oneWord := len(rest) == 0
	ok := true
	switch p.stats.Format {
	case Hosts:
		ok = p.strictHosts(word, rest)
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
		p.strictAdblock(line)
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

// strictHosts reads a line of a hosts file. Some publish theirs without the addresses.
func (p *parser) strictHosts(word, rest []byte) bool {
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

// strictAdblock reads a line of an adblock list. A line that is not a rule on a whole host is refused with the closest reason;
// a bare name is a pattern, which matches a part of addresses.
func (p *parser) strictAdblock(line []byte) {
	switch line[0] {
	case '|', '@':
		p.adblock(line)
	case '$':
		p.refuse(Modifier)
	default:
		p.refuse(otherRule(line))
	}
}
