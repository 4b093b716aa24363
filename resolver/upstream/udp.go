package upstream

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
	receiveLen = 4096 // size of the receive buffer; a longer datagram is truncated, and the query is sent over TCP
	maxForeign = 20   // datagrams on one socket that answer no question, until its questions are sent over TCP instead
)

// datagrams asks one upstream over UDP, each query from a socket of its own: the kernel
// chooses the port at random and lets nothing in from another source (RFC 5452 section 9.2).
type datagrams struct {
	addr    *net.UDPAddr
	dial    dialFunc       // nil: use a socket
	foreign *atomic.Uint64 // counts datagrams that were no answer to the question
	buffers sync.Pool
}

func newDatagrams(addr netip.AddrPort, dial dialFunc, foreign *atomic.Uint64) *datagrams {
	return &datagrams{addr: net.UDPAddrFromAddrPort(addr), dial: dial, foreign: foreign, buffers: sync.Pool{New: func() any { return new([receiveLen]byte) }}}
}

// open returns a new connection with a port of its own.
func (d *datagrams) open(ctx context.Context) (net.Conn, error) {
	if d.dial != nil {
		return d.dial(ctx, "udp", d.addr.String())
	}
	return net.DialUDP("udp", nil, d.addr)
}

// ask sends q and waits for its answer until ctx ends. An error that wantsTCP says that TCP has to be used.
func (d *datagrams) ask(ctx context.Context, q *Question, f form) (reply, error) {
	if err := ctx.Err(); err != nil {
		return reply{}, err
	}
	if q.first != nil && f.edns && q.first.used.CompareAndSwap(false, true) { // that datagram has an OPT
		return q.first.wait(ctx)
	}
	conn, err := d.open(ctx)
	if err != nil {
		return reply{}, fmt.Errorf("opening a UDP socket: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	var space [maxQuery]byte
	sent := appendQuery(space[:0], q, randomID(), f)
	if _, err := conn.Write(sent); err != nil {
		return reply{}, fmt.Errorf("sending over UDP: %w", err)
	}
	buf := d.buffers.Get().(*[receiveLen]byte)
	defer d.buffers.Put(buf)
	for range maxForeign {
		n, err := conn.Read(buf[:])
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = context.Cause(ctx)
			}
			return reply{}, fmt.Errorf("waiting over UDP: %w", err)
		}
		switch m := compare(buf[:n], sent); {
		case m == foreign && questionless(buf[:n], sent):
			d.foreign.Add(1)
			return reply{}, errQuestionless
		case m == foreign:
			d.foreign.Add(1)
		case m == bare:
			return restore(buf[:n], q), nil
		case m == recased && f.mix:
			d.foreign.Add(1)
			return reply{}, errRecased
		case wire.Flags(buf[:n])&wire.FlagTC != 0 || n == len(buf):
			return reply{}, errTruncated
		default:
			return read(append([]byte(nil), buf[:n]...), q)
		}
	}
	return reply{}, errFlooded
}
