package format

import (
	"bytes"

	"rempart/blocklist"
)

// isSTIX reports whether a claim is a STIX object: its identifier is its type and a UUID.
func (c *claim) isSTIX() bool {
	kind, _, ok := bytes.Cut(c.texts[idRole], []byte("--"))
	return ok && len(kind) > 0 && bytes.Equal(kind, c.texts[kindRole])
}

// stix reads the STIX 2 object that p.claim is. Of those only an indicator asks for something to be
// done; a domain-name object was merely seen.
func (p *parser) stix() {
	c := &p.claim
	if string(c.texts[kindRole]) != "indicator" {
		return
	}
	c.computeTimes()
	language := c.texts[patternKindRole]
	switch {
	case len(language) > 0 && string(language) != "stix":
		p.refuse(Pattern)
		return
	case c.withheld:
		p.refuse(NotToBlock)
		return
	case c.badTime:
		p.refuse(BadTime)
		return
	}
	alternatives, ok := readPattern(c.texts[patternRole])
	if !ok {
		p.refuse(Pattern)
		return
	}
	for _, a := range alternatives {
		switch a.kind {
		case domainKind:
			p.indicator(a.value, blocklist.Subtree)
		case urlKind:
			p.url(a.value)
		default:
			p.refuse(Pattern)
		}
	}
}
