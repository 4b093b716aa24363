package scenario

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/miekg/dns"
)

// network connects the server under test to upstreams that exist in memory only.
type network struct {
	received func(*upstreamQuery)
	ctx      context.Context // ends with the network
	end      context.CancelFunc
	work     sync.WaitGroup
}

// upstreamQuery is one query that the server under test sent to an upstream.
type upstreamQuery struct {
	msg       *dns.Msg
	packed    []byte
	transport string
	upstream  netip.Addr
	send      func([]byte) // sends an answer; does not wait, and does nothing once the connection has ended
	shut      func()       // ends the connection

	waiting bool // not answered so far
}

func newNetwork(received func(*upstreamQuery)) *network {
	n := &network{received: received}
	n.ctx, n.end = context.WithCancel(context.Background())
	return n
}

// close ends every connection and waits for its goroutines.
func (n *network) close() {
	n.end()
	n.work.Wait()
}

// dial connects to an upstream. A pipe passes each Write to one Read if the reader has room for all of it, like a datagram.
func (n *network) dial(_ context.Context, transport, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	client, server := net.Pipe()
	n.work.Go(func() { n.serve(server, transport, to.Addr()) })
	return client, nil
}

// serve reads queries from conn until either side closes it.
func (n *network) serve(conn net.Conn, transport string, upstream netip.Addr) {
	ctx, end := context.WithCancel(n.ctx)
	out := make(chan []byte, 64)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	defer end()
	n.work.Go(func() { write(ctx, conn, transport, out) })
	send := func(b []byte) {
		select {
		case out <- b:
		default: // too many answers are a mistake in the scenario: drop this one
		}
	}
	r := bufio.NewReaderSize(conn, dns.MaxMsgSize)
	for {
		packed, err := read(r, transport)
		if err != nil {
			return
		}
		q := &upstreamQuery{msg: new(dns.Msg), packed: packed, transport: transport, upstream: upstream, send: send, shut: end}
		if q.msg.Unpack(packed) != nil {
			q.msg = nil
		}
		n.received(q)
	}
}

// read reads one message.
func read(r *bufio.Reader, transport string) ([]byte, error) {
	if transport == "tcp" {
		var size [2]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return nil, err
		}
		packed := make([]byte, binary.BigEndian.Uint16(size[:]))
		_, err := io.ReadFull(r, packed)
		return packed, err
	}
	if _, err := r.Peek(1); err != nil {
		return nil, err
	}
	packed, err := r.Peek(r.Buffered()) // one datagram: the pipe passes one Write at a time
	packed = slices.Clone(packed)
	r.Discard(len(packed))
	return packed, err
}

// write sends messages until ctx ends. Only one goroutine may write to a pipe: a second one would wait for a mutex, and virtual time does
// not pass during that wait.
func write(ctx context.Context, conn net.Conn, transport string, out <-chan []byte) {
	for {
		select {
		case b := <-out:
			if transport == "tcp" {
				b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
			}
			if _, err := conn.Write(b); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
