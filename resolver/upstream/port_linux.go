package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rempart/internal/mmsg"
	"rempart/internal/wire"
)

const (
	maxDatagrams = 32 // sent or received with one system call
	idBuckets    = 1 << 10
)

// sending is the state of the datagram of a Pending. While the question is in the table of a port, the port's mu guards it.
type sending struct {
	port   *port
	id     uint16
	mix    bool      // the name is in random case
	raced  *firstTry // a race waits for the answer; nil if none does
	listed bool      // it is in the table
	length uint16    // of query
	sent   time.Time
	due    time.Time // when a race continues the question or, if there is no room for a race, when the question ends
	chain  *Pending  // the next one in its bucket
	in     *order    // nil if it is in none
	prev   *Pending  // in that order
	next   *Pending
	query  [wire.HeaderLen + wire.MaxName + 4 + wire.OPTLen]byte
}

// compose writes the query, in random case if mix is set. The ID is set by port.add.
func (q *Pending) compose(random *rand.ChaCha8) []byte {
	query := appendQuery(q.query[:0], &q.Question, 0, form{edns: true})
	if q.mix {
		mixWith(query[wire.HeaderLen:], len(q.Name), random)
	}
	q.length = uint16(len(query))
	return query
}

// mixWith is mixCase with bits of random.
func mixWith(name []byte, n int, random *rand.ChaCha8) {
	bits := uint64(0)
	for i := range name[:n] {
		if i%64 == 0 {
			bits = random.Uint64()
		}
		if c := name[i]; 'a' <= c && c <= 'z' && bits&1 != 0 {
			name[i] = c - ('a' - 'A')
		}
		bits >>= 1
	}
}

// datagramBatch is a batch of datagrams in the kernel's form.
type datagramBatch struct {
	headers [maxDatagrams]mmsg.Header
	vectors [maxDatagrams]unix.Iovec
}

func (b *datagramBatch) init() {
	for i := range b.headers {
		b.headers[i].Hdr.Iov = &b.vectors[i]
		b.headers[i].Hdr.SetIovlen(1)
	}
}

// set makes data datagram i. The memory is borrowed.
func (b *datagramBatch) set(i int, data []byte) {
	b.vectors[i].Base = &data[0]
	b.vectors[i].SetLen(len(data))
}

// port is one UDP socket that is connected to an upstream, with the questions on their way over it.
type port struct {
	line   *line
	member *member
	conn   *net.UDPConn
	raw    syscall.RawConn
	born   time.Time

	mu        sync.Mutex
	buckets   [idBuckets]*Pending
	fresh     order // questions that wait for their answers, by due
	late      order // the same: questions without room for a race, and answers that races no longer wait for
	count     int
	questions int
	foreign   int // datagrams that answer no question, and are not owed
	owed      int // questions that were given up, whose answers may still arrive until owedEnd
	owedEnd   time.Time
	recent    [64]uint16 // IDs of questions that ended
	recents   int
	closing   bool

	writing writing // of the goroutine that sends

	// Of the goroutine that reads.
	in      datagramBatch
	buffers [maxDatagrams][receiveLen]byte
	n       int
	errno   unix.Errno
	clean   []*Pending
	others  []unclean
}

// unclean is a question whose datagram has an answer that does not settle it.
type unclean struct {
	q      *Pending
	result firstResult
}

func newPort(l *line, m *member) (*port, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(m.endpoint.Addr))
	if err != nil {
		return nil, fmt.Errorf("opening a UDP socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	p := &port{line: l, member: m, conn: conn, raw: raw, born: time.Now()}
	_ = conn.SetReadBuffer(portBuffer) // the system may allow less
	w := &p.writing
	w.send = func(fd uintptr) { w.sent, w.errno = mmsg.Send(fd, l.out.headers[w.from:w.to]) }
	p.in.init()
	for i := range p.buffers {
		p.in.set(i, p.buffers[i][:])
	}
	return p, nil
}

// portBuffer is the size of the receive buffer of a port, in bytes: room for the answers to some thousand questions.
const portBuffer = 1 << 20

// worn reports whether the port should be replaced: because of its age, its number of questions, or datagrams that answer none.
func (p *port) worn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.questions >= p.line.most || p.closing || time.Since(p.born) > portLife
}

// send puts questions into the table and sends their queries, which are in the line's batch. It returns how many were sent. It holds mu, so that no question ends,
// and is used again, before its query was sent.
func (p *port) send(batch []*Pending, random *rand.ChaCha8) (sent int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(batch, random)
	sent = p.write(len(batch))
	for _, q := range batch[sent:] {
		p.take(q)
	}
	return sent
}

// add puts questions into the table, each under a random ID that no other question has, and writes the IDs into the queries.
func (p *port) add(batch []*Pending, random *rand.ChaCha8) {
	for _, q := range batch {
		q.port = p
		q.id = uint16(random.Uint64())
		for p.find(q.id) != nil {
			q.id = uint16(random.Uint64())
		}
		binary.BigEndian.PutUint16(q.query[:], q.id)
		bucket := &p.buckets[q.id%idBuckets]
		q.chain, *bucket = *bucket, q
		q.listed = true
		p.fresh.append(q)
	}
	p.count += len(batch)
	p.questions += len(batch)
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
// taken for a missing or a forged one: the first attempt of the race still gets it.
func (p *port) leave(q *Pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !q.listed {
		return
	}
	p.take(q)
	ghost := &Pending{Question: q.Question, sending: q.sending}
	ghost.Name = slices.Clone(q.Name)
	ghost.due = q.sent.Add(p.line.limit)
	bucket := &p.buckets[ghost.id%idBuckets]
	ghost.chain, *bucket = *bucket, ghost
	ghost.listed = true
	p.count++
	p.late.append(ghost)
}

// overdue are questions that have waited for an answer for long enough.
type overdue struct {
	raced  []*Pending  // a race is to continue them
	silent []time.Time // when those were sent for which there is no room for a race: they keep waiting
	ended  []*Pending  // they have waited for as long as a question may
}

// overdue finds the overdue questions. It calls reserve for each that a race should continue. left reports whether questions are on their way.
func (p *port) overdue(now time.Time, reserve func() bool) (o overdue, left bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for q := p.fresh.first; q != nil && !q.due.After(now); q = p.fresh.first {
		unlink(q)
		if reserve() {
			q.raced = newFirstTry(q)
			o.raced = append(o.raced, q)
			continue
		}
		o.silent = append(o.silent, q.sent)
		q.due = q.sent.Add(p.line.limit)
		p.late.append(q)
	}
	for q := p.late.first; q != nil && !q.due.After(now); q = p.late.first {
		p.giveUp(q, now)
		if q.raced == nil { // else its race has ended
			o.ended = append(o.ended, q)
		}
	}
	return o, p.count > 0
}

// write sends the first n datagrams of the line's batch, and returns how many. A datagram for which there is no room in a buffer is lost, like others on their way.
func (p *port) write(n int) (sent int) {
	w := &p.writing
	for w.from, w.to, w.errno = 0, n, 0; w.from < n; {
		errno := w.errno
		if p.raw.Control(w.send) != nil {
			return w.from
		}
		w.from += w.sent
		switch {
		case w.errno == 0:
		case w.errno == unix.EAGAIN, w.errno == unix.ENOBUFS:
			return n
		case errno == 0: // the error may belong to an earlier datagram (ICMP): once more
		default:
			return w.from
		}
	}
	return n
}

// writing is a call of write.
type writing struct {
	send     func(fd uintptr)
	from, to int // datagrams of the batch that are not sent yet
	sent     int
	errno    unix.Errno
}

// close makes the port take no more questions, and closes its socket after the time in which answers to the others may arrive.
func (p *port) close(after time.Duration) {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	time.AfterFunc(after, func() { p.conn.Close() })
}

// run reads answers until the socket is closed or the pool ends.
func (p *port) run() {
	defer context.AfterFunc(p.line.ctx, func() { p.conn.Close() })()
	poll := func(fd uintptr) bool {
		p.n, p.errno = mmsg.Receive(fd, p.in.headers[:], unix.MSG_DONTWAIT)
		return p.errno != unix.EAGAIN
	}
	for {
		if err := p.raw.Read(poll); err != nil {
			break
		}
		if p.errno != 0 {
			p.fail(fmt.Errorf("waiting over UDP: %w", p.errno))
			time.Sleep(time.Millisecond) // an error that does not end must not keep a core busy
			continue
		}
		p.handle(p.n)
	}
	p.line.forget(p)
	p.fail(errEnded)
}

// handle matches n datagrams with the questions, and passes on those that have ended.
func (p *port) handle(n int) {
	now := time.Now()
	p.clean, p.others = p.clean[:0], p.others[:0]
	p.mu.Lock()
	for i := range n {
		p.match(p.buffers[i][:p.in.headers[i].Len], int(p.in.headers[i].Hdr.Flags)&unix.MSG_TRUNC != 0, now)
	}
	flooded := p.foreign >= maxForeign && p.count > 0
	p.mu.Unlock()
	if len(p.clean) > 0 {
		p.settle(now)
		p.line.receive(p.clean)
	}
	for _, u := range p.others {
		p.line.proceed(u.q, u.result)
	}
	if flooded {
		p.close(0)
		p.fail(errFlooded)
	}
}

// match finds the question that a message answers.
func (p *port) match(msg []byte, cut bool, now time.Time) {
	if len(msg) < wire.HeaderLen {
		p.noteForeign(0, false, now)
		return
	}
	q := p.find(wire.ID(msg))
	if q == nil {
		p.noteForeign(wire.ID(msg), true, now)
		return
	}
	sent := q.query[:q.length]
	var r firstResult
	switch m := compare(msg, sent); {
	case m == foreign && questionless(msg, sent):
		p.noteForeign(q.id, false, now)
		r.err = errQuestionless
	case m == foreign:
		p.noteForeign(q.id, false, now)
		return
	case m == bare:
		r.reply = restore(msg, &q.Question)
	case m == recased && q.mix:
		p.noteForeign(q.id, false, now)
		r.err = errRecased
	case wire.Flags(msg)&wire.FlagTC != 0 || cut:
		r.err = errTruncated
	case q.raced != nil:
		r.reply, r.err = read(slices.Clone(msg), &q.Question)
	default:
		r.reply, r.err = read(msg, &q.Question)
		if r.err == nil && r.reply.final() {
			p.take(q)
			q.Answer = Answer{Packed: r.reply.packed, Authenticated: p.member.trusted}
			q.Err = nil
			p.clean = append(p.clean, q)
			return
		}
		r.reply.packed = slices.Clone(r.reply.packed)
	}
	p.take(q)
	if q.raced != nil {
		q.raced.result <- r
		return
	}
	p.others = append(p.others, unclean{q, r})
}

// maxOwed bounds owed: an attacker can leave questions unanswered.
const maxOwed = 100

// noteForeign counts a datagram that answers no question. It may be an answer that arrives too late, or one that arrived before.
func (p *port) noteForeign(id uint16, known bool, now time.Time) {
	p.member.counters.foreign.Add(1)
	switch {
	case known && slices.Contains(p.recent[:min(p.recents, len(p.recent))], id):
	case p.owed > 0 && now.Before(p.owedEnd):
		p.owed--
	default:
		p.foreign++
	}
}

// settle notes what the answers to p.clean show about the upstream.
func (p *port) settle(now time.Time) {
	m := p.member
	t := m.via.(*transport)
	t.ednsStrikes.Store(0)
	t.hasEDNS.believe()
	p.line.pool.noLongerWaiting(m, len(p.clean))
	m.credit.add(int64(perAnswer*len(p.clean)), maxCredit)
	for _, q := range p.clean {
		m.health.answered(now.Sub(q.sent), useful)
	}
}

// fail ends the wait of all questions on their way over the port: err is the result of their datagrams.
func (p *port) fail(err error) {
	result, now := firstResult{err: err}, time.Now()
	var waiting []*Pending
	p.mu.Lock()
	for i := range p.buckets {
		for q := p.buckets[i]; q != nil; q = p.buckets[i] {
			p.giveUp(q, now)
			if q.raced != nil {
				q.raced.result <- result
			} else {
				waiting = append(waiting, q)
			}
		}
	}
	p.mu.Unlock()
	for _, q := range waiting {
		p.line.proceed(q, result)
	}
}
