package listen

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rempart/internal/wire"
)

const (
	reusePort  = true
	batchSize  = 64
	packetSize = 4096 // a longer query is cut, and so answered FORMERR
	// answerSize is what an answer's buffer begins with: the largest that is sent, and room for a cached
	// one to be laid out before it is found too large.
	answerSize  = 2048
	controlSize = 64      // room for one packet-info message
	receiveRoom = 4 << 20 // octets of the kernel's receive queue asked for
)

// mmsghdr is the kernel's struct of recvmmsg(2): a header and the length of what came.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// udpWorker is one loop over one socket. The buffers are its own; slow queries are copied out.
type udpWorker struct {
	conn    *net.UDPConn
	raw     syscall.RawConn
	handler Handler
	pool    *pool
	copies  sync.Pool // of *slowQuery

	queries  []wire.Query
	in, out  []mmsghdr
	inVec    []unix.Iovec
	outVec   []unix.Iovec
	peers    []unix.RawSockaddrInet6 // large enough for either family
	controls [][controlSize]byte
	packets  []byte
	wildcard bool

	// The arguments and results of the system calls, which run inside a callback of the poller.
	errno        syscall.Errno
	count        int
	pending      []mmsghdr
	receive      func(fd uintptr) bool
	send         func(fd uintptr) bool
	sendFailures atomic.Uint64
}

func newUDPWorker(conn *net.UDPConn, wildcard bool, h Handler, p *pool) (*udpWorker, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &udpWorker{
		conn: conn, raw: raw, handler: h, pool: p, wildcard: wildcard,
		queries: make([]wire.Query, batchSize),
		in:      make([]mmsghdr, batchSize), out: make([]mmsghdr, batchSize),
		inVec: make([]unix.Iovec, batchSize), outVec: make([]unix.Iovec, batchSize),
		peers: make([]unix.RawSockaddrInet6, batchSize), controls: make([][controlSize]byte, batchSize),
		packets: make([]byte, batchSize*packetSize),
	}
	w.copies.New = func() any { return &slowQuery{} }
	if err := raw.Control(tune); err != nil {
		return nil, err
	}
	for i := range w.queries {
		w.queries[i].Out = make([]byte, 0, answerSize)
		w.inVec[i].Base = &w.packets[i*packetSize]
		w.inVec[i].SetLen(packetSize)
		h := &w.in[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&w.peers[i]))
		h.Iov = &w.inVec[i]
		h.SetIovlen(1)
	}
	w.receive = func(fd uintptr) bool {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&w.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		w.count, w.errno = int(n), errno
		return errno != unix.EAGAIN
	}
	w.send = func(fd uintptr) bool {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&w.pending[0])), uintptr(len(w.pending)), unix.MSG_DONTWAIT, 0, 0)
		w.count, w.errno = int(n), errno
		return errno != unix.EAGAIN
	}
	return w, nil
}

// run receives, answers and sends batches until the socket's deadline passes or it is closed.
func (w *udpWorker) run() {
	for {
		n, err := w.receiveBatch()
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			w.drain()
			return
		}
		if n == 0 {
			continue // an error of an earlier answer, reported by the kernel now
		}
		batch := w.queries[:n]
		w.handler.Fast(batch)
		w.answer(batch)
	}
}

// drain answers what had come before the socket was stopped, without waiting for more.
func (w *udpWorker) drain() {
	for {
		n, err := w.collect(func(receive func(fd uintptr) bool) error {
			return w.raw.Control(func(fd uintptr) { receive(fd) })
		})
		if err != nil || n == 0 {
			return
		}
		batch := w.queries[:n]
		w.handler.Fast(batch)
		w.answer(batch)
	}
}

// stop makes run return after the batch it is at.
func (w *udpWorker) stop() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) }

// receiveBatch fills queries with what has come, waiting for one at least.
func (w *udpWorker) receiveBatch() (int, error) { return w.collect(w.raw.Read) }

// collect is receiveBatch by way of read, which runs the system call, and may wait and run it again.
func (w *udpWorker) collect(read func(func(fd uintptr) bool) error) (int, error) {
	for i := range w.in {
		h := &w.in[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		if w.wildcard {
			h.Control = &w.controls[i][0]
			h.SetControllen(controlSize)
		}
	}
	if err := read(w.receive); err != nil {
		return 0, err
	}
	if w.errno != 0 {
		return 0, nil
	}
	for i := range w.count {
		q := &w.queries[i]
		q.Packet = w.packets[i*packetSize:][:w.in[i].len]
		q.Transport = wire.UDP
		var port uint16
		q.Client, port = peer(&w.peers[i])
		if port == 0 {
			q.Packet = nil // nobody can be answered there: no query to the handler
		}
	}
	return w.count, nil
}

// peer reads a socket address of either family.
func peer(sa *unix.RawSockaddrInet6) (netip.Addr, uint16) {
	if sa.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrFrom4(v4.Addr), hostOrder(v4.Port)
	}
	return netip.AddrFrom16(sa.Addr).Unmap(), hostOrder(sa.Port)
}

func hostOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&port))[:])
}

// answer sends what a batch's queries have, and hands the slow ones over.
func (w *udpWorker) answer(batch []wire.Query) {
	n := 0
	for i := range batch {
		q := &batch[i]
		switch q.Outcome {
		case wire.Slow:
			if w.handOver(q, i) {
				continue
			}
			w.handler.Shed(q)
		case wire.Answered:
		default:
			continue
		}
		w.outVec[n].Base = &q.Out[0]
		w.outVec[n].SetLen(len(q.Out))
		w.address(&w.out[n].hdr, i)
		w.out[n].hdr.Iov = &w.outVec[n]
		w.out[n].hdr.SetIovlen(1)
		n++
	}
	w.sendAll(w.out[:n])
	for i := range batch {
		if q := &batch[i]; q.Outcome == wire.Answered && q.Renew {
			w.handOver(q, i) // without room it is not renewed: it can wait
		}
	}
}

// address makes h go back to where query i came from, leaving from the address it was sent to.
func (w *udpWorker) address(h *unix.Msghdr, i int) {
	in := &w.in[i].hdr
	h.Name, h.Namelen = in.Name, in.Namelen
	h.Control = nil
	h.SetControllen(0)
	if w.wildcard && in.Controllen > 0 {
		answerFrom(w.controls[i][:in.Controllen])
		h.Control = in.Control
		h.Controllen = in.Controllen
	}
}

// answerFrom turns the packet info that was received into one to send with: the address stays, the
// interface is the routing's to choose, but for link-local ones, which mean nothing without.
func answerFrom(control []byte) {
	if len(control) < unix.SizeofCmsghdr {
		return
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	data := control[unix.CmsgLen(0):]
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Ifindex = 0
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
		if !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
			info.Ifindex = 0
		}
	}
}

// sendAll sends messages, stepping over those the kernel refuses.
func (w *udpWorker) sendAll(out []mmsghdr) {
	for len(out) > 0 {
		w.pending = out
		if err := w.raw.Write(w.send); err != nil {
			w.sendFailures.Add(uint64(len(out)))
			return
		}
		if w.errno != 0 {
			w.sendFailures.Add(1)
			w.count = 1
		}
		out = out[w.count:]
	}
}

// slowQuery is a query that left its batch, with where to answer it.
type slowQuery struct {
	wire.Query
	packet  []byte
	peer    unix.RawSockaddrInet6
	control [controlSize]byte
	hdr     unix.Msghdr
	vec     unix.Iovec
}

// handOver copies query i to the slow path; false if there is no room.
func (w *udpWorker) handOver(q *wire.Query, i int) bool {
	s := w.copies.Get().(*slowQuery)
	out := s.Out
	s.packet = append(s.packet[:0], q.Packet...)
	s.Query = *q
	s.Packet, s.Out = s.packet, out[:0]
	s.peer = w.peers[i]
	s.hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&s.peer)), Namelen: w.in[i].hdr.Namelen}
	if n := w.in[i].hdr.Controllen; w.wildcard && n > 0 {
		copy(s.control[:], w.controls[i][:n])
		s.hdr.Control, s.hdr.Controllen = &s.control[0], n
	}
	if w.pool.run(func(ctx context.Context) { w.slow(ctx, s) }) {
		return true
	}
	w.copies.Put(s)
	return false
}

// slow answers one query on the slow path.
func (w *udpWorker) slow(ctx context.Context, s *slowQuery) {
	renew := s.Renew
	w.handler.Slow(ctx, &s.Query)
	if s.Outcome == wire.Answered && !renew && len(s.Out) > 0 {
		s.vec.Base = &s.Out[0]
		s.vec.SetLen(len(s.Out))
		s.hdr.Iov = &s.vec
		s.hdr.SetIovlen(1)
		if s.hdr.Control != nil {
			answerFrom(s.control[:s.hdr.Controllen])
		}
		var errno syscall.Errno
		err := w.raw.Write(func(fd uintptr) bool {
			_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&s.hdr)), unix.MSG_DONTWAIT)
			return errno != unix.EAGAIN
		})
		if err != nil || errno != 0 {
			w.sendFailures.Add(1)
		}
	}
	w.copies.Put(s)
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

// tune sets up a socket, our own or one handed over, as far as the kernel lets it: options of the other
// family fail, and a smaller receive queue only shows in the figures.
func tune(fd uintptr) {
	set := func(level, opt, value int) error { return unix.SetsockoptInt(int(fd), level, opt, value) }
	if set(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveRoom) != nil {
		_ = set(unix.SOL_SOCKET, unix.SO_RCVBUF, receiveRoom)
	}
	// Where the answer is to leave from is known from where the query was sent to. One message tells it: an
	// IPv6 socket that takes IPv4 too tells of both kinds in IPv6's.
	if set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) != nil {
		_ = set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	// RFC 9715 section 3.1: answers leave with DF set and are never fragmented; what the path's
	// size is said to be, which anybody can forge, is not believed.
	_ = set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	_ = set(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
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
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		if network == "udp6" {
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		}
	})
	return errors.Join(ctl, err)
}

// controlStream lets both wildcards be bound.
func controlStream(network, _ string, c syscall.RawConn) error {
	if network != "tcp6" {
		return nil
	}
	var err error
	ctl := c.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
	})
	return errors.Join(ctl, err)
}
