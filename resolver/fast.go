package resolver

import (
	"net/netip"

	"rempart/blocklist"
	"rempart/internal/wire"
	"rempart/resolver/cache"
	"rempart/resolver/cookie"
)

// chunk is the number of queries per step: about as many reads of memory as a core can have under way.
const chunk = 32

// Fast takes each query of a batch as far as possible without waiting: answered, dropped, or left to Slow. It reads the clock and the set once per batch, never
// blocks and allocates nothing.
func (w *Worker) Fast(batch []wire.Query) {
	now, view, secrets := w.now(), w.set.View(), w.cookies()
	for rest := batch; len(rest) > 0; {
		n := min(len(rest), chunk)
		w.decideAll(rest[:n], view, secrets, now)
		rest = rest[n:]
	}
	w.counts.batch(w.now().nano-now.nano, batch)
}

// decideAll takes a chunk of queries through the steps of decide, one step for all queries before the next, so that the reads of memory overlap.
func (w *Worker) decideAll(queries []wire.Query, view *blocklist.View, secrets *cookie.Secrets, now clock) {
	var (
		open     [chunk]*wire.Query
		uses     [chunk]specialUse
		names    [chunk][]byte
		verdicts [chunk]blocklist.Verdict
		keys     [chunk]cache.Key
	)
	n := 0
	for i := range queries {
		q := &queries[i]
		q.Asked = now.nano
		shape := q.Parse(w.blocked.option)
		if q.Cookie > wire.MalformedCookie && secrets != nil {
			secrets.Serve(q, now.unix)
		}
		if shape == wire.Uncommon && w.Serves(q.Client) {
			q.Outcome = wire.Slow
			continue
		}
		if use, judged := w.begin(q, shape); judged {
			open[n], uses[n], names[n] = q, use, q.Name()
			n++
		}
	}
	view.MatchBatch(names[:n], w.enforced, now.unix, verdicts[:n])
	left := 0
	for i, q := range open[:n] {
		if verdicts[i].Action == blocklist.BlockedBy && w.grants != nil && w.grants.table.May(q.Client, now.mono) {
			verdicts[i] = w.pass(q, verdicts[i], view, now)
		}
		v := w.noted(q, verdicts[i])
		if w.settle(q, uses[i], view, v) {
			continue
		}
		open[left], verdicts[left], keys[left] = q, v, keyOf(q)
		left++
	}
	w.cache.Near(keys[:left])
	for i, q := range open[:left] {
		w.fromCache(q, &keys[i], verdicts[i], view, now)
	}
}

// decide judges a query: the first step that has an answer gives it.
func (r *Resolver) decide(q *wire.Query, shape wire.Shape, view *blocklist.View, now clock) {
	use, judged := r.begin(q, shape)
	if !judged {
		return
	}
	v := r.match(q, view, now)
	if r.settle(q, use, view, v) {
		return
	}
	key := keyOf(q)
	r.fromCache(q, &key, v, view, now)
}

// begin answers queries that need no verdict, top to bottom. judged reports that a verdict is needed.
func (r *Resolver) begin(q *wire.Query, shape wire.Shape) (use specialUse, judged bool) {
	switch shape {
	case wire.NotAQuery:
		q.Outcome = wire.Dropped
		return use, false
	case wire.BadFormat:
		q.Fail(wire.FormErr)
		return use, false
	case wire.BadOpcode:
		q.Fail(wire.NotImp)
		return use, false
	}
	if !r.clients.table.Load().holds(q.Client) { // Serves, inlined
		r.clients.refuse(q.Client)
		q.Fail(wire.Refused, wire.EDE{Code: wire.EDEProhibited})
		return use, false
	}
	switch shape {
	case wire.BadEDNS:
		q.Fail(wire.BadVers)
		return use, false
	case wire.CookieOnly:
		r.answerCookie(q)
		return use, false
	}
	if q.Class != wire.ClassIN {
		r.otherClass(q)
		return use, false
	}
	if q.Type != wire.TypeA && (r.metaType(q) || r.answerDiscovery(q)) { // most ask for A
		return use, false
	}
	use, zoneAt := r.specialUse(q)
	switch use {
	case ordinary, judgedFirst, probed, listedCanary:
		return use, true
	case grantAsked:
		q.Outcome = wire.Slow // storing a grant takes a lock
		return use, false
	}
	r.answerSpecial(q, use, zoneAt)
	return use, false
}

// answerCookie answers a query without a question (RFC 7873 section 5.4).
func (r *Resolver) answerCookie(q *wire.Query) {
	switch {
	case r.cookies() == nil:
		q.Fail(wire.FormErr)
	case q.Cookie == wire.WrongCookie:
		q.Fail(wire.BadCookie)
	default:
		q.Fail(wire.Success)
	}
}

// settle answers queries that the verdict and the query's own facts decide. It returns false for a query that the cache may answer.
func (r *Resolver) settle(q *wire.Query, use specialUse, view *blocklist.View, v blocklist.Verdict) bool {
	switch {
	case r.blocks(view, v):
		if use == listedCanary {
			r.block(q, view, v, &cause{canary: true})
			break
		}
		r.block(q, view, v, nil)
	case use == judgedFirst:
		r.answerSpecial(q, use, lastLabel(q.Name()))
	case !q.Has(wire.FlagRD):
		// Nothing here is authoritative, and a cached answer would reveal what others asked.
		q.Fail(wire.Refused, wire.EDE{Code: wire.EDENotAuthority})
	case q.Type == wire.TypeANY:
		r.answerANY(q)
	case use == probed:
		q.Outcome = wire.Slow // it may be one of our own probes
	default:
		return false
	}
	return true
}

// match returns the view's verdict on the question and records it in q.
func (r *Resolver) match(q *wire.Query, view *blocklist.View, now clock) blocklist.Verdict {
	return r.noted(q, r.matchFor(q, view, now))
}

// matchFor returns the view's verdict on the question for the client of q.
func (r *Resolver) matchFor(q *wire.Query, view *blocklist.View, now clock) blocklist.Verdict {
	v := view.Match(q.Name(), r.enforced, now.unix)
	if v.Action == blocklist.BlockedBy {
		v = r.pass(q, v, view, now)
	}
	return v
}

// noted records a verdict in q for the metrics and returns it. DS and DNSKEY are never blocked: they belong to the chain of trust of other names.
func (r *Resolver) noted(q *wire.Query, v blocklist.Verdict) blocklist.Verdict {
	if chainOfTrust(q.Type) {
		return blocklist.Verdict{Until: blocklist.Forever}
	}
	q.Verdict, q.Entry = uint8(v.Action), v.Entry
	return v
}

func chainOfTrust(typ uint16) bool { return typ == wire.TypeDS || typ == wire.TypeDNSKEY }

// blocks reports whether a verdict of view is answered as a block.
func (r *Resolver) blocks(view *blocklist.View, v blocklist.Verdict) bool {
	return v.Action == blocklist.BlockedBy && r.enforces(view)
}

// enforces reports whether blocks are answered as such: not in observe mode, and not while enforcement is suspended.
func (r *Resolver) enforces(view *blocklist.View) bool { return !r.observe && !view.Suspended() }

// fromCache answers from the cache, or leaves the query to Slow.
func (r *Resolver) fromCache(q *wire.Query, key *cache.Key, verdict blocklist.Verdict, view *blocklist.View, now clock) {
	e := r.cache.Get(key)
	if e == nil || !e.Fresh(now.mono) && !(e.Failed(now.mono) && e.Servable(now.mono)) {
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

// answer answers q from an entry whose targets pass under view. verdict is the question's.
func (r *Resolver) answer(q *wire.Query, e *cache.Answer, stale bool, verdict blocklist.Verdict, view *blocklist.View, now clock) {
	if chainOfTrust(q.Type) && e.HasTargets() { // an alias is no zone: nobody needs it to verify another name (RFC 1034 section 3.6.2)
		verdict = r.matchFor(q, view, now)
		if r.blocks(view, verdict) {
			r.block(q, view, verdict, nil)
			return
		}
	}
	if r.mustJudge(e, view) && verdict.Action != blocklist.Allowed && r.divert(q, e, view, now) {
		return
	}
	e.WriteAnswer(q, now.mono, stale)
	if q.GrantEnd != 0 {
		r.useGrant(q, now)
	}
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

// target is what judge found among the targets of an answer.
type target struct {
	verdict blocklist.Verdict
	leadsTo leadsTo // of a verdict that blocks
	rebinds bool
}

// leadsTo is a name or an address in an answer.
type leadsTo struct {
	name []byte // canonical
	addr netip.Addr
}

// mustJudge reports whether an answer has targets that were not seen to pass under this view.
func (r *Resolver) mustJudge(e *cache.Answer, view *blocklist.View) bool {
	return (e.HasTargets() || r.rebinding.refused || view.HoldsPrefixes()) && !e.Judged(view.Stamp())
}

// divert answers q otherwise if e has a blocked target, and reports whether it did.
func (r *Resolver) divert(q *wire.Query, e *cache.Answer, view *blocklist.View, now clock) bool {
	t := r.judge(e, view, nil, now)
	if t.verdict.Action == blocklist.BlockedBy {
		t = r.judgeFor(q, t, e, view, now)
	}
	if t.verdict.Action == blocklist.BlockedBy {
		q.Verdict, q.Entry = uint8(blocklist.BlockedBy), t.verdict.Entry
		if r.enforces(view) {
			t.verdict.At, t.verdict.HoldsPass = 0, true // the question itself is not listed: only its data is denied
			r.block(q, view, t.verdict, &cause{canary: isCanary(q.Name()), target: t.leadsTo})
			return true
		}
	}
	if t.rebinds && !r.observe {
		r.refuseRebinding(q)
		return true
	}
	return false
}

// judge matches every target of an answer, and the addresses in it, for a client that passes the blocks of continued; nil for all other clients. If all pass for them,
// it notes that for this view, unless an entry's start or expiry may change it.
func (r *Resolver) judge(e *cache.Answer, view *blocklist.View, continued *blocklist.Continuable, now clock) (t target) {
	lasting := true
	for rest := e.TargetBytes(); len(rest) > 0; {
		n := wire.NameLen(rest)
		if n == 0 {
			break
		}
		v := view.MatchContinued(rest[:n], r.enforced, continued, now.unix)
		if v.Action == blocklist.BlockedBy {
			return target{verdict: v, leadsTo: leadsTo{name: rest[:n]}}
		}
		lasting = lasting && v.Until == blocklist.Forever
		rest = rest[n:]
	}
	if view.HoldsPrefixes() {
		e.EachAddress(func(addr netip.Addr) bool {
			v := view.MatchAddrContinued(addr, r.enforced, continued, now.unix)
			if inner, ok := r.embeddings.inner(addr); ok && v.Action == blocklist.Pass {
				lasting = lasting && v.Until == blocklist.Forever
				v = view.MatchAddrContinued(inner, r.enforced, continued, now.unix)
			}
			lasting = lasting && v.Until == blocklist.Forever
			if v.Action == blocklist.BlockedBy {
				t = target{verdict: v, leadsTo: leadsTo{addr: addr}}
			}
			return v.Action != blocklist.BlockedBy
		})
	}
	t.rebinds = r.rebinding.refused && r.rebinds(e)
	if continued == nil && lasting && t.verdict.Action == blocklist.Pass && !t.rebinds {
		e.MarkJudged(view.Stamp())
	}
	return t
}
