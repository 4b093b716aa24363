package listen

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"rempart/internal/mmsg"
	"rempart/internal/wire"
)

// lateAnswers sends answers to queries that left their batches, several with one system call.
type lateAnswers struct {
	worker *udpWorker

	mu       sync.Mutex // guards the following
	headers  [batchSize]mmsg.Header
	vectors  [batchSize]unix.Iovec
	from, to int // headers that are not sent yet
	sent     int
	errno    unix.Errno
	write    func(fd uintptr) bool
}

func (l *lateAnswers) init(w *udpWorker) {
	l.worker = w
	for i := range l.headers {
		l.headers[i].Hdr.Iov = &l.vectors[i]
		l.headers[i].Hdr.SetIovlen(1)
	}
	l.write = func(fd uintptr) bool {
		l.sent, l.errno = mmsg.Send(fd, l.headers[l.from:l.to])
		return l.errno != unix.EAGAIN
	}
}

// send sends the answers of those queries that have one.
func (l *lateAnswers) send(queries ...*wire.Query) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.worker.limiter.Now()
	for _, q := range queries {
		if q.Outcome != wire.Answered || len(q.Out) == 0 || l.worker.keeps(asSlow(q)) {
			continue
		}
		if l.worker.limiter.Weigh(q, now); q.Outcome != wire.Answered {
			continue
		}
		l.add(asSlow(q))
		if l.to == batchSize {
			l.flush()
		}
	}
	l.flush()
}

// add puts an answer into the batch.
func (l *lateAnswers) add(s *slowQuery) {
	l.vectors[l.to].Base = &s.Out[0]
	l.vectors[l.to].SetLen(len(s.Out))
	h := &l.headers[l.to].Hdr
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&s.peer)), s.peerLen
	h.Control = nil
	h.SetControllen(0)
	if s.controlLen > 0 {
		answerFrom(s.control[:s.controlLen])
		h.Control = &s.control[0]
		h.SetControllen(s.controlLen)
	}
	l.to++
}

// flush sends the batch, and skips answers that the kernel refuses.
func (l *lateAnswers) flush() {
	for l.from = 0; l.from < l.to; {
		if err := l.worker.raw.Write(l.write); err != nil {
			l.worker.counts.sendFailures.Add(uint64(l.to - l.from))
			break
		}
		if l.errno != 0 {
			l.worker.counts.sendFailures.Add(1)
			l.sent = 1
		}
		l.from += l.sent
	}
	for i := range l.headers[:l.to] { // no answer is held longer than needed
		h := &l.headers[i].Hdr
		h.Name, h.Control, l.vectors[i].Base = nil, nil, nil
	}
	l.to = 0
}
