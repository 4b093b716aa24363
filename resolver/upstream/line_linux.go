package upstream

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

const (
	portsPerUpstream = 8                // sockets of one line to one upstream
	portLife         = 60 * time.Second // after about this time a port is replaced
	portQuestions    = 20_000           // after about this number of questions, too
	tick             = 10 * time.Millisecond
	idleTicks        = 100 // after which the clock of a line stops
)

// line sends the questions of one Sender to the upstreams of one pool. Its method send is called by one goroutine at a time.
type line struct {
	pool    *Pool
	ctx     context.Context // ends with the pool, or by stop
	stop    context.CancelFunc
	limit   time.Duration
	receive func([]*Pending)
	random  *rand.ChaCha8 // seeded by the system: IDs, cases and the choice of a port cannot be predicted
	ports   [][]*port     // by member, at most portsPerUpstream each
	links   []*link       // by member; nil before the first use
	out     datagramBatch
	joined  segments
	most    int           // questions over a port, after which it is replaced
	life    time.Duration // age at which a port is replaced

	mu      sync.Mutex
	open    []carrier // the links, and all ports with a socket, even those that take no more questions
	ticking atomic.Bool
}

// carrier carries questions of one line to one upstream: a port or a link.
type carrier interface {
	upstream() *member
	leave(q *Pending) // ends the use of q by its race
	overdue(now time.Time, reserve func() bool) (o overdue, left bool)
}

func newLine(p *Pool, limit time.Duration, receive func([]*Pending)) *line {
	var seed [32]byte
	crand.Read(seed[:])
	l := &line{pool: p, limit: limit, receive: receive, random: rand.NewChaCha8(seed), most: portQuestions, life: portLife, ports: make([][]*port, len(p.members)), links: make([]*link, len(p.members))}
	l.ctx, l.stop = context.WithCancel(p.group.ctx)
	l.out.init()
	return l
}

// send is Sender.Send to the line's pool.
func (l *line) send(batch []*Pending) (left []*Pending) {
	m, alone := l.pool.preferred()
	if m == nil {
		return batch
	}
	t, ok := m.via.(*transport.Transport)
	if !ok || !m.batched || !t.UsesEDNS() {
		return batch
	}
	batch, left = valid(batch)
	if m.endpoint.Protocol != transport.UDP {
		return append(l.link(m, t).send(batch, alone), left...)
	}
	mix := t.MixesCase()
	for len(batch) > 0 {
		n := min(len(batch), maxDatagrams)
		port := l.port(m)
		if port == nil {
			return append(batch, left...)
		}
		left = append(left, l.sendOver(port, t, batch[:n], mix, alone)...)
		batch = batch[n:]
	}
	return left
}

// valid moves questions whose names are not valid to the end of the batch, and splits it there. Exchange returns an error for them. Appending to either part
// does not write to the memory of the caller.
func valid(batch []*Pending) (good, bad []*Pending) {
	n := len(batch)
	for i := 0; i < n; {
		if name := batch[i].Name; wire.NameLen(name) > 0 && wire.NameLen(name) == len(name) {
			i++
			continue
		}
		n--
		batch[i], batch[n] = batch[n], batch[i]
	}
	return batch[:n:n], batch[n:len(batch):len(batch)]
}

// sendOver sends at most maxDatagrams questions over a port, and returns those that could not be sent. After a failure the port takes no more questions, because
// the address of this machine may have changed; if only the buffer of the socket is full, the port stays in use. All questions of a batch are due at the same
// time, so that the order of sending is the order of due times.
func (l *line) sendOver(to *port, t *transport.Transport, batch []*Pending, mix, alone bool) (unsent []*Pending) {
	now := time.Now()
	due := now.Add(to.member.after(t, &batch[0].Question, alone))
	l.pool.budget.earn(uint64(len(batch)))
	cookie := t.Cookie(to.local, now)
	slices.SortFunc(batch, func(a, b *Pending) int { return len(a.Name) - len(b.Name) }) // queries of the same length are sent together
	for i, q := range batch {
		q.sent, q.due, q.raced, q.mix = now, due, nil, mix
		l.out.set(i, q.compose(l.random, cookie))
	}
	c := &to.member.counters
	c.queries.Add(uint64(len(batch)))
	c.inFlight.Add(int64(len(batch)))
	l.pool.waiting.Add(int64(len(batch)))
	sent := to.send(batch, l.random)
	l.tick()
	if sent == len(batch) {
		return nil
	}
	if errno := to.writing.errno; transport.IsShortage(errno) {
		l.pool.shortage.note(l.pool.log, fmt.Errorf("sending over UDP: %w", errno))
	} else {
		to.close(l.limit + time.Second)
	}
	unsent = batch[sent:]
	c.queries.Add(-uint64(len(unsent)))
	l.pool.noLongerWaiting(to.member, len(unsent))
	return unsent
}

// port returns a port for the next questions to m, chosen at random. It replaces a port that has been used for long. If no socket can be opened, it returns an
// old port, or nil if there is none.
func (l *line) port(m *member) *port {
	i := slices.Index(l.pool.members, m)
	at := int(l.random.Uint64() % portsPerUpstream)
	all := l.ports[i]
	if at < len(all) && !all[at].worn() {
		return all[at]
	}
	fresh, err := l.openPort(m)
	switch {
	case err == nil && at < len(all):
		all[at].close(l.limit + time.Second)
		all[at] = fresh
		return fresh
	case err == nil:
		l.ports[i] = append(all, fresh)
		return fresh
	case len(all) > 0:
		return serving(all, at) // no socket can be opened: continue with the old ports
	}
	return nil
}

// serving returns one of the ports that takes questions, even if it should be replaced; nil if there is none.
func serving(all []*port, at int) *port {
	for i := range all {
		if p := all[(at+i)%len(all)]; !p.isClosing() {
			return p
		}
	}
	return nil
}

// openPort opens a port to m and starts reading from it.
func (l *line) openPort(m *member) (*port, error) {
	p, err := newPort(l, m)
	if err != nil {
		if transport.IsShortage(err) {
			l.pool.shortage.note(l.pool.log, err)
		}
		return nil, err
	}
	if !l.pool.group.start(p.run) {
		p.conn.Close()
		return nil, errEnded
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, p)
	return p, nil
}

// forget removes a closed port.
func (l *line) forget(p *port) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = slices.DeleteFunc(l.open, func(o carrier) bool { return o == p })
}

// tick starts the line's clock if it does not run.
func (l *line) tick() {
	if !l.ticking.Load() && l.ticking.CompareAndSwap(false, true) && !l.pool.group.start(l.watch) {
		l.ticking.Store(false)
	}
}

// watch looks for overdue questions until no question has been on its way for some time.
func (l *line) watch() {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	for idle := 0; ; idle++ {
		if l.expire(time.Now()) {
			idle = 0
		}
		if idle > idleTicks {
			l.ticking.Store(false)
			if !l.expire(time.Now()) || !l.ticking.CompareAndSwap(false, true) {
				return
			}
			idle = 0
		}
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			return
		}
	}
}

// expire continues or ends the questions that are overdue at now, and reports whether any question is on its way.
func (l *line) expire(now time.Time) (some bool) {
	l.mu.Lock()
	open := slices.Clone(l.open)
	l.mu.Unlock()
	for _, p := range open {
		o, left := p.overdue(now, l.pool.reserve)
		some = some || left
		for _, sent := range o.silent {
			l.pool.silent(p.upstream(), sent)
		}
		for _, q := range o.raced {
			l.race(q, q.raced)
		}
		if n := len(o.ended); n > 0 {
			l.pool.noLongerWaiting(p.upstream(), n)
			p.upstream().counters.failures[transport.Timeout].Add(uint64(n))
			l.pool.unanswered.Add(uint64(n))
			for _, q := range o.ended {
				q.Err = errUnanswered
			}
			l.receive(o.ended)
		}
	}
	return some
}

// settle notes what the answers that settled these questions show about m.
func (l *line) settle(m *member, settled []*Pending, now time.Time) {
	m.via.(*transport.Transport).NoteEDNS()
	l.pool.noLongerWaiting(m, len(settled))
	m.credit.add(int64(perAnswer*len(settled)), maxCredit)
	for _, q := range settled {
		m.health.answered(now.Sub(q.sent), useful)
	}
}

// errUnanswered is the error of a question that got no answer in time, while there was no room for a race.
var errUnanswered = errors.New("upstream: no upstream answered in time, and too many questions wait for a second attempt")

// noLongerWaiting notes that n questions of Senders have ended, or that races continue them.
func (p *Pool) noLongerWaiting(m *member, n int) {
	m.counters.inFlight.Add(-int64(n))
	p.waiting.Add(-int64(n))
}

// proceed continues a question with a race, whose first attempt has that result.
func (l *line) proceed(q *Pending, result transport.Result) {
	ended := l.ctx.Err() != nil
	if ended || !l.pool.reserve() {
		l.pool.noLongerWaiting(q.over.upstream(), 1)
		if q.Err = ErrBusy; ended {
			q.Err = errEnded
		}
		l.receive([]*Pending{q})
		return
	}
	sent := transport.NewDatagram(q.sent)
	sent.Deliver(result)
	l.race(q, sent)
}

// race continues a question with a race for which a place was reserved.
func (l *line) race(q *Pending, sent *transport.Datagram) {
	m := q.over.upstream()
	m.counters.queries.Add(^uint64(0)) // the race counts all of its attempts
	l.pool.noLongerWaiting(m, 1)
	run := func() {
		q.Answer, q.Err = l.pool.race(l.ctx, m, q.Question, sent, sent.At.Add(l.limit))
		l.raced(q)
	}
	if !l.pool.group.start(run) {
		q.Err = errEnded
		l.raced(q)
	}
}

// raced passes a question whose race has ended to the receiver.
func (l *line) raced(q *Pending) {
	l.pool.inFlight.Add(-1)
	q.over.leave(q)
	l.receive([]*Pending{q})
}
