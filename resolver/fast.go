package resolver

import (
	"net/netip"

	"rempart/blocklist"
	"rempart/internal/wire"
	"rempart/resolver/cache"
)

// Fast takes each query of a batch as far as it gets without waiting: answered, dropped, or
// left to Slow. It reads the clock and the set once a batch, never blocks and allocates nothing.
func (w *Worker) Fast(batch []wire.Query) {
	now, view := w.now(), w.set.View()
	for i := range batch {
		q := &batch[i]
		q.Asked = now.nano
		shape := q.Parse(w.blocked.option)
		if shape == wire.Uncommon && w.Serves(q.Client) {
			q.Outcome = wire.Slow
			continue
		}
		w.decide(q, shape, view, now)
		if q.Outcome == wire.Answered {
			w.counts.answered(q)
		}
	}
	w.counts.latency(w.now().nano-now.nano, batch)
}

// decide is the order in which a query is judged, top to bottom: the first step that has an
// answer gives it.
func (r *Resolver) decide(q *wire.Query, shape wire.Shape, view *blocklist.View, now clock) {
	switch shape {
	case wire.NotAQuery:
		q.Outcome = wire.Dropped
		return
	case wire.BadFormat:
		q.Fail(wire.FormErr)
		return
	case wire.BadOpcode:
		q.Fail(wire.NotImp)
		return
	}
	if !r.Serves(q.Client) {
		q.Fail(wire.Refused, wire.EDE{Code: wire.EDEProhibited})
		return
	}
	if shape == wire.BadEDNS {
		q.Fail(wire.BadVers)
		return
	}
	if q.Class != wire.ClassIN {
		r.otherClass(q)
		return
	}
	if r.metaType(q) {
		return
	}
	use, zoneAt := r.specialUse(q)
	switch use {
	case ordinary, judgedFirst, probed:
	default:
		r.answerSpecial(q, use, zoneAt)
		return
	}
	verdict := r.match(q, view, now)
	if r.blocks(verdict) {
		r.block(q, view, verdict)
		return
	}
	if use == judgedFirst {
		r.answerSpecial(q, use, zoneAt)
		return
	}
	if !q.Has(wire.FlagRD) {
		// Nothing here is authoritative, and what others asked for is nobody's business.
		q.Fail(wire.Refused, wire.EDE{Code: wire.EDENotAuthority})
		return
	}
	if q.Type == wire.TypeANY {
		r.answerANY(q)
		return
	}
	if use == probed {
		q.Outcome = wire.Slow // perhaps one of our own probes, come back
		return
	}
	r.fromCache(q, verdict, view, now)
}

// match is the view's verdict on the question, noted for counting. DS and DNSKEY are never blocked:
// they belong to the chain of trust of other names.
func (r *Resolver) match(q *wire.Query, view *blocklist.View, now clock) blocklist.Verdict {
	if chainOfTrust(q.Type) {
		return blocklist.Verdict{Until: blocklist.Forever}
	}
	v := view.Match(q.Name(), r.enforced, now.unix)
	q.Verdict = uint8(v.Action)
	return v
}

func chainOfTrust(typ uint16) bool { return typ == wire.TypeDS || typ == wire.TypeDNSKEY }

// blocks reports whether a verdict is to be answered as a block.
func (r *Resolver) blocks(v blocklist.Verdict) bool {
	return v.Action == blocklist.BlockedBy && !r.observe
}

// Serves reports whether a client may ask.
func (r *Resolver) Serves(client netip.Addr) bool {
	for _, p := range r.clients {
		if p.Contains(client) {
			return true
		}
	}
	return len(r.clients) == 0
}

// fromCache answers from the cache, or leaves the query to Slow.
func (r *Resolver) fromCache(q *wire.Query, verdict blocklist.Verdict, view *blocklist.View, now clock) {
	key := keyOf(q)
	e := r.cache.Get(&key)
	if e == nil || !e.Fresh(now.mono) && !(e.Failed(now.mono) && e.Stale(now.mono)) {
		q.Outcome = wire.Slow
		return
	}
	q.Cached = true
	r.answer(q, e, !e.Fresh(now.mono), verdict, view, now)
	if q.Verdict == uint8(verdict.Action) && e.Renew(now.mono) {
		q.Renew = true
	}
}

func keyOf(q *wire.Query) cache.Key {
	return cache.Key{Name: q.Name(), Type: q.Type, Class: q.Class, DO: q.DO, CD: q.Has(wire.FlagCD)}
}

// answer gives what an entry holds, if its targets pass under view; verdict is the question's.
func (r *Resolver) answer(q *wire.Query, e *cache.Entry, stale bool, verdict blocklist.Verdict, view *blocklist.View, now clock) {
	if verdict.Action != blocklist.Allowed && !chainOfTrust(q.Type) {
		if target := r.judge(e, view, now); target.Action == blocklist.BlockedBy {
			q.Verdict = uint8(blocklist.BlockedBy)
			if !r.observe {
				target.At, target.HoldsPass = 0, true // the question itself is not listed: only its data is denied
				r.block(q, view, target)
				return
			}
		}
	}
	e.Answer(q, now.mono, stale)
	var errs [3]wire.EDE
	n := 0
	if stale {
		r.slow.stale.Add(1)
		errs[n].Code = wire.EDEStale
		if e.Rcode() == wire.NXDomain {
			errs[n].Code = wire.EDEStaleNXDomain
		}
		n++
	}
	n += copy(errs[n:], e.Errors())
	q.Finish(e.Rcode(), errs[:n]...)
}

// judge matches every target of an answer, and the addresses in it, unless all passed under this view before. A pass
// that time may change is not noted.
func (r *Resolver) judge(e *cache.Entry, view *blocklist.View, now clock) blocklist.Verdict {
	addresses := view.HoldsPrefixes()
	if !e.HasTargets() && !addresses || e.Judged(view.Version()) {
		return blocklist.Verdict{}
	}
	lasting := true
	for rest := e.TargetBytes(); len(rest) > 0; {
		n := wire.NameLen(rest)
		if n == 0 {
			break
		}
		v := view.Match(rest[:n], r.enforced, now.unix)
		if v.Action == blocklist.BlockedBy {
			return v
		}
		lasting = lasting && v.Until == blocklist.Forever
		rest = rest[n:]
	}
	blocked := blocklist.Verdict{}
	if addresses {
		e.EachAddress(func(addr netip.Addr) bool {
			v := view.MatchAddr(addr, r.enforced, now.unix)
			lasting = lasting && v.Until == blocklist.Forever
			if v.Action == blocklist.BlockedBy {
				blocked = v
			}
			return v.Action != blocklist.BlockedBy
		})
	}
	if lasting && blocked.Action == blocklist.Pass {
		e.MarkJudged(view.Version())
	}
	return blocked
}
