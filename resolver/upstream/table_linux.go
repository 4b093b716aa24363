package upstream

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

// idBuckets is the number of buckets in which a port finds questions by ID.
const idBuckets = 1 << 10

// sending is the state of the query of a Pending. While the question is in the table of a port or on its way over a link, its mu guards it.
type sending struct {
	over   carrier
	id     uint16
	mix    bool                // the name is in random case
	raced  *transport.Datagram // by which a race waits for the answer; nil if no race does
	posted *transport.Posting  // over a link
	listed bool                // it is in the table, or on its way over the link
	length uint16              // of query
	sent   time.Time
	due    time.Time // when a race continues the question or, if there is no room for a race, when the question ends
	chain  *Pending  // the next one in its bucket
	in     *order    // nil if it is in none
	prev   *Pending  // in that order
	next   *Pending
	query  [transport.MaxQuery]byte
}

// compose writes the query, in random case if mix is set, and with a cookie unless that is nil. The ID is set by port.add.
func (q *Pending) compose(random *rand.ChaCha8, cookie []byte) []byte {
	query := transport.AppendQuery(q.query[:0], &q.Question, 0, transport.Form{EDNS: true, Cookie: cookie})
	if q.mix {
		transport.MixCase(query[wire.HeaderLen:][:len(q.Name)], random.Uint64)
	}
	q.length = uint16(len(query))
	return query
}

// add puts questions into the table, each under a random ID that no other question has, and writes the IDs into the queries.
func (p *port) add(batch []*Pending, random *rand.ChaCha8) {
	for _, q := range batch {
		q.over = p
		q.id = uint16(random.Uint64())
		for p.find(q.id) != nil {
			q.id = uint16(random.Uint64())
		}
		binary.BigEndian.PutUint16(q.query[:], q.id)
		p.insert(q, &p.fresh)
	}
	p.questions += len(batch)
}

// insert puts a question with its ID into the table, and at the end of an order.
func (p *port) insert(q *Pending, o *order) {
	bucket := &p.buckets[q.id%idBuckets]
	q.chain, *bucket = *bucket, q
	q.listed = true
	p.count++
	o.append(q)
}

func (p *port) find(id uint16) *Pending {
	for q := p.buckets[id%idBuckets]; q != nil; q = q.chain {
		if q.id == id {
			return q
		}
	}
	return nil
}

// order is a list of questions.
type order struct{ first, last *Pending }

func (o *order) append(q *Pending) {
	q.in, q.prev, q.next = o, o.last, nil
	if o.last != nil {
		o.last.next = q
	} else {
		o.first = q
	}
	o.last = q
}

// unlink removes q from its order, if it is in one.
func unlink(q *Pending) {
	o := q.in
	if o == nil {
		return
	}
	if q.prev != nil {
		q.prev.next = q.next
	} else {
		o.first = q.next
	}
	if q.next != nil {
		q.next.prev = q.prev
	} else {
		o.last = q.prev
	}
	q.in, q.prev, q.next = nil, nil, nil
}

// take removes q from the table.
func (p *port) take(q *Pending) {
	at := &p.buckets[q.id%idBuckets]
	for *at != q {
		at = &(*at).chain
	}
	*at, q.chain, q.listed = q.chain, nil, false
	unlink(q)
	p.count--
	p.recent[p.recents%len(p.recent)] = q.id
	p.recents++
}

// giveUp removes a question whose answer may still arrive.
func (p *port) giveUp(q *Pending, now time.Time) {
	p.take(q)
	p.owed = min(p.owed+1, maxOwed)
	p.owedEnd = now.Add(p.line.limit)
}

// leave ends the use of q by its race. If its answer has not arrived, another Pending takes its place in the table, so that an answer that is only late is not
// taken for a missing or a forged one: the first attempt of the race still receives it.
func (p *port) leave(q *Pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !q.listed {
		return
	}
	p.take(q)
	substitute := &Pending{Question: q.Question, sending: q.sending}
	substitute.Name = slices.Clone(q.Name)
	substitute.due = q.sent.Add(p.line.limit)
	p.insert(substitute, &p.late)
}

// overdue are questions that have waited for an answer for long enough.
type overdue struct {
	raced  []*Pending  // a race is to continue them
	silent []time.Time // when questions without room for a race were sent: they keep waiting
	ended  []*Pending  // they have waited for as long as a question may
}

// collect finds the overdue questions in two orders. It calls reserve for each that a race should continue, and giveUp for each that has waited for as long as a
// question may, which is limit.
func (o *overdue) collect(fresh, late *order, now time.Time, limit time.Duration, reserve func() bool, giveUp func(*Pending)) {
	for q := fresh.first; q != nil && !q.due.After(now); q = fresh.first {
		unlink(q)
		if reserve() {
			q.raced = transport.NewDatagram(q.sent)
			o.raced = append(o.raced, q)
			continue
		}
		o.silent = append(o.silent, q.sent)
		q.due = q.sent.Add(limit)
		late.append(q)
	}
	for q := late.first; q != nil && !q.due.After(now); q = late.first {
		giveUp(q)
		if q.raced == nil { // otherwise its race has ended
			o.ended = append(o.ended, q)
		}
	}
}

// overdue finds the overdue questions. left reports whether questions are on their way.
func (p *port) overdue(now time.Time, reserve func() bool) (o overdue, left bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o.collect(&p.fresh, &p.late, now, p.line.limit, reserve, func(q *Pending) { p.giveUp(q, now) })
	return o, p.count > 0
}
