package stream

import "rempart/internal/wire"

// answer writes the answers of a batch, then passes its slow queries to the pool. It returns false if the connection ends.
func (h *h2Conn) answer(batch []wire.Query) bool {
	if !h.writeBatch(batch) {
		return false
	}
	for i := range batch {
		q := &batch[i]
		switch {
		case q.Outcome == wire.Answered && q.Renew:
			h.handOver(q, nil) // if there is no place, the answer is not refreshed now
		case q.Outcome == wire.Slow && !h.wait(h.ids[i], q):
			h.server.config.Handler.Shed(q)
			if !h.sendAnswer(h.ids[i], q) {
				return false
			}
		}
	}
	return true
}

// wait passes a query to the slow path. It returns false if there is no place.
func (h *h2Conn) wait(id uint32, q *wire.Query) bool {
	h.writing.Lock()
	if h.streams[id] == nil {
		h.streams[id] = &h2Stream{done: true}
	}
	h.writing.Unlock()
	return h.answerLater(q, func(answered *wire.Query) { h.sendAnswer(id, answered) })
}

// writeBatch writes the answers of a batch. It returns false if the client does not read them.
func (h *h2Conn) writeBatch(batch []wire.Query) bool {
	h.writing.Lock()
	defer h.writing.Unlock()
	out := h.ws.out[:0]
	for i := range batch {
		q := &batch[i]
		switch q.Outcome {
		case wire.Dropped: // the content is no query
			delete(h.streams, h.ids[i])
			out = appendNumbers(out, frameReset, h.ids[i], h2ProtocolError)
		case wire.Answered:
			out = h.appendAnswer(out, h.ids[i], h.streams[h.ids[i]], q.Out)
		}
		if len(out) > pieceRoom {
			if !h.sendOwed(out) {
				return false
			}
			out = out[:0]
		}
	}
	h.ws.out = small(out, pieceRoom)
	return h.sendOwed(out)
}

// sendOwed writes frames, for which the client may return its windows. The caller holds h.writing.
func (h *h2Conn) sendOwed(data []byte) bool {
	h.given = min(h.given+len(data), maxGiven)
	return h.counted(data, h.sendLocked)
}

// maxGiven bounds the WINDOW_UPDATEs that a client may save up.
const maxGiven = 1 << 20

// sendAnswer sends the answer to a query that left its batch, unless the client reset its stream.
func (h *h2Conn) sendAnswer(id uint32, q *wire.Query) bool {
	h.writing.Lock()
	defer h.writing.Unlock()
	st := h.streams[id]
	if st == nil {
		return true
	}
	return h.sendOwed(h.appendAnswer(nil, id, st, q.Out))
}

// appendAnswer appends the frames of an answer, as far as the client's windows permit. st is nil if the stream is not in h.streams. The caller holds h.writing.
func (h *h2Conn) appendAnswer(out []byte, id uint32, st *h2Stream, answer []byte) []byte {
	out = appendResponse(out, id, statusOK, dnsMessage, len(answer), int64(maxAge(answer)))
	return h.appendContent(out, id, st, answer)
}

// appendContent appends the content of a response behind its header. What the client's windows do not permit yet is kept. The caller holds h.writing.
func (h *h2Conn) appendContent(out []byte, id uint32, st *h2Stream, content []byte) []byte {
	if n := int64(len(content)); st == nil && n <= min(h2FrameSize, h.window, h.initial) { // nearly always
		h.window -= n
		out = appendFrameHeader(out, len(content), frameData, flagEndStream, id)
		return append(out, content...)
	}
	if st == nil {
		if len(h.streams) >= maxStreams {
			return appendNumbers(out, frameReset, id, h2RefusedStream)
		}
		st = &h2Stream{}
		h.streams[id] = st
	}
	st.done, st.rest = true, content
	out = h.appendRest(out, id, st)
	if len(st.rest) > 0 {
		st.rest = append([]byte(nil), st.rest...) // content belongs to the batch
		if h.owe(len(st.rest)) {
			st.owed = len(st.rest)
		}
	}
	return out
}

// appendRest appends DATA frames of what remains of a response, as far as the windows permit, and ends the stream behind the last one.
func (h *h2Conn) appendRest(out []byte, id uint32, st *h2Stream) []byte {
	for len(st.rest) > 0 {
		n := min(int64(len(st.rest)), h2FrameSize, h.window, h.initial+st.window)
		if n <= 0 {
			return out
		}
		flags := byte(0)
		if n == int64(len(st.rest)) {
			flags = flagEndStream
		}
		out = appendFrameHeader(out, int(n), frameData, flags, id)
		out = append(out, st.rest[:n]...)
		st.rest = st.rest[n:]
		h.window -= n
		st.window -= n
	}
	h.endStream(id, st)
	return out
}

// resume sends what waited for the client's windows.
func (h *h2Conn) resume() {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.resumeLocked()
}

// resumeLocked is resume for a caller that holds h.writing.
func (h *h2Conn) resumeLocked() {
	var out []byte
	for id, st := range h.streams {
		if h.window <= 0 {
			break
		}
		if len(st.rest) == 0 {
			continue
		}
		if out = h.appendRest(out, id, st); len(out) > pieceRoom {
			if !h.sendOwed(out) {
				return
			}
			out = out[:0]
		}
	}
	h.sendOwed(out)
}
