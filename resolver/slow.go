package resolver

import (
	"context"
	"net/netip"
	"time"

	"rempart/internal/wire"
	"rempart/resolver/cache"
)

// Slow continues a query that Fast left until it is answered: it may wait for an upstream, within ctx and a client's patience. A query that was answered and
// whose answer should be refreshed gets no second answer. Slow is safe for concurrent use; q belongs to the caller again when it returns.
func (r *Resolver) Slow(ctx context.Context, q *wire.Query) {
	if q.Renew {
		r.renew(ctx, q)
		return
	}
	if r.proceed(ctx, q); q.Outcome == wire.Answered {
		r.count(q, r.now())
	}
}

// count counts a query that was answered at now, after Fast had left it.
func (r *Resolver) count(q *wire.Query, now clock) {
	r.slow.answered(q)
	r.slow.observe(now.nano-q.Asked, 1)
}

// Shed answers a query for which there is no place on the slow path. The answer has an extended error, is counted, and is not cached.
func (r *Resolver) Shed(q *wire.Query) {
	if r.ownProbe(q) { // a loop fills the slow path, and its probe must be seen then
		return
	}
	q.Fail(wire.ServFail, wire.EDE{Code: wire.EDENetworkError, Text: "overloaded"})
	r.slow.shed.Add(1)
	r.slow.answered(q)
}

// proceed takes a query through the steps of the slow path, top to bottom.
func (r *Resolver) proceed(ctx context.Context, q *wire.Query) {
	if q.Shape == wire.Uncommon && !r.understand(q) {
		return
	}
	now, view := r.now(), r.set.View()
	r.decide(q, wire.Common, view, now) // the complete order again: a block may have been added in the meantime
	if q.Outcome != wire.Slow {
		return
	}
	switch use, zoneAt := r.specialUse(q); {
	case use == grantAsked:
		r.setGrant(q, zoneAt)
		return
	case use == probed && r.ownProbe(q):
		return
	}
	r.slow.misses.Add(1)
	key := keyOf(q)
	old := r.stale(key, now)
	e := r.denied(key, now)
	if e == nil {
		e = r.await(ctx, key, q.Client, old)
	}
	r.conclude(q, e, old, r.set.View(), r.now())
}

// await asks upstream for key, together with other clients that ask the same, and returns the answer; the stale answer, if that takes too long or fails; or the
// failure.
func (r *Resolver) await(ctx context.Context, key cache.Key, client netip.Addr, old *cache.Answer) *cache.Answer {
	limit := patience
	if old != nil {
		limit = stalePatience
	}
	f := r.join(key, client, old != nil)
	if f == nil {
		r.slow.shed.Add(1)
		return r.orStale(old, overloaded(key, r.now()))
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-f.done:
		return r.orStale(old, f.answer)
	case <-timer.C:
	case <-ctx.Done():
	}
	return r.orStale(old, cache.Failure(key, r.now().mono, wire.EDE{Code: wire.EDENoReachable}))
}

// join joins the flight of key, or starts it, for a goroutine that waits; nil if there are too many flights. spared says that there is another answer.
func (r *Resolver) join(key cache.Key, client netip.Addr, spared bool) *flight {
	f, fresh := r.flights.join(key, client, r.now().nano, nil, true, r.slow)
	if fresh {
		f.spared = spared
		r.fly(f)
	}
	return f
}

// orStale returns got if it is an answer or reports a bogus name, else the stale answer if there is one, else got.
func (r *Resolver) orStale(old, got *cache.Answer) *cache.Answer {
	if old == nil || got.Rcode() == wire.Success || got.Rcode() == wire.NXDomain || got.Bogus() {
		return got
	}
	return old
}

// renew fetches an answer that is still valid, so that the next client finds a fresh one.
func (r *Resolver) renew(ctx context.Context, q *wire.Query) {
	r.slow.renewed.Add(1)
	f := r.join(keyOf(q), q.Client, true)
	if f == nil {
		return
	}
	select {
	case <-f.done:
	case <-ctx.Done():
	}
}

// ownProbe answers a query for a name with which this process probed an upstream, and reports whether it did: if that upstream's answer contains ours, the
// upstream leads here. A probe of another process is answered like any query.
func (r *Resolver) ownProbe(q *wire.Query) bool {
	use, zoneAt := r.specialUse(q)
	if use != probed {
		return false
	}
	secret := r.upstreams.Sighted(q.Name())
	for i := range r.zones {
		if s := r.zones[i].Upstreams.Sighted(q.Name()); s != "" {
			secret = s
		}
	}
	switch {
	case secret == "":
		return false
	case q.Type != wire.TypeTXT:
		r.answerSpecial(q, empty, zoneAt)
		return true
	}
	q.Begin(wire.Success)
	q.AddData(wire.SectionAnswer, wire.TypeTXT, 0, append([]byte{byte(len(secret))}, secret...))
	q.Finish(wire.Success)
	return true
}
