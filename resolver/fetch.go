package resolver

import (
	"context"
	"errors"
	"net/netip"
	"sync"

	"rempart/internal/fair"
	"rempart/internal/wire"
	"rempart/resolver/cache"
	"rempart/resolver/upstream"
)

// flights are the questions being asked upstream now, so that equal ones are asked once.
type flights struct {
	zones   *fair.Places[string]       // by the last labels of the name
	clients *fair.Places[netip.Prefix] // by the client that asked first
	mu      sync.Mutex
	byKey   map[flightKey]*flight
	running sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
}

type flightKey struct {
	name        string
	typ, class  uint16
	do, checked bool
}

// flight is one question: entry is set, never nil, when done is closed.
type flight struct {
	done  chan struct{}
	entry *cache.Answer
}

// init makes room for most questions upstream at a time. No zone and no client gets all places, so that questions for zones with silent servers leave
// places for others.
func (f *flights) init(most int) {
	f.zones = fair.New[string](most, most/4)
	f.clients = fair.New[netip.Prefix](most, most/8) // fewer than zones reserve, so that one silent zone cannot take all places of a resolver that asks for many people
	f.byKey = map[flightKey]*flight{}
	f.ctx, f.cancel = context.WithCancel(context.Background())
}

// close ends the questions under way and waits for them.
func (f *flights) close() {
	f.cancel()
	f.running.Wait()
}

// join returns the flight of key, and starts it with fetch if there is none; nil if there are too many. The flight continues after the client that started it
// has left.
func (f *flights) join(key cache.Key, client netip.Addr, fetch func(context.Context, cache.Key) *cache.Answer, c *counts) *flight {
	k := flightKey{string(key.Name), key.Type, key.Class, key.DO, key.CD}
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.byKey[k]; fl != nil {
		c.coalesced.Add(1)
		return fl
	}
	zone := zoneOf(k.name)
	own, network := fair.Client(client)
	if !f.clients.Take(own, network) {
		return nil
	}
	if !f.zones.Take(zone, zone) {
		f.clients.Return(own, network)
		return nil
	}
	fl := &flight{done: make(chan struct{})}
	f.byKey[k] = fl
	key.Name = []byte(k.name)
	f.running.Go(func() {
		ctx, cancel := context.WithTimeout(f.ctx, patience)
		defer cancel()
		fl.entry = fetch(ctx, key)
		f.mu.Lock()
		delete(f.byKey, k)
		f.mu.Unlock()
		f.zones.Return(zone, zone)
		f.clients.Return(own, network)
		close(fl.done)
	})
	return fl
}

// zoneOf returns the last two labels of a name in wire format: for most names, the zone that somebody registered.
func zoneOf(name string) string {
	var labels [128]int // where each label begins; a name has at most 127
	n := 0
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		labels[n] = at
		n++
	}
	return name[labels[max(0, n-2)]:]
}

// fetch asks upstream and stores the answer, or, for a short time, the failure (RFC 9520).
func (r *Resolver) fetch(ctx context.Context, key cache.Key) *cache.Answer {
	asked := r.now().nano
	a, err := r.exchanger(key.Name, key.Type).Exchange(ctx, upstream.Question{
		Name: key.Name, Type: key.Type, Class: key.Class, DO: key.DO, CD: key.CD,
	})
	now := r.now().mono
	var e *cache.Answer
	if err == nil {
		r.heard.Store(r.now().nano)
		if r.outage.Swap(false) {
			r.ForgetFailures()
		}
		e, err = cache.NewAnswer(key, a.Packed, a.Authenticated, now)
	}
	switch {
	case err == nil:
	case errors.Is(err, upstream.ErrBusy):
		return cache.Failure(key, now, failureOf(err)...) // the lack of places says nothing about the name
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
	case errors.Is(err, upstream.ErrBusy):
		return []wire.EDE{{Code: wire.EDENetworkError, Text: "overloaded"}}
	case errors.Is(err, upstream.ErrLoop):
		return []wire.EDE{{Code: wire.EDENetworkError, Text: "upstream leads back here"}}
	default:
		return []wire.EDE{{Code: wire.EDENoReachable}}
	}
}
