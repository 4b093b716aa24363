package format

import (
	"bytes"

	"rempart/blocklist"
)

// adblock reads an adblock rule. "||name^" applies to a whole host, the name and all names below it, and "|name^" to the name itself. All other
// rules are about addresses, pages or parts of pages.
func (p *parser) adblock(line []byte) {
	if rule, ok := bytes.CutPrefix(line, []byte("@@")); ok {
		p.exception(rule)
		return
	}
	if line[0] != '|' {
		p.refuse(otherRule(line))
		return
	}
	pattern, modifiers, _ := bytes.Cut(line, []byte("$"))
	host, scope, why := wholeHost(trim(pattern))
	if why != accepted {
		p.refuse(why)
		return
	}
	switch m := readModifiers(modifiers); {
	case m.other, m.page, m.redirect && m.badfilter:
		p.refuse(Modifier)
	case m.badfilter:
		p.cancel(host, scope)
	case m.redirect && !p.opt.RedirectsBlock:
		p.exceptAnswered(host, scope)
	default:
		p.add(host, scope, blocklist.Block)
		for name := range bytes.SplitSeq(m.denyallow, []byte("|")) {
			if at := len(name) - len(host); at > 0 && name[at-1] == '.' && bytes.EqualFold(name[at:], host) { // others it does not reach anyway
				p.add(name, blocklist.Subtree, blocklist.Except)
			}
		}
	}
}

// exception reads a rule without its "@@". It is applied where it names a host, to no more than that host and the names below
// it. An exception that cannot be applied exactly as written is reported too: names that its author wants to pass may stay blocked.
func (p *parser) exception(rule []byte) {
	if address, names := cutField(trim(rule)); len(names) > 0 && (isSink(address) || isHostAddress(address)) {
		p.exceptHosts(names)
		return
	}
	pattern, modifiers, _ := bytes.Cut(rule, []byte("$"))
	host, scope, why := wholeHost(trim(pattern))
	loose := why != accepted || isDefanged(host)
	if loose {
		host, scope = looseHost(host, scope)
	}
	name, notName := appendName(p.name[:0], host)
	switch m := readModifiers(modifiers); {
	case m.badfilter: // an exception that is void: leaving it in force errs towards answering
		p.refuse(Modifier)
	case notName != accepted, m.other, m.redirect, len(m.denyallow) > 0:
		p.refuse(InexactException)
	default:
		p.list(name, scope, blocklist.Except)
		if loose || m.page {
			p.refuse(InexactException)
		}
	}
}

// exceptHosts excepts the names of a hosts file's line, which "@@" is not part of.
func (p *parser) exceptHosts(names []byte) {
	for len(names) > 0 {
		var host []byte
		host, names = cutField(names)
		if name, why := appendName(p.name[:0], refang(host)); why == accepted {
			p.list(name, blocklist.Exact, blocklist.Except)
		}
	}
	p.refuse(InexactException)
}

// looseHost returns the host, and the scope of the exception, of a pattern that matches one host and other addresses: ok.example for "*ok.example*",
// "ok.example:443" and "ok.example/". host and scope are the results of wholeHost, which refused the pattern. If the pattern matches a page or many
// hosts, the result is not a name.
func looseHost(host []byte, scope blocklist.Scope) ([]byte, blocklist.Scope) {
	host = refang(host)
	if _, site, ok := bytes.Cut(host, []byte("://")); ok {
		host, scope = site, blocklist.Exact
	}
	host = bytes.TrimPrefix(host, []byte("//"))
	host = bytes.TrimLeft(host, "*")
	host = bytes.TrimPrefix(host, []byte("."))
	return cutPort(bytes.TrimRight(host, "*^|/")), scope
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

// wholeHost returns the host of a pattern "||host^" (the host and all below it) or "|host^" (the host itself), whose end may be
// marked by "|" as well. "||*.host^" reaches the names below host only: the dot it begins with must be there. If the
// pattern also matches other addresses, it returns the host and the Reason Pattern.
func wholeHost(pattern []byte) (host []byte, scope blocklist.Scope, why Reason) {
	host, subtree := bytes.CutPrefix(pattern, []byte("||"))
	scope = blocklist.Subtree
	begins := subtree
	if !subtree {
		if host, begins = bytes.CutPrefix(pattern, []byte("|")); begins {
			scope = blocklist.Exact
		}
	}
	host, last := bytes.CutSuffix(host, []byte("|"))
	host, separated := bytes.CutSuffix(host, []byte("^"))
	host = trim(host)
	if below, ok := bytes.CutPrefix(host, []byte("*.")); ok && scope == blocklist.Subtree {
		host, scope = below, blocklist.Below
	}
	switch {
	case isAddress(host):
		why = Address
	case isCosmetic(host):
		why = Cosmetic
	case !begins && len(host) > 0 && host[0] == '/':
		why = slashReason(host)
	case bytes.Contains(host, []byte("://")):
		why = Pattern
	case bytes.ContainsAny(host, "/?=&"):
		why = URLPath
	case bytes.IndexByte(host, '*') >= 0:
		why = Wildcard
	case !begins || !last && !separated, bytes.ContainsAny(host, "^|:,"):
		why = Pattern
	}
	return host, scope, why
}

// ruleModifiers is the meaning of the modifiers of a rule.
type ruleModifiers struct {
	badfilter bool   // the rule that this one repeats is void
	redirect  bool   // the answer is another name or address
	page      bool   // an exception for what browsers do to pages of the host: its author wants the host to work
	other     bool   // the rule does not apply to its host for every client and request
	denyallow []byte // names that a block does not reach, separated by "|"
}

// readModifiers reads a list of modifiers.
//
// "all" and "document" block the visit itself, "important" only ranks rules, and "dnsrewrite" without an address or name is a block. Under
// "third-party" and "popup" the host may still be visited, under "domain", "dnstype", "client" it is blocked for some only, and
// "removeparam" or "csp" block nothing: DNS cannot say any of that.
func readModifiers(list []byte) (m ruleModifiers) {
	if len(list) == 0 {
		return m
	}
	for modifier := range bytes.SplitSeq(list, []byte(",")) {
		key, value, _ := bytes.Cut(trim(modifier), []byte("="))
		switch string(key) {
		case "badfilter":
			m.badfilter = true
		case "all", "important", "document", "doc":
		case "generichide", "ghide", "elemhide", "ehide", "specifichide", "shide", "genericblock", "urlblock", "jsinject", "content", "extension", "stealth":
			m.page = true
		case "denyallow":
			m.denyallow = value
		case "dnsrewrite":
			m.redirect = m.redirect || !isBlockRewrite(value)
		default:
			m.other = true
		}
	}
	return m
}

// isBlockRewrite reports whether AdGuard's "dnsrewrite" with this value is a block: a bare code, or a sink address. Without a value
// it is part of an exception only.
func isBlockRewrite(value []byte) bool {
	code, rest, _ := bytes.Cut(value, []byte(";"))
	kind, data, _ := bytes.Cut(rest, []byte(";"))
	switch {
	case len(value) == 0, isSink(value):
		return true
	case equalFold(code, "nxdomain"), equalFold(code, "refused"), equalFold(code, "servfail"):
		return true
	case equalFold(code, "noerror"):
		return len(kind)+len(data) == 0 || isSink(data)
	}
	return false
}

// otherRule returns why a rule that does not begin with "|" is refused.
func otherRule(rule []byte) Reason {
	if len(rule) == 0 {
		return UnknownForm
	}
	if rule[0] == '/' {
		return slashReason(rule)
	}
	if why := nameReason(rule); why != NotAName {
		return why
	}
	return Pattern
}
