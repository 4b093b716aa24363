package format

import (
	"bytes"
	"strings"
)

// A STIX pattern (STIX 2.1 section 9) is understood if any one of its comparisons is enough for it to match: comparisons joined by OR, in one observation or several joined by OR, in parentheses
// or not. AND, FOLLOWEDBY, NOT and qualifiers of time need more than one lookup and are refused.

// alternative is one value that suffices for a pattern to match.
type alternative struct {
	kind  kind // domainKind, urlKind, or otherKind for values that DNS cannot match
	value []byte
}

const (
	maxAlternatives = 20_000
	maxPatternDepth = 32
)

// readPattern returns the alternatives of a pattern. It returns false for a pattern that is malformed or not understood.
func readPattern(text []byte) ([]alternative, bool) {
	p := &pattern{rest: text}
	p.next()
	if !p.either((*pattern).observation, 0) || p.token.kind != endToken {
		return nil, false
	}
	return p.found, true
}

type tokenKind uint8

const (
	endToken    tokenKind = iota
	wordToken             // a keyword, an object path, a number
	stringToken           // 'text', its escapes resolved
	signToken             // one of [ ] ( ) , =
	badToken
)

type token struct {
	kind tokenKind
	text []byte
}

func (t token) is(sign string) bool { return t.kind == signToken && string(t.text) == sign }

// pattern is a pattern being read.
type pattern struct {
	rest  []byte
	token token // the next
	found []alternative
}

// next reads the next token.
func (p *pattern) next() {
	p.rest = bytes.TrimLeft(p.rest, " \t\r\n")
	if len(p.rest) == 0 {
		p.token = token{}
		return
	}
	switch c := p.rest[0]; {
	case strings.IndexByte("[](),=", c) >= 0:
		p.token = token{signToken, p.rest[:1]}
		p.rest = p.rest[1:]
	case c == '\'':
		p.token = p.quoted()
	case isPathByte(c):
		n := 1
		for n < len(p.rest) && isPathByte(p.rest[n]) {
			n++
		}
		p.token = token{wordToken, p.rest[:n]}
		p.rest = p.rest[n:]
	default:
		p.token = token{kind: badToken}
	}
}

func isPathByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_-.:+", c) >= 0
}

// quoted reads a string literal. A backslash escapes a quote and itself.
func (p *pattern) quoted() token {
	var text []byte
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '\'':
			p.rest = p.rest[i+1:]
			return token{stringToken, text}
		case '\\':
			if i++; i == len(p.rest) || p.rest[i] != '\'' && p.rest[i] != '\\' {
				return token{kind: badToken}
			}
			text = append(text, p.rest[i])
		default:
			text = append(text, c)
		}
	}
	return token{kind: badToken}
}

// take consumes a sign if it is the next token.
func (p *pattern) take(sign string) bool {
	if !p.token.is(sign) {
		return false
	}
	p.next()
	return true
}

func (p *pattern) keyword(word string) bool {
	if p.token.kind != wordToken || string(p.token.text) != word {
		return false
	}
	p.next()
	return true
}

// either reads operands joined by OR, each one in parentheses or not.
func (p *pattern) either(operand func(*pattern) bool, depth int) bool {
	for {
		if p.take("(") {
			if depth == maxPatternDepth || !p.either(operand, depth+1) || !p.take(")") {
				return false
			}
		} else if !operand(p) {
			return false
		}
		if !p.keyword("OR") {
			return true
		}
	}
}

// observation reads "[comparison OR …]".
func (p *pattern) observation() bool {
	return p.take("[") && p.either((*pattern).comparison, 0) && p.take("]")
}

// comparison reads "path = 'text'" and "path IN ('text', …)". Of other paths and operators it reads
// so much as to go past them.
func (p *pattern) comparison() bool {
	if p.token.kind != wordToken {
		return false
	}
	k := otherKind
	switch string(p.token.text) {
	case "domain-name:value":
		k = domainKind
	case "url:value":
		k = urlKind
	}
	p.next()
	if p.token.kind == stringToken && k == otherKind { // file:hashes.'SHA-256'
		p.next()
	}
	switch {
	case p.take("="):
		return p.operand(k)
	case p.keyword("IN"):
		return p.set(k)
	case p.keyword("LIKE"), p.keyword("MATCHES"), p.keyword("ISSUBSET"), p.keyword("ISSUPERSET"):
		return p.operand(otherKind)
	}
	return false
}

func (p *pattern) set(k kind) bool {
	if !p.take("(") {
		return false
	}
	for {
		if !p.operand(k) {
			return false
		}
		if !p.take(",") {
			return p.take(")")
		}
	}
}

// operand reads a literal. A name or URL is a string.
func (p *pattern) operand(k kind) bool {
	switch {
	case len(p.found) == maxAlternatives:
		return false
	case p.token.kind == stringToken:
	case p.token.kind == wordToken && k == otherKind:
	default:
		return false
	}
	p.found = append(p.found, alternative{k, p.token.text})
	p.next()
	return true
}
