package listen

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"rempart/internal/mmsg"
	"rempart/internal/wire"
	"rempart/resolver/listen/proxyproto"
)

const (
	batchSize  = 64
	packetSize = 4096 // a longer query is truncated, and is answered with FORMERR
	// answerSize is the initial size of the buffer of an answer: enough for the largest answer that is sent,
	// and for a cached answer that turns out to be too large only after it was written.
	answerSize  = 2048
	controlSize = 64 // room for one packet-info message
	// apart is added between the buffers of a batch. If their distance were a power of two, they would share a few lines of the processor's caches.
	apart = 64 + 128
)

// messages are the datagrams of one batch in the kernel's form: received queries and their answers.
type messages struct {
	in, out  [batchSize]mmsg.Header
	inVec    [batchSize]unix.Iovec
	outVec   [batchSize]unix.Iovec
	peers    [batchSize]unix.RawSockaddrInet6 // large enough for either family
	controls [batchSize][controlSize]byte
	packets  []byte
	at       netip.AddrPort // the address of the socket
	ports    *ignoredPorts
	proxies  proxyproto.Proxies // whose datagrams begin with a header of the PROXY protocol
	counts   *udpCounts
	wildcard bool // the destination of each query is received with it, and the answer is sent from that address
	used     int  // of in, by the last batch
	ready    int  // of out
}

func newMessages(at netip.AddrPort, wildcard bool, ports *ignoredPorts, proxies proxyproto.Proxies, counts *udpCounts) *messages {
	m := &messages{at: at, ports: ports, proxies: proxies, counts: counts, wildcard: wildcard, packets: make([]byte, batchSize*(packetSize+apart)), used: batchSize}
	for i := range m.in {
		m.inVec[i].Base = &m.packets[i*(packetSize+apart)]
		m.inVec[i].SetLen(packetSize)
		in, out := &m.in[i].Hdr, &m.out[i].Hdr
		in.Name = (*byte)(unsafe.Pointer(&m.peers[i]))
		in.Iov, out.Iov = &m.inVec[i], &m.outVec[i]
		in.SetIovlen(1)
		out.SetIovlen(1)
	}
	return m
}

// prepare makes the headers that were filled last ready to be filled again.
func (m *messages) prepare() {
	for i := range m.in[:m.used] {
		h := &m.in[i].Hdr
		h.Namelen = unix.SizeofSockaddrInet6
		if m.wildcard {
			h.Control = &m.controls[i][0]
			h.SetControllen(controlSize)
		}
	}
	m.used = 0
}

// receive takes the datagrams that have arrived, without waiting.
func (m *messages) receive(fd uintptr) (int, syscall.Errno) {
	n, errno := mmsg.Receive(fd, m.in[:], unix.MSG_DONTWAIT)
	m.used = n
	return n, errno
}

// query makes q of message i.
func (m *messages) query(q *wire.Query, i int) {
	q.Packet = m.packets[i*(packetSize+apart):][:m.in[i].Len]
	var port uint16
	q.Client, port = peer(&m.peers[i])
	q.Local = m.destination(i)
	switch {
	case m.ports.has(port):
		m.counts.ignored[ignoredPort].Add(1)
	case port == m.at.Port() && q.Client == q.Local:
		m.counts.ignored[ignoredOwnAddress].Add(1) // it is forged
	default:
		if len(m.proxies) > 0 && m.proxies.Has(q.Client) {
			unwrap(q, m.ports, m.counts)
		}
		return
	}
	q.Packet = nil // the handler drops such a packet
}

// destination returns the address that message i was sent to; it is not valid if the kernel did not report it.
func (m *messages) destination(i int) netip.Addr {
	if !m.wildcard {
		return m.at.Addr()
	}
	control := m.controls[i][:m.in[i].Hdr.Controllen]
	if len(control) < unix.SizeofCmsghdr {
		return netip.Addr{}
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	data := control[unix.CmsgLen(0):]
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		return netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Addr)
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		return netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr).Unmap()
	}
	return netip.Addr{}
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

// answer adds out as the answer to message i, to its sender, from the address that it was sent to.
func (m *messages) answer(i int, out []byte) {
	n := m.ready
	m.ready++
	m.outVec[n].Base = &out[0]
	m.outVec[n].SetLen(len(out))
	h, in := &m.out[n].Hdr, &m.in[i].Hdr
	h.Name, h.Namelen = in.Name, in.Namelen
	if !m.wildcard {
		return
	}
	h.Control = nil
	h.SetControllen(0)
	if in.Controllen > 0 {
		answerFrom(m.controls[i][:in.Controllen])
		h.Control, h.Controllen = in.Control, in.Controllen
	}
}

// answerFrom turns the received packet info into one to send with: the address stays; the kernel chooses the interface, except for link-local addresses, which
// need one.
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

// send passes the answers from number at on to the kernel, and returns how many it accepted.
func (m *messages) send(fd uintptr, at int) (int, syscall.Errno) {
	return mmsg.Send(fd, m.out[at:m.ready])
}
