package format

import (
	"bytes"
	"strings"

	"rempart/blocklist"
)

// Indicator reads a host as people write it: a name, "*.name" or ".name", a URL that names no page, a host with a port, each in its usual form or
// defanged ("hxxps://evil[.]example", "evil(.)example", "evil[dot]example"), or the line "||name^" or "0.0.0.0 name" of a list. Every place where Rempart takes a name uses this grammar: lists,
// pushes, allow files, released names, commands. It returns the canonical wire name and the scope that the text implies: Exact for a URL, a
// host with a port, "|name^" or a hosts line, otherwise Subtree. The error is a Reason.
func Indicator(text string) (name []byte, scope blocklist.Scope, err error) {
	return readIndicator(text, Options{})
}

// Host is Indicator for a question about a host, where a URL may also name a page.
func Host(text string) (name []byte, err error) {
	name, _, err = readIndicator(text, Options{DeepURLs: true})
	return name, err
}

func readIndicator(text string, opt Options) (name []byte, scope blocklist.Scope, err error) {
	var s singleSink
	p := &parser{opt: opt, sink: &s}
	p.singleIndicator(bytes.Trim(cleanText([]byte(text)), " \t\r\n"))
	if s.name == nil {
		return nil, 0, s.why
	}
	return s.name, s.scope, nil
}

// singleIndicator reads an indicator, or a line of an adblock or hosts list that blocks one host: "||name^", "|name^", "0.0.0.0 name". Of
// modifiers it takes those that do not limit the rule ("$important").
func (p *parser) singleIndicator(line []byte) {
	word, rest := cutField(line)
	switch {
	case len(line) > 0 && line[0] == '|':
		pattern, modifiers, _ := bytes.Cut(line, []byte("$"))
		host, scope, why := wholeHost(trim(pattern))
		if m := readModifiers(modifiers); why == accepted && (m.other || m.page || m.redirect || m.badfilter || m.denyallow != nil) {
			why = Modifier
		}
		if why != accepted {
			p.refuse(why)
			return
		}
		if scope == blocklist.Below { // as "*.name" is read elsewhere
			scope = blocklist.Subtree
		}
		p.add(refang(host), scope, blocklist.Block)
	case len(rest) > 0 && isSink(word):
		p.add(refang(rest), blocklist.Exact, blocklist.Block)
	default:
		p.indicator(line, blocklist.Subtree)
	}
}

// Grammar has the functions Indicator and IsNameColumn as methods, for packages that take them as an interface. Its errors are sentences.
type Grammar struct{}

// Indicator is the function Indicator.
func (Grammar) Indicator(text string) (name []byte, scope blocklist.Scope, err error) {
	name, scope, err = Indicator(text)
	return name, scope, Explain(err)
}

// IsNameColumn is the function IsNameColumn.
func (Grammar) IsNameColumn(title string) bool { return IsNameColumn(title) }

// singleSink is a Sink for one listing or one refusal.
type singleSink struct {
	name  []byte
	scope blocklist.Scope
	why   Reason
}

func (s *singleSink) Add(_ int, l blocklist.Listing)      { s.name, s.scope = bytes.Clone(l.Name), l.Scope }
func (s *singleSink) Cancel(int, []byte, blocklist.Scope) {}
func (s *singleSink) Refuse(_ int, why Reason)            { s.why = why }

// CutComment returns a line of a list without white space around it and without its comment.
func CutComment(line []byte) []byte {
	line = trim(clean(line))
	if len(line) == 0 || isComment(line) {
		return nil
	}
	return cutComment(line)
}

// indicator reads a word that names a host or a page: a name of the given scope, a URL, or
// either as people write it.
func (p *parser) indicator(w []byte, scope blocklist.Scope) {
	name, why := appendName(p.name[:0], w)
	if why == NotAName && isDefanged(w) {
		w = refang(w)
		name, why = appendName(p.name[:0], w)
	}
	switch {
	case why == accepted:
		p.list(name, scope, blocklist.Block)
	case why != NotAName:
		p.refuse(why)
	case len(w) == 0:
		p.refuse(NotAName)
	case bytes.Contains(w, []byte("://")):
		p.url(w)
	case w[0] == '.' && len(w) > 1 && w[1] != '.':
		p.add(w[1:], blocklist.Subtree, blocklist.Block)
	case bytes.HasPrefix(w, []byte("*.")):
		p.add(w[2:], blocklist.Subtree, blocklist.Block)
	default:
		p.host(w)
	}
}

// host reads "host:port" and "host/", which name the host without the names below it, and "host/page", which names a page.
func (p *parser) host(w []byte) {
	host, page := cutPage(w)
	switch why := nameReason(w); {
	case why == Address:
		p.refuse(Address)
	case len(page) == 1 && page[0] == '/', len(page) > 0 && why == URLPath && p.opt.DeepURLs:
		p.site(host)
	case len(page) == 0 && len(cutPort(w)) < len(w):
		p.add(cutPort(w), blocklist.Exact, blocklist.Block)
	default:
		p.refuse(why)
	}
}

// fangs replaces the ways in which people defang a host by the usual characters.
var fangs = strings.NewReplacer("[.]", ".", "(.)", ".", "{.}", ".", "[dot]", ".", "(dot)", ".", "{dot}", ".", "[DOT]", ".", "(DOT)", ".", "{DOT}", ".", "[Dot]", ".", "(Dot)", ".", "{Dot}", ".", "[:]", ":", "[://]", "://", "[/]", "/")

// isDefanged reports whether fangs would change a text.
func isDefanged(w []byte) bool {
	return bytes.ContainsAny(w, "[({") && fangs.Replace(string(w)) != string(w)
}

// refang returns a text with the usual characters instead of defanged ones.
func refang(w []byte) []byte {
	if !bytes.ContainsAny(w, "[({") {
		return w
	}
	return []byte(fangs.Replace(string(w)))
}
