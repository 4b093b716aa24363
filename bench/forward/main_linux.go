// Command forward passes every query on to an upstream and its answer back, and looks at nothing but IDs: hardly any DNS forwarder
// that uses sockets can cost less. It receives and sends a batch with one system call, gives each query a new random ID, and spreads batches over 16 connected sockets.
//
//	go run ./bench/forward 127.0.0.1:5301 9.9.9.9:53
//
// The first address is where it listens, the second one is the upstream.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"rempart/bench/packets"
)

const (
	ports     = 16
	headerLen = 12
)

func main() {
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: forward LISTEN-ADDRESS UPSTREAM-ADDRESS") }
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "forward:", run(flag.Arg(0), flag.Arg(1)))
	os.Exit(1)
}

// client is the sender of a query.
type client struct {
	id   uint16
	peer unix.RawSockaddrInet4
}

// port is a socket that is connected to the upstream, with the clients of the queries sent over it, by their new IDs. If an ID is used again, the client before
// is forgotten.
type port struct {
	raw     syscall.RawConn
	clients [1 << 16]client
}

// run forwards until an error.
func run(addr, upstream string) error {
	socket, err := packets.Listen(addr)
	if err != nil {
		return err
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	failed := make(chan error)
	var all [ports]*port
	for i := range all {
		conn, err := packets.Dial(upstream)
		if err != nil {
			return err
		}
		p := &port{}
		if p.raw, err = conn.SyscallConn(); err != nil {
			return err
		}
		all[i] = p
		go func() { failed <- p.answer(raw) }()
	}
	go func() { failed <- ask(raw, all) }()
	return <-failed
}

// each calls handle with every batch that arrives at a socket.
func each(raw syscall.RawConn, b *packets.Batch, handle func(n int) error) error {
	n, errno := 0, unix.Errno(0)
	poll := func(fd uintptr) bool {
		n, errno = b.Receive(fd, unix.MSG_DONTWAIT)
		return errno != unix.EAGAIN
	}
	for {
		if err := raw.Read(poll); err != nil {
			return err
		}
		if n == 0 {
			continue // the error belongs to an earlier datagram
		}
		if err := handle(n); err != nil {
			return err
		}
	}
}

// ask sends the clients' queries to the upstream, each batch over the next port.
func ask(clients syscall.RawConn, all [ports]*port) error {
	b := packets.New()
	next := 0
	return each(clients, b, func(n int) error {
		p := all[next%ports]
		next++
		for i := range n {
			m := b.Data(i)
			if len(m) < headerLen {
				continue
			}
			id := uint16(rand.Uint32())
			p.clients[id] = client{binary.BigEndian.Uint16(m), *b.Peer(i)}
			binary.BigEndian.PutUint16(m, id)
		}
		return p.raw.Control(func(fd uintptr) { b.SendConnected(fd, n) })
	})
}

// answer sends the upstream's answers to the clients.
func (p *port) answer(clients syscall.RawConn) error {
	b := packets.New()
	return each(p.raw, b, func(n int) error {
		for i := range n {
			m := b.Data(i)
			if len(m) < headerLen {
				continue
			}
			c := &p.clients[binary.BigEndian.Uint16(m)]
			binary.BigEndian.PutUint16(m, c.id)
			*b.Peer(i) = c.peer
		}
		return clients.Control(func(fd uintptr) { b.Send(fd, n) })
	})
}
