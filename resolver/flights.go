package resolver

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"rempart/internal/fair"
	"rempart/internal/wire"
	"rempart/resolver/cache"
	"rempart/resolver/upstream"
)

const (
	flightShards  = 64
	flightBuckets = 256 // of a shard
	spareFlights  = 64  // kept by a shard for later use
)

// flights are the questions on their way upstream. Equal questions are asked once. At most one question for a name and type is on its way, whatever its flags:
// several would make it easier to guess one of their IDs.
type flights struct {
	zones   *fair.Places[uint64]       // by a hash of the last three labels of the name, in groups by a hash of the last two
	clients *fair.Places[netip.Prefix] // by the client that asked first
	seed    maphash.Seed
	shards  [flightShards]flightShard
	running sync.WaitGroup // flights that have not landed
	ctx     context.Context
	cancel  context.CancelFunc
}

type flightShard struct {
	mu      sync.Mutex
	buckets [flightBuckets]*flight
	waits   [2]waitList // by patience: without and with a stale answer
	spare   *flight
	spares  int
	_       [64]byte // the next shard is in another cache line
}

// flight is one question on its way. The mu of its shard guards its place in the table, its waiters, done and held. The other fields are set before the question
// is asked, and do not change until the flight has landed.
type flight struct {
	pending upstream.Pending
	key     cache.Key // the name is in name
	name    [wire.MaxName]byte
	hash    uint64 // of name, type and class
	asked   int64  // clock.nano
	spared  bool   // there is another answer, or nobody waits: see upstream.Question
	next    *flight
	waiting *waiter // queries that wait for its answer, the oldest first
	last    *waiter

	// For goroutines that wait for its answer: answer is set, never nil, when done is closed. done is nil if no goroutine waits.
	done   chan struct{}
	answer *cache.Answer

	held *flight // a question for the same name and type with other flags, which is asked next

	client, network netip.Prefix
	zone, registry  uint64
}

// waiter is a query that waits for the answer of a flight.
type waiter struct {
	q          *wire.Query
	old        *cache.Answer // stale; nil if there is none
	flight     *flight
	until      int64   // clock.nano
	next       *waiter // of the flight
	prev, then *waiter // in a waitList
}

// waitList holds waiters in the order in which their patience ends.
type waitList struct{ first, last *waiter }

func (l *waitList) add(w *waiter) {
	w.prev, w.then = l.last, nil
	if l.last != nil {
		l.last.then = w
	} else {
		l.first = w
	}
	l.last = w
}

func (l *waitList) remove(w *waiter) {
	if w.prev != nil {
		w.prev.then = w.then
	} else {
		l.first = w.then
	}
	if w.then != nil {
		w.then.prev = w.prev
	} else {
		l.last = w.prev
	}
}

// init allows at most that many questions upstream at a time. No zone and no client gets all places, so that questions for zones with silent servers leave
// places for others. Names with the same three last labels take at most half of the places, and names with the same two last labels three quarters: the two
// last labels may be those of a registry, such as co.uk, and a flood of names below victim.co.uk leaves places to the other names below co.uk.
func (f *flights) init(most int) {
	f.zones = fair.New[uint64](most, most/2)
	f.clients = fair.New[netip.Prefix](most, most/8) // fewer than zones reserve, so that one silent zone cannot take all places of a resolver that asks for many people
	f.seed = maphash.MakeSeed()
	f.ctx, f.cancel = context.WithCancel(context.Background())
}

func (f *flights) shard(hash uint64) *flightShard { return &f.shards[hash%flightShards] }

func (s *flightShard) bucket(hash uint64) **flight {
	return &s.buckets[hash/flightShards%flightBuckets]
}

// join returns the flight of key; nil if there are too many. If there is no flight of key yet, join creates it, and fresh is set if the caller must ask the
// question. If w is not nil, it waits for the answer. If goroutine is set, the caller may wait until done of the flight is closed.
func (f *flights) join(key cache.Key, client netip.Addr, asked int64, w *waiter, goroutine bool, c *counts) (fl *flight, fresh bool) {
	hash := f.hash(key)
	s := f.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.bucket(hash)
	var other *flight // for the same name and type
	for fl = *at; fl != nil; fl = fl.next {
		if fl.hash == hash && string(fl.key.Name) == string(key.Name) && fl.key.Type == key.Type && fl.key.Class == key.Class {
			other = fl
			break
		}
	}
	for ; fl != nil && (fl.key.DO != key.DO || fl.key.CD != key.CD); fl = fl.held {
	}
	if fl != nil {
		c.coalesced.Add(1)
		fl.admit(s, w, goroutine)
		return fl, false
	}
	z, r := zonesOf(key.Name)
	zone, registry := maphash.Bytes(f.seed, z), maphash.Bytes(f.seed, r)
	own, network := fair.Client(client)
	if !f.clients.Take(own, network) {
		return nil, false
	}
	if !f.zones.Take(zone, registry) {
		f.clients.Return(own, network)
		return nil, false
	}
	f.running.Add(1)
	fl = s.newFlight()
	fl.key = key
	fl.key.Name = fl.name[:copy(fl.name[:], key.Name)]
	fl.hash, fl.asked, fl.client, fl.network, fl.zone, fl.registry = hash, asked, own, network, zone, registry
	fl.spared = w == nil && !goroutine || w != nil && w.old != nil
	fl.admit(s, w, goroutine)
	if other != nil {
		for other.held != nil {
			other = other.held
		}
		other.held = fl
		return fl, false
	}
	fl.next, *at = *at, fl
	return fl, true
}

// newFlight returns a new flight, or one that was used before. The shard is locked.
func (s *flightShard) newFlight() *flight {
	fl := s.spare
	if fl == nil {
		return &flight{}
	}
	s.spare, fl.next = fl.next, nil
	s.spares--
	return fl
}

// admit makes w wait for the answer of fl, and prepares done for a goroutine. The shard is locked.
func (fl *flight) admit(s *flightShard, w *waiter, goroutine bool) {
	if goroutine && fl.done == nil {
		fl.done = make(chan struct{})
	}
	if w != nil {
		w.flight = fl
		if fl.last != nil {
			fl.last.next = w
		} else {
			fl.waiting = w
		}
		fl.last = w
		s.waits[w.kind()].add(w)
	}
}

// leave removes w, mostly the oldest one, from those that wait for the answer of fl. The shard is locked.
func (fl *flight) leave(w *waiter) {
	at, before := &fl.waiting, (*waiter)(nil)
	for *at != w {
		before = *at
		at = &before.next
	}
	if *at, w.flight = w.next, nil; fl.last == w {
		fl.last = before
	}
}

// kind is the place of the waiter's list in flightShard.waits.
func (w *waiter) kind() int {
	if w.old != nil {
		return 1
	}
	return 0
}

// land ends a flight with its answer. It returns the queries that waited for it, and the flight that is to be asked next, if there is one. The caller calls
// running.Done when it has answered the queries.
func (f *flights) land(fl *flight, e *cache.Answer) (waiting *waiter, next *flight) {
	f.zones.Return(fl.zone, fl.registry)
	f.clients.Return(fl.client, fl.network)
	s := f.shard(fl.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.bucket(fl.hash)
	for *at != fl {
		at = &(*at).next
	}
	next = fl.held
	for next != nil && next.waiting == nil && next.done == nil { // nobody waits for its answer any more
		f.zones.Return(next.zone, next.registry)
		f.clients.Return(next.client, next.network)
		f.running.Done()
		next = next.held
	}
	if next != nil {
		next.next, *at = fl.next, next
	} else {
		*at = fl.next
	}
	waiting = fl.waiting
	for w := waiting; w != nil; w = w.next {
		s.waits[w.kind()].remove(w)
		w.flight = nil
	}
	fl.waiting, fl.last, fl.held, fl.next = nil, nil, nil, nil
	switch {
	case fl.done != nil: // goroutines may still hold it
		fl.answer = e
		close(fl.done)
	case s.spares < spareFlights:
		fl.next, s.spare = s.spare, fl
		s.spares++
	}
	return waiting, next
}

// impatient removes the waiters whose patience has ended at now from their flights, and returns them linked by next. left reports whether others wait.
func (f *flights) impatient(now int64) (all *waiter, left bool) {
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		for kind := range s.waits {
			l := &s.waits[kind]
			for w := l.first; w != nil && w.until <= now; w = l.first {
				l.remove(w)
				w.flight.leave(w)
				w.next, all = all, w
			}
			left = left || l.first != nil
		}
		s.mu.Unlock()
	}
	return all, left
}

// hash returns a hash of the key without its flags.
func (f *flights) hash(key cache.Key) uint64 {
	return maphash.Bytes(f.seed, key.Name) ^ (uint64(key.Type)<<16|uint64(key.Class))*0x9e3779b97f4a7c15
}

// zonesOf returns the last three labels of a name, and the last two: for most names, one of them is the zone that somebody registered.
func zonesOf(name []byte) (three, two []byte) {
	var starts [3]int // of the last labels, the last one first
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		starts = [3]int{at, starts[0], starts[1]}
	}
	return name[starts[2]:], name[starts[1]:]
}

// sweepEvery is the interval between two looks at waiting queries whose patience may have ended.
const sweepEvery = 50 * time.Millisecond
