//go:build unix

package stream

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket reads a TCP connection without memory of its own.
type socket struct {
	conn *net.TCPConn
	raw  syscall.RawConn
	take func(fd uintptr) bool // reads into the arrivals of the present read
	n    int
	err  error
}

// read reads into the room of a, and holds its workspace while it waits only if there is data in it.
func (s *socket) read(a *arrivals) (int, error) {
	if s.raw == nil {
		raw, err := s.conn.SyscallConn()
		if err != nil {
			return 0, err
		}
		s.raw = raw
		s.take = func(fd uintptr) bool {
			s.n, s.err = unix.Read(int(fd), a.room())
			for s.err == unix.EINTR {
				s.n, s.err = unix.Read(int(fd), a.room())
			}
			if s.err == unix.EAGAIN {
				a.release()
				return false
			}
			return true
		}
	}
	if err := s.raw.Read(s.take); err != nil {
		return 0, err
	}
	return max(s.n, 0), os.NewSyscallError("read", s.err)
}
