// Package mmsg receives and sends datagrams in batches, with one system call for each batch (recvmmsg(2) and sendmmsg(2)). On other systems it is empty.
package mmsg

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Header is the kernel's struct mmsghdr: the header of a message, and its length after Receive.
type Header struct {
	Hdr unix.Msghdr
	Len uint32
}

// Receive fills headers with datagrams that have arrived, and returns their number. With the flag unix.MSG_DONTWAIT it returns unix.EAGAIN if none has arrived,
// with unix.MSG_WAITFORONE it blocks the thread until the first has arrived. Another error may belong to a datagram that was sent before.
func Receive(fd uintptr, headers []Header, flags int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(unsafe.SliceData(headers))), uintptr(len(headers)), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Send passes datagrams to the kernel, without waiting, and returns how many the kernel accepted. An error is that of the first datagram that it did not accept,
// and is returned only if it accepted none.
func Send(fd uintptr, headers []Header) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(unsafe.SliceData(headers))), uintptr(len(headers)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
