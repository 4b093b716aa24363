// Package packets sends and receives UDP datagrams over IPv4 in batches, with one system call for each batch and direction. The bare programs with which
// servers are compared use it.
package packets

import (
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"

	"rempart/internal/mmsg"
)

const (
	// Max is the number of datagrams in a batch.
	Max = 64
	// Size is the length of the longest datagram, in bytes; the rest of a longer one is lost.
	Size  = 2048
	apart = 192 // between two buffers: at a distance of a power of two they would share a few lines of the processor's caches
)

// Batch holds the datagrams of one batch and the addresses of their senders or receivers. It must not be copied after New.
type Batch struct {
	msgs  [Max]mmsg.Header
	vecs  [Max]unix.Iovec
	peers [Max]unix.RawSockaddrInet4
	data  [Max][Size + apart]byte
}

// New returns an empty batch.
func New() *Batch {
	b := &Batch{}
	for i := range b.msgs {
		b.vecs[i].Base = &b.data[i][0]
		b.msgs[i].Hdr.Iov = &b.vecs[i]
		b.msgs[i].Hdr.SetIovlen(1)
	}
	return b
}

// Receive fills the batch with datagrams that have arrived, and returns their number. With unix.MSG_DONTWAIT it returns unix.EAGAIN if there is none, with
// unix.MSG_WAITFORONE it waits for the first.
func (b *Batch) Receive(fd uintptr, flags int) (int, unix.Errno) {
	for i := range b.msgs {
		b.vecs[i].SetLen(Size)
		h := &b.msgs[i].Hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.peers[i])), unix.SizeofSockaddrInet4
	}
	n, errno := mmsg.Receive(fd, b.msgs[:], flags)
	for i := range b.msgs[:n] {
		b.vecs[i].SetLen(int(b.msgs[i].Len))
	}
	return n, errno
}

// Data returns the bytes of datagram i.
func (b *Batch) Data(i int) []byte { return b.data[i][:b.msgs[i].Len] }

// Peer returns the address of datagram i: its sender after Receive, its receiver for Send.
func (b *Batch) Peer(i int) *unix.RawSockaddrInet4 { return &b.peers[i] }

// Send sends the first n datagrams to their peers. Datagrams that the kernel does not accept are lost.
func (b *Batch) Send(fd uintptr, n int) {
	_, _ = mmsg.Send(fd, b.msgs[:n])
}

// SendConnected sends the first n datagrams over a connected socket. Datagrams that the kernel does not accept are lost.
func (b *Batch) SendConnected(fd uintptr, n int) {
	for i := range b.msgs[:n] {
		h := &b.msgs[i].Hdr
		h.Name, h.Namelen = nil, 0
	}
	b.Send(fd, n)
}

// Socket is a UDP socket with a large receive buffer.
type Socket struct{ *net.UDPConn }

// Listen returns a socket that listens on addr.
func Listen(addr string) (Socket, error) {
	conn, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return Socket{}, err
	}
	return tuned(conn.(*net.UDPConn))
}

// Dial returns a socket that is connected to addr.
func Dial(addr string) (Socket, error) {
	conn, err := net.Dial("udp4", addr)
	if err != nil {
		return Socket{}, err
	}
	return tuned(conn.(*net.UDPConn))
}

const bufferSize = 4 << 20

func tuned(conn *net.UDPConn) (Socket, error) {
	if err := conn.SetReadBuffer(bufferSize); err != nil {
		return Socket{}, errors.Join(err, conn.Close())
	}
	return Socket{conn}, nil
}
