package upstream

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"rempart/resolver/upstream/transport"
)

// sparePostings is the number of postings that a link keeps for later use.
const sparePostings = 256

// link carries the questions of one line to one upstream over connections, which its transport opens and shares among all lines and races. While no
// connection is open, or none has room, questions are asked by Exchange, which opens one.
type link struct {
	line   *line
	member *member
	via    *transport.Transport
	batch  []*transport.Posting // used by the goroutine that sends

	mu     sync.Mutex
	fresh  order // questions that wait for their answers, the one that is due first at the front
	late   order // the same for overdue questions without room for a race
	count  int
	spare  []*transport.Posting
	spares []*sorted
}

// sorted holds the questions that one call of Received passes on: clean ones have ended, others continue with a race.
type sorted struct {
	clean  []*Pending
	others []unclean
}

// link returns the link to m, and makes it at its first use.
func (l *line) link(m *member, via *transport.Transport) *link {
	i := slices.Index(l.pool.members, m)
	if l.links[i] == nil {
		k := &link{line: l, member: m, via: via}
		l.links[i] = k
		context.AfterFunc(l.ctx, k.end)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open = append(l.open, l.links[i])
	}
	return l.links[i]
}

func (k *link) upstream() *member { return k.member }

// send sends questions, and returns those that could not be sent. All are due at the same time, so that the order of sending is the order of due times.
func (k *link) send(batch []*Pending, alone bool) (unsent []*Pending) {
	now := time.Now()
	due := now.Add(k.member.after(k.via, &batch[0].Question, alone))
	sent := k.post(batch, now, due)
	if sent > 0 {
		k.line.pool.budget.earn(uint64(sent))
		k.line.tick()
	}
	return batch[sent:]
}

// post posts questions, and returns how many were sent. It holds mu, so that no question ends before it is in its order.
func (k *link) post(batch []*Pending, now, due time.Time) (sent int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.batch = k.batch[:0]
	for _, q := range batch {
		p := k.posting()
		p.Owner = q
		p.Set(&q.Question)
		q.over, q.posted, q.sent, q.due, q.raced, q.mix = k, p, now, due, nil, false
		k.batch = append(k.batch, p)
	}
	sent = k.via.Post(k.batch)
	for i, q := range batch {
		if i >= sent {
			k.free(q)
			continue
		}
		q.listed = true
		k.fresh.append(q)
	}
	k.count += sent
	c := &k.member.counters
	c.queries.Add(uint64(sent))
	c.inFlight.Add(int64(sent))
	k.line.pool.waiting.Add(int64(sent))
	return sent
}

// posting returns an unused posting. It is called with mu held.
func (k *link) posting() *transport.Posting {
	n := len(k.spare)
	if n == 0 {
		return transport.NewPosting(k)
	}
	p := k.spare[n-1]
	k.spare = k.spare[:n-1]
	return p
}

// free ends the use of the posting of q. It is called with mu held.
func (k *link) free(q *Pending) {
	if q.posted.Owner = nil; len(k.spare) < sparePostings {
		k.spare = append(k.spare, q.posted)
	}
	q.posted = nil
}

// take removes q from those that are on their way. It is called with mu held.
func (k *link) take(q *Pending) {
	unlink(q)
	q.listed = false
	k.count--
}

// withdraw ends the wait for the answer to q. It is called with mu held.
func (k *link) withdraw(q *Pending) {
	k.take(q)
	if q.posted.Withdraw() {
		k.free(q)
		return
	}
	q.posted.Owner = nil // the question has ended: Received gets the posting in a moment
	q.posted = nil
}

// leave ends the use of q by its race.
func (k *link) leave(q *Pending) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if q.listed {
		k.withdraw(q)
	}
}

// end ends all questions on their way, because the line has ended.
func (k *link) end() {
	var waiting []*Pending
	k.mu.Lock()
	for _, o := range []*order{&k.fresh, &k.late} {
		for q := o.first; q != nil; q = o.first {
			k.withdraw(q)
			if q.raced == nil {
				waiting = append(waiting, q)
			}
		}
	}
	k.mu.Unlock()
	for _, q := range waiting {
		k.line.proceed(q, transport.Result{Err: errEnded})
	}
}

// overdue finds the overdue questions. left reports whether questions are on their way.
func (k *link) overdue(now time.Time, reserve func() bool) (o overdue, left bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o.collect(&k.fresh, &k.late, now, k.line.limit, reserve, k.withdraw)
	return o, k.count > 0
}

// Received implements transport.Postbox. It passes on the questions of postings that have ended.
func (k *link) Received(all []*transport.Posting) {
	now := time.Now()
	b := k.sort(all)
	if len(b.clean) > 0 {
		k.line.settle(k.member, b.clean, now)
		k.line.receive(b.clean)
	}
	for _, u := range b.others {
		k.line.proceed(u.q, u.result)
	}
	clear(b.clean)
	clear(b.others)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spares = append(k.spares, b)
}

// sort ends the use of postings, delivers the results for which races wait, and returns the other questions.
func (k *link) sort(all []*transport.Posting) *sorted {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := &sorted{}
	if n := len(k.spares); n > 0 {
		b, k.spares = k.spares[n-1], k.spares[:n-1]
	}
	b.clean, b.others = b.clean[:0], b.others[:0]
	for _, p := range all {
		r := p.Result
		q, waits := p.Owner.(*Pending)
		if !waits { // withdrawn
			k.spare = append(k.spare, p)
			continue
		}
		k.take(q)
		k.free(q)
		switch {
		case q.raced == nil && r.Err == nil && r.Reply.Final():
			q.Answer, q.Err = Answer{Packed: r.Reply.Packed, Authenticated: k.member.trusted}, nil
			b.clean = append(b.clean, q)
			continue
		case r.Err == nil:
			r.Reply.Packed = bytes.Clone(r.Reply.Packed)
		}
		if q.raced != nil {
			q.raced.Deliver(r)
			continue
		}
		b.others = append(b.others, unclean{q, r})
	}
	return b
}
