package resolver

import (
	"fmt"
	"net/netip"
	"time"

	"rempart/blocklist"
	"rempart/internal/wire"
)

// blockedAnswer holds the answers to blocked queries, prepared at start.
type blockedAnswer struct {
	style                 Style
	ipv4, ipv6            netip.Addr
	ttl                   uint32
	option                uint16
	sources               bool // reasons name the lists
	contact, organisation string
	orderPages            func(decision string) (ipv4, ipv6 netip.Addr) // Config.OrderPages
	database              string                                        // reasons name the decision in this filtering database; "" for none
	texts                 [2][categories]reasonTexts                    // by category; the second row is for Censored
}

// categories is the length of tables by category; further categories share the last row.
const categories = 8

func newBlockedAnswer(c Config) (blockedAnswer, error) {
	if c.BlockTTL == 0 {
		c.BlockTTL = defaultBlockTTL
	}
	b := blockedAnswer{style: c.Style, ttl: uint32(c.BlockTTL / time.Second), option: c.StructuredOption,
		sources: c.NameSources, contact: c.Contact, organisation: c.Organisation, database: c.Database, orderPages: c.OrderPages}
	switch {
	case c.Style > Null:
		return b, fmt.Errorf("no such way to answer a block: %d", c.Style)
	case c.PageIPv4.IsValid() && !c.PageIPv4.Is4():
		return b, fmt.Errorf("the page's IPv4 address is %s", c.PageIPv4)
	case c.PageIPv6.IsValid() && !c.PageIPv6.Is6():
		return b, fmt.Errorf("the page's IPv6 address is %s", c.PageIPv6)
	}
	b.ipv4, b.ipv6 = c.PageIPv4, c.PageIPv6
	if c.Style == Null {
		b.ipv4, b.ipv6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	}
	for i, mark := range []blocklist.Mark{blocklist.Blocked, blocklist.Censored} {
		for category := range b.texts[i] {
			f := grounds{category: blocklist.Category(category), mark: mark}
			full, short, err := b.structured(f)
			if err != nil {
				return b, err
			}
			b.texts[i][category] = reasonTexts{plain: f.category.String(), full: full, short: short}
		}
	}
	return b, nil
}

// byCategory returns the texts that name the category of a verdict only.
func (b *blockedAnswer) byCategory(v blocklist.Verdict) *reasonTexts {
	row := 0
	if v.Mark == blocklist.Censored {
		row = 1
	}
	return &b.texts[row][min(int(v.Category), categories-1)]
}

// cause holds further facts about a block; nil: the question's own name is blocked, which is the usual case.
type cause struct {
	canary bool    // the question is for a canary name: it is denied with every style
	target leadsTo // the name or address in the answer that is blocked; zero: the question's own name
}

// block answers q according to verdict. The answer is unsigned, whatever DO and CD are, and has a short TTL, so that an unblocked name works soon.
func (r *Resolver) block(q *wire.Query, view *blocklist.View, v blocklist.Verdict, why *cause) {
	b := &r.blocked
	texts := r.reason(view, v, why)
	mark := wire.EDEBlocked + uint16(v.Mark)
	if q.Structured {
		// A client that supports structured errors gets no forged answer, and so never EDE 4.
		rcode := b.deny(q, v)
		text := texts.full
		if len(text) > q.Room() {
			text = texts.short
		}
		q.Finish(rcode, wire.EDE{Code: mark, Text: text})
		return
	}
	addr := netip.Addr{}
	switch q.Type {
	case wire.TypeA:
		addr = b.ipv4
	case wire.TypeAAAA:
		addr = b.ipv6
	}
	if v.Mark == blocklist.Censored && b.orderPages != nil {
		addr = b.orderPage(q.Type, addr, view, v, texts)
	}
	// Firefox reads the last extended error only. If it is neither 4 nor 17, Firefox asks the system's resolver after an answer without an address
	// (deploy/browsers.md).
	reasons := []wire.EDE{{Code: mark, Text: texts.plain}, {Code: wire.EDEForged}}
	if mark == wire.EDEFiltered && (b.style == Refused || b.style == NXDomain || b.style == NoData) {
		reasons = reasons[:1]
	}
	switch {
	case b.style == Refused:
		q.Fail(wire.Refused, reasons...)
	case b.style == NXDomain || why != nil && why.canary:
		rcode := b.deny(q, v)
		q.Finish(rcode, reasons...)
	case addr.IsValid() && b.style != NoData:
		q.Begin(wire.Success)
		q.AddAddress(b.ttl, addr)
		q.Finish(wire.Success, reasons...)
	default:
		// Every other type has no data, so that no HTTPS record, mail exchanger or key bypasses the page.
		q.Begin(wire.Success)
		q.AddSOA(b.ttl, int(v.At))
		q.Finish(wire.Success, reasons...)
	}
}

// orderPage returns the address of the authority's own page for a query of that type, if the authority prescribes one for its order, else usual.
func (b *blockedAnswer) orderPage(typ uint16, usual netip.Addr, view *blocklist.View, v blocklist.Verdict, texts *reasonTexts) netip.Addr {
	if b.style == Null {
		return usual
	}
	decision := texts.decision
	if texts == b.byCategory(v) { // the entry has no texts of its own: see maxReasons
		entry, _ := view.Explain(nil, v)
		decision = entry.ID
	}
	ipv4, ipv6 := b.orderPages(decision)
	switch {
	case !ipv4.IsValid() && !ipv6.IsValid():
		return usual
	case typ == wire.TypeA:
		return ipv4
	case typ == wire.TypeAAAA:
		return ipv6
	}
	return usual
}

// deny begins a negative answer: NXDOMAIN if everything at and below the name is blocked, else NODATA, because NXDOMAIN denies the names below (RFC 8020).
func (b *blockedAnswer) deny(q *wire.Query, v blocklist.Verdict) (rcode int) {
	rcode = wire.NXDomain
	if v.Scope&blocklist.Below == 0 || v.HoldsPass {
		rcode = wire.Success
	}
	q.Begin(rcode)
	q.AddSOA(b.ttl, int(v.At))
	return rcode
}
