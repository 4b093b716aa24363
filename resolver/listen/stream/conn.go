package stream

import (
	"sync"
	"time"

	"rempart/internal/wire"
)

const frameHeader = 2 // the length before each message (RFC 1035 section 4.2.2)

// framedConn is a connection over TCP or TLS, on which the length of each message precedes the message. Its reader calls Fast on the queries that arrived, and
// writes the answers of Fast at once. Answers of the slow path are written when they are ready, in any order (RFC 7766 section 7).
type framedConn struct {
	*connection

	mu       sync.Mutex
	ready    [][]byte // answers of the slow path that were not written yet, each behind its length
	flushing bool     // a goroutine is writing them
}

// run reads until the client closes the connection, is idle for too long, or sends something that is no query.
func (st *framedConn) run() {
	defer st.close()
	defer st.slow.Wait()
	for {
		idle := st.idle()
		// The time for a whole message to arrive starts here: the connection of a client that sends byte by byte is closed.
		st.allow(idle)
		if !st.fill(messageLen) {
			return
		}
		st.asked.Store(time.Now().UnixNano())
		batch, used := st.frames(st.ws.batch, st.ws.in, idle)
		st.ws.batch = batch
		st.server.config.Handler.Fast(batch)
		if !st.answer(batch) || st.class == unauthorized {
			return
		}
		st.used(used)
	}
}

// messageLen returns the length of the first message in buf with the length before it.
func messageLen(buf []byte) int {
	if len(buf) < frameHeader {
		return frameHeader
	}
	return frameHeader + int(buf[0])<<8 + int(buf[1])
}

// frames makes queries of the whole messages at the start of buf, at most a batch. used is the length of these messages.
func (st *framedConn) frames(batch []wire.Query, buf []byte, idle time.Duration) (_ []wire.Query, used int) {
	for len(batch) < cap(batch) {
		n := messageLen(buf[used:])
		if n > len(buf)-used {
			break
		}
		batch = batch[:len(batch)+1]
		st.query(&batch[len(batch)-1], buf[used+frameHeader:used+n], idle)
		used += n
	}
	return batch, used
}

// answer writes the answers of a batch, then passes its slow queries to the pool. It returns false if the connection ends.
func (st *framedConn) answer(batch []wire.Query) bool {
	sound, owed := true, 0
	for i := range batch {
		switch q := &batch[i]; q.Outcome {
		case wire.Dropped:
			sound = false // a client that sends no queries is no DNS client
		case wire.Answered:
			owed += frameHeader + len(q.Out)
		}
	}
	if owed > 0 && !st.writeBatch(batch, owed) {
		return false
	}
	for i := range batch {
		q := &batch[i]
		switch {
		case q.Outcome == wire.Answered && q.Renew:
			st.handOver(q, st.post) // if there is no place, the answer is not refreshed now
		case q.Outcome == wire.Slow && !st.handOver(q, st.post):
			st.server.config.Handler.Shed(q)
			if !st.write(frame(nil, q.Out)) {
				return false
			}
		}
	}
	return sound
}

// writeBatch writes the answers of a batch, which are owed bytes long. It returns false if the client does not read them.
func (st *framedConn) writeBatch(batch []wire.Query, owed int) bool {
	if !st.owe(owed) {
		return false
	}
	defer st.owe(-owed)
	out := st.ws.out[:0]
	for i := range batch {
		if batch[i].Outcome != wire.Answered {
			continue
		}
		if len(out) > 0 && len(out)+len(batch[i].Out) > pieceRoom {
			if !st.send(out) {
				return false
			}
			out = out[:0]
		}
		out = frame(out, batch[i].Out)
	}
	st.ws.out = small(out, pieceRoom)
	return st.send(out)
}

func frame(out, answer []byte) []byte {
	out = append(out, byte(len(answer)>>8), byte(len(answer)))
	return append(out, answer...)
}

// post makes a goroutine of the connection write an answer, so that a client that reads no answers does not delay other clients on the slow path.
func (st *framedConn) post(q *wire.Query) {
	if !st.owe(frameHeader + len(q.Out)) {
		st.done(1)
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ready = append(st.ready, []byte{byte(len(q.Out) >> 8), byte(len(q.Out))}, q.Out)
	if !st.flushing {
		st.flushing = true
		go st.flush() // run waits for it: each answer holds a slot until it is written
	}
}

// flush writes answers until none is ready.
func (st *framedConn) flush() {
	for {
		st.mu.Lock()
		frames := st.ready
		st.ready = nil
		if len(frames) == 0 {
			st.flushing = false
			st.mu.Unlock()
			return
		}
		st.mu.Unlock()
		size, n := 0, len(frames)/2
		for _, f := range frames {
			size += len(f)
		}
		st.sendParts(frames)
		st.owe(-size)
		st.done(n)
	}
}
