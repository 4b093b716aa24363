package resolver

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"rempart/blocklist"
	"rempart/internal/wire"
	"rempart/resolver/cache"
)

// Explanation is the verdict that a client gets for a name, with its reasons.
type Explanation struct {
	View    *blocklist.View // the view that decided
	Verdict blocklist.Verdict
	Target  []byte     // the name in the answer that is blocked, canonical; nil: the question's own name, or Address
	Address netip.Addr // the address in the answer that is blocked; not valid: none
	Rebinds bool       // the answer is withheld because a public name has an address of the local network
	Special bool       // the name is answered here, independent of lists and upstreams
}

// explainTypes are the types whose answers are checked: those with which clients connect to a site.
var explainTypes = [...]uint16{wire.TypeA, wire.TypeAAAA, wire.TypeHTTPS}

// Explain judges name as a query for it would be judged. It checks the name's own entry first; if there is none, it checks every target in the answers
// of the cache or of the upstream. name is canonical and borrowed for the call. An error means that the upstream gave no answer; the explanation then
// holds the verdict of the name's own entry.
func (r *Resolver) Explain(ctx context.Context, name []byte) (Explanation, error) {
	now, x := r.now(), r.ExplainName(name)
	if x.Special || x.Verdict.Action != blocklist.Pass || len(name) == 1 {
		return x, nil
	}
	view := x.View
	var failed error
	for _, typ := range explainTypes {
		key := cache.Key{Name: name, Type: typ, Class: wire.ClassIN}
		e := r.cache.Get(&key)
		if e == nil || !e.Fresh(now.mono) {
			e = r.await(ctx, key, netip.Addr{}, nil)
		}
		if rcode := e.Rcode(); rcode != wire.Success && rcode != wire.NXDomain {
			failed = fmt.Errorf("no upstream answered for %s (rcode %d): where it leads is not known", wire.Text(name), rcode)
			continue
		}
		t := r.judge(e, view, nil, r.now())
		if t.verdict.Action == blocklist.BlockedBy {
			x.Verdict, x.Target, x.Address = t.verdict, t.leadsTo.name, t.leadsTo.addr
			return x, nil
		}
		x.Rebinds = x.Rebinds || t.rebinds
	}
	return x, failed
}

// ExplainName is Explain without the targets: it waits for nothing.
func (r *Resolver) ExplainName(name []byte) Explanation {
	x := Explanation{View: r.set.View()}
	use, _ := r.specialUse(questionOf(name))
	switch use {
	case ordinary, judgedFirst, listedCanary:
		x.Verdict = x.View.Match(name, r.enforced, r.now().unix)
	}
	x.Special = use != ordinary
	return x
}

// questionOf returns a query for the IPv4 addresses of name.
func questionOf(name []byte) *wire.Query {
	q := &wire.Query{Packet: append(make([]byte, wire.HeaderLen, wire.HeaderLen+len(name)+4), name...)}
	q.Packet[2], q.Packet[5] = 1, 1 // RD, one question
	q.Packet = binary.BigEndian.AppendUint16(q.Packet, wire.TypeA)
	q.Packet = binary.BigEndian.AppendUint16(q.Packet, wire.ClassIN)
	q.Parse(0)
	return q
}
