package feed

import (
	"bytes"

	"rempart/blocklist"
)

// adblock reads a rule of the adblock family. Of those, "||name^" alone speaks of a whole host:
// the name and what is below it. Everything else is about addresses, pages or parts of pages.
func (p *parser) adblock(line []byte) {
	decision := blocklist.Block
	rule := line
	if bytes.HasPrefix(rule, []byte("@@")) {
		decision = blocklist.Except
		rule = rule[2:]
	}
	if !bytes.HasPrefix(rule, []byte("||")) {
		p.refuse(otherRule(rule))
		return
	}
	pattern, modifiers, modified := bytes.Cut(rule[2:], []byte("$"))
	host, scope, why := wholeHost(trim(pattern))
	if why != accepted {
		p.refuse(why)
		return
	}
	cancels := false
	if modified {
		var ok bool
		if cancels, ok = wholeHostModifiers(modifiers); !ok {
			p.refuse(Modifier)
			return
		}
	}
	switch {
	case !cancels:
		p.add(host, scope, decision)
	case decision == blocklist.Block:
		p.cancel(host, scope)
	default: // an exception that is void: leaving it in force errs towards answering
		p.refuse(Modifier)
	}
}

func (p *parser) cancel(text []byte, scope blocklist.Scope) {
	name, why := appendName(p.name[:0], text)
	if why != accepted {
		p.refuseText(text, why)
		return
	}
	p.stats.Cancels++
	p.sink.Cancel(p.stats.Lines, name, scope)
}

// wholeHost is the host of a pattern "host^". "*.host^" reaches the names below host only: the
// dot it begins with must be there.
func wholeHost(pattern []byte) (host []byte, scope blocklist.Scope, why Reason) {
	host, anchored := bytes.CutSuffix(pattern, []byte("^"))
	host = trim(host)
	scope = blocklist.Subtree
	if below, ok := bytes.CutPrefix(host, []byte("*.")); ok {
		host, scope = below, blocklist.Below
	}
	switch {
	case isAddress(host):
		why = Address
	case isCosmetic(host):
		why = Cosmetic
	case bytes.ContainsAny(host, "/?=&"):
		why = URLPath
	case bytes.IndexByte(host, '*') >= 0:
		why = Wildcard
	case !anchored, bytes.ContainsAny(host, "^|:,"):
		why = Pattern
	}
	return host, scope, why
}

// wholeHostModifiers reports whether a rule with these modifiers still blocks its host whatever
// asks for it, and whether it voids ("badfilter") the rule it repeats.
//
// "all" and "document" block the visit itself, "important" only ranks rules. Under "third-party"
// and "popup" the host may still be visited, under "domain", "denyallow", "dnstype", "client" it is
// blocked for some only, and "removeparam" or "csp" block nothing: DNS cannot say any of that.
func wholeHostModifiers(list []byte) (badfilter, ok bool) {
	for modifier := range bytes.SplitSeq(list, []byte(",")) {
		switch string(trim(modifier)) {
		case "badfilter":
			badfilter = true
		case "all", "important", "document", "doc":
		default:
			return false, false
		}
	}
	return badfilter, true
}

// otherRule is why a rule without "||" is refused.
func otherRule(rule []byte) Reason {
	if len(rule) == 0 {
		return UnknownForm
	}
	if rule[0] == '/' {
		return slashed(rule)
	}
	if rule[0] != '|' {
		if why := notAName(rule); why != NotAName {
			return why
		}
		return Pattern
	}
	body := bytes.Trim(rule, "|^")
	if isAddress(body) {
		return Address
	}
	return Pattern
}
