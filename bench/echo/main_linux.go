// Command echo answers every query with itself over a bare socket, a batch with one system call each way: it is the
// floor under any DNS server that uses sockets.
//
//	go run ./bench/echo 127.0.0.1:5300
//
// It waits for queries in the kernel; with -poller it waits by way of Go's poller.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batch      = 64
	packetSize = 2048
	flagQR     = 0x80 // in the third byte of a message
)

// message is the kernel's struct mmsghdr.
type message struct {
	hdr unix.Msghdr
	len uint32
}

type echo struct {
	msgs    [batch]message
	vecs    [batch]unix.Iovec
	peers   [batch]unix.RawSockaddrInet4
	packets [batch][packetSize + 192]byte
}

func main() {
	poller := flag.Bool("poller", false, "wait by way of Go's poller")
	flag.Parse()
	fmt.Fprintln(os.Stderr, "echo:", run(flag.Arg(0), *poller))
	os.Exit(1)
}

// run echoes until an error.
func run(addr string, poller bool) error {
	conn, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return err
	}
	udp := conn.(*net.UDPConn)
	if err := udp.SetReadBuffer(4 << 20); err != nil {
		return err
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return err
	}
	e := &echo{}
	for i := range e.msgs {
		e.vecs[i].Base = &e.packets[i][0]
		h := &e.msgs[i].hdr
		h.Name, h.Iov = (*byte)(unsafe.Pointer(&e.peers[i])), &e.vecs[i]
		h.SetIovlen(1)
	}
	if !poller {
		var refused error
		err := raw.Control(func(fd uintptr) { refused = unix.SetNonblock(int(fd), false) })
		if err := errors.Join(err, refused); err != nil {
			return err
		}
	}
	n, errno := 0, unix.Errno(0)
	poll := func(fd uintptr) bool {
		n, errno = e.receive(fd, unix.MSG_DONTWAIT)
		return errno != unix.EAGAIN
	}
	wait := func(fd uintptr) { n, _ = e.receive(fd, unix.MSG_WAITFORONE) }
	answer := func(fd uintptr) { e.answer(fd, n) }
	for {
		if poller {
			err = raw.Read(poll)
		} else {
			err = raw.Control(wait)
		}
		if err == nil && n > 0 {
			err = raw.Control(answer)
		}
		if err != nil {
			return err
		}
	}
}

func (e *echo) receive(fd uintptr, flags uintptr) (int, unix.Errno) {
	for i := range e.msgs {
		e.vecs[i].SetLen(packetSize)
		e.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet4
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&e.msgs)), batch, flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// answer sends the first n messages back. Messages that the kernel does not accept are lost.
func (e *echo) answer(fd uintptr, n int) {
	for i := range e.msgs[:n] {
		e.packets[i][2] |= flagQR
		e.vecs[i].SetLen(int(e.msgs[i].len))
	}
	_, _, _ = unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&e.msgs)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
}
