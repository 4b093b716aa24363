package resolver

import (
	"context"
	"errors"

	"rempart/internal/wire"
	"rempart/resolver/cache"
	"rempart/resolver/upstream"
)

// fetch asks upstream and stores the answer, or, for a short time, the failure.
func (r *Resolver) fetch(ctx context.Context, fl *flight) *cache.Answer {
	asked := r.now().nano
	a, err := r.exchanger(fl.key.Name, fl.key.Type).Exchange(ctx, fl.question())
	return r.store(fl.key, a, err, asked, r.now())
}

func (fl *flight) question() upstream.Question {
	key := &fl.key
	return upstream.Question{Name: key.Name, Type: key.Type, Class: key.Class, DO: key.DO, CD: key.CD, Spared: fl.spared}
}

// store stores the result of asking upstream at asked (clock.nano): the answer, or, for a short time, the failure (RFC 9520).
func (r *Resolver) store(key cache.Key, a upstream.Answer, err error, asked int64, t clock) *cache.Answer {
	now := t.mono
	var e *cache.Answer
	if err == nil {
		r.heard.Store(t.nano)
		if r.outage.Load() && r.outage.Swap(false) {
			r.ForgetFailures()
		}
		e, err = cache.NewAnswer(key, a.Packed, a.Authenticated, now)
	}
	switch {
	case err == nil:
	case errors.Is(err, upstream.ErrBusy), errors.Is(err, upstream.ErrShortage):
		return cache.Failure(key, now, failureOf(err)...) // a lack of places or descriptors says nothing about the name
	case errors.Is(err, cache.ErrAnswer), r.heard.Load() > asked:
		e = cache.Failure(key, now, failureOf(err)...)
	default:
		r.outage.Store(true)
		e = cache.Outage(key, now, failureOf(err)...)
	}
	if e.Keepable() {
		r.cache.Put(e, now)
	}
	return e
}

// ForgetFailures lets questions that failed be asked again at once: call it when upstreams are known to answer again. It is safe for concurrent use.
func (r *Resolver) ForgetFailures() { r.cache.ForgetFailures() }

// failureOf returns the extended errors for a question without an answer.
func failureOf(err error) []wire.EDE {
	switch {
	case errors.Is(err, cache.ErrAnswer):
		return []wire.EDE{{Code: wire.EDEInvalidData}}
	case errors.Is(err, upstream.ErrBusy), errors.Is(err, upstream.ErrShortage):
		return []wire.EDE{{Code: wire.EDENetworkError, Text: "overloaded"}}
	case errors.Is(err, upstream.ErrLoop):
		return []wire.EDE{{Code: wire.EDENetworkError, Text: "upstream forwards back to this server"}}
	default:
		return []wire.EDE{{Code: wire.EDENoReachable}}
	}
}
