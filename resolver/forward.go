package resolver

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"rempart/blocklist"
	"rempart/internal/wire"
	"rempart/resolver/cache"
	"rempart/resolver/upstream"
)

// batchExchanger is an Exchanger that sends many questions without a goroutine for each; *upstream.Pool and *upstream.Switch are.
type batchExchanger interface {
	NewSender(limit time.Duration, receive func([]*upstream.Pending)) *upstream.Sender
}

// outbox collects questions for one Exchanger.
type outbox struct {
	to     Exchanger
	sender *upstream.Sender
	batch  []*upstream.Pending
}

// outboxes returns an outbox for each Exchanger that sends in batches.
func (r *Resolver) outboxes() (all []outbox) {
	add := func(to Exchanger) {
		if b, ok := to.(batchExchanger); ok {
			all = append(all, outbox{to: to, sender: b.NewSender(patience, r.received)})
		}
	}
	add(r.upstreams)
	for _, z := range r.zones {
		add(z.Upstreams)
	}
	return all
}

// Forward continues queries that Fast left, as Slow does, but without waiting: each is answered later, and then passed to its Returner. It returns the queries
// that Slow must handle, as a part of queries. One goroutine at a time may call Forward of a Worker, always with the same ctx. When ctx ends, the waiting queries
// of all Workers are answered immediately. The other queries belong to Forward until their Returner receives them.
func (w *Worker) Forward(ctx context.Context, queries []*wire.Query) (left []*wire.Query) {
	if w.ctx == nil {
		w.ctx = ctx
		context.AfterFunc(ctx, func() { w.answerImpatient(math.MaxInt64) })
	}
	now, view := w.now(), w.set.View()
	left = queries[:0]
	w.answered = w.answered[:0]
	for _, q := range queries {
		if q.Shape != wire.Common || w.needsSlow(q) {
			left = append(left, q)
			continue
		}
		w.forward(q, view, now)
	}
	for i := range w.out {
		w.flush(&w.out[i])
	}
	giveBack(w.answered)
	return left
}

// needsSlow reports whether only Slow can continue a query: it may be one with which this process probes an upstream, or it asks for a grant.
func (r *Resolver) needsSlow(q *wire.Query) bool {
	use, _ := r.specialUse(q)
	return use == probed || use == grantAsked
}

// forward starts or joins the flight of one query, or answers the query.
func (w *Worker) forward(q *wire.Query, view *blocklist.View, now clock) {
	key := keyOf(q)
	if q.Renew {
		w.slow.renewed.Add(1)
		if fl, fresh := w.flights.join(key, q.Client, now.nano, nil, false, w.slow); fresh {
			w.ask(fl)
		}
		q.Outcome = wire.Dropped // it has been answered before
		w.answered = append(w.answered, q)
		return
	}
	w.slow.misses.Add(1)
	old := w.stale(key, now)
	if e := w.denied(key, now); e != nil {
		w.finish(q, e, old, view, now)
		w.answered = append(w.answered, q)
		return
	}
	wait := w.waiters.Get().(*waiter)
	*wait = waiter{q: q, old: old, until: now.nano + int64(patience)}
	if old != nil {
		wait.until = now.nano + int64(stalePatience)
	}
	fl, fresh := w.flights.join(key, q.Client, now.nano, wait, false, w.slow)
	switch {
	case fl == nil:
		w.waiters.Put(wait)
		w.slow.shed.Add(1)
		w.finish(q, w.orStale(old, overloaded(key, now)), old, view, now)
		w.answered = append(w.answered, q)
		return
	case fresh:
		w.ask(fl)
	}
	w.sweep()
}

// ask puts the question of a fresh flight into an outbox, or asks it in a goroutine.
func (w *Worker) ask(fl *flight) {
	to := w.exchanger(fl.key.Name, fl.key.Type)
	for i := range w.out {
		if o := &w.out[i]; o.to == to {
			fl.pending.Question, fl.pending.Owner = fl.question(), fl
			o.batch = append(o.batch, &fl.pending)
			return
		}
	}
	w.fly(fl)
}

// flush sends the questions of an outbox.
func (w *Worker) flush(o *outbox) {
	if len(o.batch) == 0 {
		return
	}
	for _, p := range o.sender.Send(o.batch) {
		w.fly(p.Owner.(*flight))
	}
	o.batch = o.batch[:0]
}

// fly asks the question of a flight in a goroutine.
func (r *Resolver) fly(fl *flight) {
	go func() {
		ctx, cancel := context.WithTimeout(r.flights.ctx, patience)
		defer cancel()
		r.land(fl, r.fetch(ctx, fl), nil)
	}()
}

// received is called with questions that have ended.
func (r *Resolver) received(ended []*upstream.Pending) {
	now := r.now()
	out := r.lists.Get().(*[]*wire.Query)
	for _, p := range ended {
		fl := p.Owner.(*flight)
		r.land(fl, r.store(fl.key, p.Answer, p.Err, fl.asked, now), out)
	}
	giveBack(*out)
	*out = (*out)[:0]
	r.lists.Put(out)
}

// land ends a flight and answers the queries that waited for it. It appends the queries to out. If out is nil, it passes them to their Returners.
func (r *Resolver) land(fl *flight, e *cache.Answer, out *[]*wire.Query) {
	defer r.flights.running.Done()
	waiting, next := r.flights.land(fl, e)
	if next != nil {
		r.fly(next)
	}
	if waiting == nil {
		return
	}
	var own []*wire.Query
	if out == nil {
		out = &own
		defer func() { giveBack(own) }()
	}
	now, view := r.now(), r.set.View()
	for w := waiting; w != nil; {
		r.finish(w.q, r.orStale(w.old, e), w.old, view, now)
		*out = append(*out, w.q)
		done := w
		w = w.next
		*done = waiter{}
		r.waiters.Put(done)
	}
}

// conclude answers a query from an entry, after its verdict: set and time may have changed while it waited.
func (r *Resolver) conclude(q *wire.Query, e, old *cache.Answer, view *blocklist.View, now clock) {
	verdict := r.match(q, view, now)
	if r.blocks(view, verdict) {
		r.block(q, view, verdict, &cause{canary: isCanary(q.Name())})
	} else {
		r.answer(q, e, e == old && !e.Fresh(now.mono), verdict, view, now)
	}
}

// finish concludes a query of Forward, and counts it.
func (r *Resolver) finish(q *wire.Query, e, old *cache.Answer, view *blocklist.View, now clock) {
	r.conclude(q, e, old, view, now)
	r.count(q, now)
}

// giveBack passes queries to their Returners, those with the same one together.
func giveBack(queries []*wire.Query) {
	for len(queries) > 0 {
		n := 1
		for n < len(queries) && queries[n].Return == queries[0].Return {
			n++
		}
		queries[0].Return.Return(queries[:n])
		queries = queries[n:]
	}
}

// sweeper answers queries whose patience has ended. It runs while queries wait.
type sweeper struct {
	running atomic.Bool
	work    sync.WaitGroup
}

// sweep starts the sweeper if it does not run.
func (r *Resolver) sweep() {
	if r.sweeper.running.Load() || !r.sweeper.running.CompareAndSwap(false, true) {
		return
	}
	r.sweeper.work.Go(func() {
		timer := time.NewTicker(sweepEvery)
		defer timer.Stop()
		for range timer.C {
			if r.answerImpatient(0) {
				continue
			}
			r.sweeper.running.Store(false)
			if !r.answerImpatient(0) || !r.sweeper.running.CompareAndSwap(false, true) {
				return
			}
		}
	})
}

// answerImpatient answers the queries whose patience has ended, or would end within early nanoseconds, from stale data or with a failure. It reports whether others
// wait.
func (r *Resolver) answerImpatient(early int64) (left bool) {
	now, view := r.now(), r.set.View()
	all, left := r.flights.impatient(now.nano + min(early, math.MaxInt64-now.nano))
	var out []*wire.Query
	for w := all; w != nil; w = w.next {
		r.finish(w.q, r.orStale(w.old, cache.Failure(keyOf(w.q), now.mono, wire.EDE{Code: wire.EDENoReachable})), w.old, view, now)
		out = append(out, w.q)
	}
	giveBack(out)
	return left
}

// overloaded returns the failure of a question for which there is no room. It is not cached.
func overloaded(key cache.Key, now clock) *cache.Answer {
	return cache.Failure(key, now.mono, wire.EDE{Code: wire.EDENetworkError, Text: "overloaded"})
}
