package listen

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"rempart/internal/wire"
)

// leaveUnanswered makes the worker send no more failures: the queries are kept instead, for the process after this one. Call it when run has returned.
func (w *udpWorker) leaveUnanswered() { w.leaves.Store(true) }

// keeps reports whether the answer to a query that left its batch is a failure that is not sent, and keeps the query then. late.mu is held.
func (w *udpWorker) keeps(s *slowQuery) bool {
	if !w.leaves.Load() || wire.Rcode(s.Out) != wire.ServFail {
		return false
	}
	peer := (*[unix.SizeofSockaddrInet6]byte)(unsafe.Pointer(&s.peer))
	w.left = append(w.left, Unanswered{
		Socket: w.name, Packet: append([]byte(nil), s.packet...), Client: s.Client, Local: s.Local,
		Peer: append([]byte(nil), peer[:min(int(s.peerLen), len(peer))]...), Control: append([]byte(nil), s.control[:s.controlLen]...),
	})
	return true
}

// unanswered returns the queries that are left to the process after this one.
func (w *udpWorker) unanswered() []Unanswered {
	w.late.mu.Lock()
	defer w.late.mu.Unlock()
	return w.left
}

// resume answers the queries of the process before this one.
func (w *udpWorker) resume() {
	for len(w.before) > 0 {
		n := min(len(w.before), batchSize)
		w.msgs.prepare()
		for i, u := range w.before[:n] {
			w.msgs.load(&w.queries[i], i, u)
		}
		w.msgs.used = n
		w.handle(w.queries[:n])
		w.before = w.before[n:]
	}
	w.before = nil
}

// load makes q of a query of an earlier process, as if it had been received as message i.
func (m *messages) load(q *wire.Query, i int, u Unanswered) {
	q.Packet = m.packets[i*(packetSize+apart):][:copy(m.packets[i*(packetSize+apart):][:packetSize], u.Packet)]
	q.Client, q.Local = u.Client, u.Local
	peer := (*[unix.SizeofSockaddrInet6]byte)(unsafe.Pointer(&m.peers[i]))
	h := &m.in[i].Hdr
	h.Namelen = uint32(copy(peer[:], u.Peer))
	h.Control = nil
	h.SetControllen(0)
	if m.wildcard {
		h.Control = &m.controls[i][0]
		h.SetControllen(copy(m.controls[i][:], u.Control))
	}
}
