package listen

import (
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tune sets the options of a socket, our own or a supervisor's, as far as the kernel accepts them: options of the other family fail, and a smaller receive
// queue shows only in the metrics.
func tune(fd uintptr, wildcard bool, spin time.Duration) {
	set := func(level, opt, value int) error { return unix.SetsockoptInt(int(fd), level, opt, value) }
	if set(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, ReceiveRoom) != nil {
		_ = set(unix.SOL_SOCKET, unix.SO_RCVBUF, ReceiveRoom)
	}
	if wildcard {
		// An answer leaves from the address that the query was sent to. An IPv6 socket that also receives IPv4 reports both kinds of addresses in messages of
		// IPv6.
		if set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) != nil {
			_ = set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	}
	// RFC 9715 section 3.1: answers leave with DF set and are never fragmented; the path MTU, which anybody can forge, is ignored.
	_ = set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	_ = set(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	if spin > 0 {
		// If the kernel supports it, asking the socket also asks its device.
		_ = set(unix.SOL_SOCKET, unix.SO_BUSY_POLL, int(spin.Microseconds()))
	}
}

// controlPacket sets a UDP socket up before it is bound.
func controlPacket(network, _ string, c syscall.RawConn) error {
	var err error
	set := func(fd uintptr, level, opt, value int) {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, opt, value))
		}
	}
	ctl := c.Control(func(fd uintptr) {
		bindFreely(fd)
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		if network == "udp6" {
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		}
	})
	return errors.Join(ctl, err)
}

// bindFreely allows a socket to be bound to an address that the machine does not have yet (ip(7)): at boot, the network may start later, and the socket
// receives packets for the address from then on. Without these options in the kernel, the bind fails.
func bindFreely(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
}

// controlAlone sets the options of a socket that no other socket shares its address with, before it is bound: both wildcards can be bound.
func controlAlone(network, _ string, c syscall.RawConn) error {
	var err error
	ctl := c.Control(func(fd uintptr) {
		bindFreely(fd)
		if network != "tcp6" && network != "udp6" {
			return
		}
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
	})
	return errors.Join(ctl, err)
}

// drops is how many queries the kernel dropped because the socket's queue was full.
func (w *udpWorker) drops() (n uint64) {
	const memInfoDrops = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h
	_ = w.raw.Control(func(fd uintptr) {
		var info [memInfoDrops + 1]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 && size == uint32(unsafe.Sizeof(info)) {
			n = uint64(info[memInfoDrops])
		}
	})
	return n
}

// isListening reports whether a TCP socket accepts connections.
func isListening(s syscall.Conn) (listening bool) {
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		value, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		listening = err == nil && value != 0
	})
	return err == nil && listening
}
