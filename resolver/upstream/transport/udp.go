package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
)

const (
	// MaxDatagram is the size of a receive buffer, in bytes. A longer datagram is truncated, and the query is sent over TCP.
	MaxDatagram = 4096
	// MaxForeign is the number of datagrams on one socket that answer no question, after which its questions are sent over TCP.
	MaxForeign = 20
)

// datagrams asks one upstream over UDP, each query from a socket of its own: the kernel
// chooses the port at random, and drops datagrams from other sources (RFC 5452 section 9.2).
type datagrams struct {
	addr    *net.UDPAddr
	dial    dialFunc       // nil: sockets of this machine
	foreign *atomic.Uint64 // counts datagrams that were no answer to the question
	cookies *cookies
	buffers sync.Pool
}

func newDatagrams(addr netip.AddrPort, dial dialFunc, foreign *atomic.Uint64, c *cookies) *datagrams {
	return &datagrams{addr: net.UDPAddrFromAddrPort(addr), dial: dial, foreign: foreign, cookies: c, buffers: sync.Pool{New: func() any { return new([MaxDatagram]byte) }}}
}

// open returns a new connection with a port of its own.
func (d *datagrams) open(ctx context.Context) (net.Conn, error) {
	if d.dial != nil {
		return d.dial(ctx, "udp", d.addr.String())
	}
	return net.DialUDP("udp", nil, d.addr)
}

// ask sends q and waits for its answer until ctx ends. If wantsTCP reports true for the error, the question has to be sent over TCP. If the upstream refuses
// the server cookie, ask sends the question once more, with the server cookie of that answer (RFC 7873 section 5.3).
func (d *datagrams) ask(ctx context.Context, q *Request, f Form) (Reply, error) {
	r, err := d.askOnce(ctx, q, f)
	if err != nil || r.Rcode != wire.BadCookie || !f.EDNS || !d.cookies.active() {
		return r, err
	}
	if r, err = d.askOnce(ctx, q, f); err == nil && r.Rcode == wire.BadCookie {
		err = errBadCookie
	}
	return r, err
}

// askOnce waits for the answer to the datagram that was sent for q already, or sends one.
func (d *datagrams) askOnce(ctx context.Context, q *Request, f Form) (Reply, error) {
	if err := ctx.Err(); err != nil {
		return Reply{}, err
	}
	if q.Sent != nil && f.EDNS && q.Sent.used.CompareAndSwap(false, true) { // that datagram has an OPT
		return q.Sent.wait(ctx)
	}
	return d.send(ctx, q, f, nil)
}

// offer sends q with a new client cookie and waits for its answer until ctx ends. If the answer echoes the cookie, further queries carry it. An answer without a
// cookie is accepted too.
func (d *datagrams) offer(ctx context.Context, q *Request, f Form) (Reply, error) {
	return d.send(ctx, q, f, newCookie(netip.Addr{}))
}

// send sends one datagram for q and waits for its answer until ctx ends. offered is a cookie that was never sent before. If offered is
// nil, the query carries the current cookie, if there is one, and the answer must echo it.
func (d *datagrams) send(ctx context.Context, q *Request, f Form, offered *cookie) (Reply, error) {
	conn, err := d.open(ctx)
	if err != nil {
		return Reply{}, fmt.Errorf("opening a UDP socket: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	switch {
	case offered != nil:
		offered.local = localAddr(conn)
		f.Cookie = offered.value()
	case f.EDNS:
		f.Cookie = d.cookies.use(localAddr(conn), time.Now())
	}
	var space [maxQuery]byte
	sent := AppendQuery(space[:0], &q.Question, randomID(), f)
	if _, err := conn.Write(sent); err != nil {
		return Reply{}, fmt.Errorf("sending over UDP: %w", err)
	}
	buf := d.buffers.Get().(*[MaxDatagram]byte)
	defer d.buffers.Put(buf)
	for range MaxForeign {
		n, err := conn.Read(buf[:])
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = context.Cause(ctx)
			}
			return Reply{}, fmt.Errorf("waiting over UDP: %w", err)
		}
		m, err := d.judge(buf[:n], sent, f.Mix, n == len(buf), offered)
		if m == Foreign {
			d.foreign.Add(1)
		}
		switch {
		case err != nil:
			return Reply{}, err
		case m == Foreign:
		case m == Bare:
			return Restore(buf[:n], &q.Question), nil
		default:
			return Read(append([]byte(nil), buf[:n]...), &q.Question)
		}
	}
	return Reply{}, ErrFlooded
}

// judge judges a datagram by JudgeDatagram. The answer to an offer need not echo the offered cookie.
func (d *datagrams) judge(msg, sent []byte, mixed, cut bool, offered *cookie) (Match, error) {
	if offered == nil {
		return d.cookies.judge(msg, sent, mixed, cut)
	}
	m, err := judgeDatagram(msg, sent, mixed, cut)
	if m != Foreign {
		d.cookies.adopt(offered, msg)
	}
	return m, err
}
