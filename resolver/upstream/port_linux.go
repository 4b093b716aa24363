package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rempart/internal/mmsg"
	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

const (
	maxDatagrams = 32 // sent or received with one system call
)

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
	local  netip.Addr // of the socket
	born   time.Time

	mu        sync.Mutex
	buckets   [idBuckets]*Pending
	fresh     order // questions that wait for their answers, the one that is due first at the front
	late      order // the same for overdue questions without room for a race, and for answers that no race waits for any more
	count     int
	questions int
	foreign   int // datagrams that answer no question, except late answers, see owed
	owed      int // questions that were given up, whose answers may still arrive until owedEnd
	owedEnd   time.Time
	recent    [64]uint16 // IDs of questions that ended
	recents   int
	closing   bool

	writing writing // of the goroutine that sends

	// Of the goroutine that reads.
	in      datagramBatch
	buffers [maxDatagrams][transport.MaxDatagram]byte
	n       int
	errno   unix.Errno
	clean   []*Pending
	others  []unclean
}

// unclean is a question whose query ended with an error, or with an answer that does not settle the question.
type unclean struct {
	q      *Pending
	result transport.Result
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
	p := &port{line: l, member: m, conn: conn, raw: raw, local: conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr(), born: time.Now()}
	_ = conn.SetReadBuffer(portBuffer) // the system may allow less
	w := &p.writing
	w.send = func(fd uintptr) { w.sent, w.errno = mmsg.Send(fd, l.joined.headers[w.from:w.to]) }
	p.in.init()
	for i := range p.buffers {
		p.in.set(i, p.buffers[i][:])
	}
	return p, nil
}

func (p *port) upstream() *member { return p.member }

// portBuffer is the size of the receive buffer of a port, in bytes: room for the answers to some thousand questions.
const portBuffer = 1 << 20

// worn reports whether the port should be replaced: because of its age, its number of questions, or datagrams that answer none.
func (p *port) worn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.questions >= p.line.most || p.closing || time.Since(p.born) > p.line.life
}

// isClosing reports whether the port takes no more questions.
func (p *port) isClosing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closing
}

// send puts questions into the table and sends their queries, which are in the line's batch. It returns how many were sent. It holds mu, so that no question
// ends before its query was sent.
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

// write sends the first n datagrams of the line's batch, and returns how many it sent. If it returns less than n, writing.errno is the reason, or 0 if the
// port is closed.
func (p *port) write(n int) (sent int) {
	w, joined := &p.writing, &p.line.joined
	for w.from, w.to, w.errno = 0, joined.join(&p.line.out, 0, n), 0; w.from < w.to; {
		errno := w.errno
		if p.raw.Control(w.send) != nil {
			w.errno = 0
			return joined.first[w.from]
		}
		w.from += w.sent
		switch {
		case w.errno == 0:
		case !joined.off && cannotDivide(w.errno):
			joined.off = true
			w.from, w.to = 0, joined.join(&p.line.out, joined.first[w.from], n)
		case errno == 0 && !transport.IsShortage(w.errno): // the error may belong to an earlier datagram (ICMP): try once more
		default:
			return joined.first[w.from]
		}
	}
	return n
}

// writing is a call of write.
type writing struct {
	send     func(fd uintptr)
	from, to int // messages that are not sent yet
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
	flooded := p.foreign >= transport.MaxForeign && p.count > 0
	p.mu.Unlock()
	if len(p.clean) > 0 {
		p.line.settle(p.member, p.clean, now)
		p.line.receive(p.clean)
	}
	for _, u := range p.others {
		p.line.proceed(u.q, u.result)
	}
	if flooded {
		p.close(0)
		p.fail(transport.ErrFlooded)
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
	m, err := p.member.via.(*transport.Transport).JudgeDatagram(msg, q.query[:q.length], q.mix, cut)
	if m == transport.Foreign {
		p.noteForeign(q.id, false, now)
	}
	var r transport.Result
	switch {
	case err != nil:
		r.Err = err
	case m == transport.Foreign:
		return
	case m == transport.Bare:
		r.Reply = transport.Restore(msg, &q.Question)
	case q.raced != nil:
		r.Reply, r.Err = transport.Read(slices.Clone(msg), &q.Question)
	default:
		r.Reply, r.Err = transport.Read(msg, &q.Question)
		if r.Err == nil && r.Reply.Final() {
			p.take(q)
			q.Answer = Answer{Packed: r.Reply.Packed, Authenticated: p.member.trusted}
			q.Err = nil
			p.clean = append(p.clean, q)
			return
		}
		r.Reply.Packed = slices.Clone(r.Reply.Packed)
	}
	p.take(q)
	if q.raced != nil {
		q.raced.Deliver(r)
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

// fail ends the wait of all questions on their way over the port: err is the result of their datagrams.
func (p *port) fail(err error) {
	result, now := transport.Result{Err: err}, time.Now()
	var waiting []*Pending
	p.mu.Lock()
	for i := range p.buckets {
		for q := p.buckets[i]; q != nil; q = p.buckets[i] {
			p.giveUp(q, now)
			if q.raced != nil {
				q.raced.Deliver(result)
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
