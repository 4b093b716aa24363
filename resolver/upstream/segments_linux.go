package upstream

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"rempart/internal/mmsg"
)

// segments joins consecutive datagrams of a batch that have the same length into one message, which the kernel divides again (UDP_SEGMENT, udp(7)). Most of the
// cost of a datagram is its way through the kernel, which a message takes only once.
type segments struct {
	headers [maxDatagrams]mmsg.Header
	first   [maxDatagrams + 1]int // by message: the index of its first datagram; then the number of datagrams
	control [maxDatagrams]segmentSize
	off     bool // each datagram is a message: the kernel or the network device cannot divide messages
}

// segmentSize is a control message with the length of the datagrams of a message, in the kernel's form.
type segmentSize [syscall.SizeofCmsghdr + 8]byte

// set writes the length of the datagrams.
func (c *segmentSize) set(length int) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(c))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(c[unix.CmsgLen(0):], uint16(length))
}

// join makes messages of the datagrams of b from index at to index n, and returns how many. The memory of b is borrowed.
func (s *segments) join(b *datagramBatch, at, n int) (messages int) {
	for ; at < n; messages++ {
		end := at + 1
		for !s.off && end < n && b.vectors[end].Len == b.vectors[at].Len {
			end++
		}
		h := &s.headers[messages].Hdr
		h.Iov = &b.vectors[at]
		h.SetIovlen(end - at)
		h.Control = nil
		h.SetControllen(0)
		if end-at > 1 {
			c := &s.control[messages]
			c.set(int(b.vectors[at].Len))
			h.Control = &c[0]
			h.SetControllen(len(c))
		}
		s.first[messages] = at
		at = end
	}
	s.first[messages] = n
	return messages
}

// cannotDivide reports whether errno says that a message could not be divided: the kernel is too old, or the network device computes no checksums.
func cannotDivide(errno unix.Errno) bool { return errno == unix.EIO || errno == unix.EINVAL }
