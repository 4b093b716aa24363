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
	"os"

	"golang.org/x/sys/unix"

	"rempart/bench/packets"
)

const flagQR = 0x80 // in the third byte of a message

func main() {
	poller := flag.Bool("poller", false, "wait by way of Go's poller")
	flag.Parse()
	fmt.Fprintln(os.Stderr, "echo:", run(flag.Arg(0), *poller))
	os.Exit(1)
}

// run echoes until an error.
func run(addr string, poller bool) error {
	socket, err := packets.Listen(addr)
	if err != nil {
		return err
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	if !poller {
		var refused error
		err := raw.Control(func(fd uintptr) { refused = unix.SetNonblock(int(fd), false) })
		if err := errors.Join(err, refused); err != nil {
			return err
		}
	}
	b := packets.New()
	n, errno := 0, unix.Errno(0)
	poll := func(fd uintptr) bool {
		n, errno = b.Receive(fd, unix.MSG_DONTWAIT)
		return errno != unix.EAGAIN
	}
	wait := func(fd uintptr) { n, _ = b.Receive(fd, unix.MSG_WAITFORONE) }
	answer := func(fd uintptr) {
		for i := range n {
			if m := b.Data(i); len(m) > 2 {
				m[2] |= flagQR
			}
		}
		b.Send(fd, n)
	}
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
