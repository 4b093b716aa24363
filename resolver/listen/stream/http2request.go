package stream

import (
	"golang.org/x/net/http2/hpack"

	"rempart/internal/wire"
)

// This file takes the frames of requests: HEADERS, CONTINUATION and DATA.

// headers begins a request, or ends one with trailers.
func (h *h2Conn) headers(f *h2Frame) []byte {
	block, ok := f.content()
	switch {
	case !ok, f.stream%2 == 0:
		h.fail(h2ProtocolError)
		return nil
	}
	h.head = h2Head{stream: f.stream, end: f.flags&flagEndStream != 0}
	if f.flags&flagEndHeaders != 0 {
		return h.endHeaders(block)
	}
	h.head.block = append(h.head.block, block...)
	return nil
}

// continuation adds to the header block.
func (h *h2Conn) continuation(f *h2Frame) []byte {
	if h.head.stream == 0 {
		h.fail(h2ProtocolError)
		return nil
	}
	h.head.frames++
	if h.head.frames > maxContinuations || len(h.head.block)+len(f.payload) > maxHeaderBlock {
		h.fail(h2EnhanceYourCalm)
		return nil
	}
	h.head.block = append(h.head.block, f.payload...)
	if f.flags&flagEndHeaders == 0 {
		return nil
	}
	return h.endHeaders(h.head.block)
}

// field takes a decompressed header field.
func (h *h2Conn) field(f hpack.HeaderField) {
	if h.head.add(f.Name, f.Value); h.head.size > maxHeaderList {
		h.decoder.SetEmitEnabled(false) // what follows only changes the table
	}
}

// endHeaders decodes a complete header block, and returns the query of a request without content.
func (h *h2Conn) endHeaders(block []byte) []byte {
	h.decoder.SetEmitEnabled(true)
	_, err := h.decoder.Write(block)
	if err == nil {
		err = h.decoder.Close()
	}
	head := h.head
	h.head = h2Head{}
	switch {
	case head.size > maxHeaderList:
		h.fail(h2EnhanceYourCalm)
		return nil
	case err != nil:
		h.fail(h2Compression)
		return nil
	}
	if head.stream <= h.last {
		return h.trailers(&head)
	}
	h.last = head.stream
	if head.isMalformed() {
		h.refuse(head.stream, h2ProtocolError)
		return nil
	}
	return h.begin(&head)
}

// trailers ends a request. Those of a stream that is over, which the client may have sent before it knew, are ignored (RFC 9113 section 5.1).
func (h *h2Conn) trailers(head *h2Head) []byte {
	st := h.stream(head.stream)
	switch {
	case st == nil || st.done:
		h.count()
		return nil
	case !head.end:
		h.fail(h2ProtocolError)
		return nil
	}
	return h.complete(head.stream, st)
}

// begin returns the query of a request without content, and prepares for the content of another one.
func (h *h2Conn) begin(head *h2Head) []byte {
	status := head.status()
	if h.isFull() {
		h.refuse(head.stream, h2RefusedStream)
		return nil
	}
	if status == statusOK && head.end {
		if head.method == "GET" {
			return h.get(head)
		}
		status = statusBadRequest
	}
	if status != statusOK {
		h.explain(head.stream, head.method, status, !head.end)
		return nil
	}
	h.writing.Lock()
	defer h.writing.Unlock()
	h.streams[head.stream] = &h2Stream{}
	return nil
}

// isFull reports whether the client has as many streams as it may have.
func (h *h2Conn) isFull() bool {
	h.writing.Lock()
	defer h.writing.Unlock()
	return len(h.streams) >= maxStreams
}

// get returns the query in a GET request.
func (h *h2Conn) get(head *h2Head) []byte {
	at := len(h.ws.scratch)
	var status int
	if h.ws.scratch, status = head.appendQuery(h.ws.scratch); status != statusOK {
		h.explain(head.stream, head.method, status, false)
		return nil
	}
	return h.ws.scratch[at:]
}

// data takes content of a request.
func (h *h2Conn) data(f *h2Frame) []byte {
	content, ok := f.content()
	if !ok || f.stream == 0 || f.stream > h.last {
		h.fail(h2ProtocolError)
		return nil
	}
	h.returnWindow(len(f.payload))
	end := f.flags&flagEndStream != 0
	if len(content) == 0 && !end {
		if !h.count() {
			return nil
		}
	}
	st := h.stream(f.stream)
	if st == nil || st.done { // it was answered, refused or reset
		return nil
	}
	if len(st.body)+len(content) > wire.MaxMessage {
		h.forget(f.stream)
		h.explain(f.stream, "POST", statusTooLarge, !end)
		return nil
	}
	if end && st.body == nil { // the usual case: the content lies in the input
		h.settle(f.stream, st)
		return content
	}
	if h.bodies+len(content) > wire.MaxMessage { // of one large query, or of several small ones
		h.forget(f.stream)
		h.refuse(f.stream, h2EnhanceYourCalm)
		return nil
	}
	h.bodies += len(content)
	st.body = append(st.body, content...)
	if !end {
		return nil
	}
	return h.complete(f.stream, st)
}

// complete returns the query of a request whose content arrived.
func (h *h2Conn) complete(id uint32, st *h2Stream) []byte {
	body := st.body
	h.settle(id, st)
	if body == nil {
		return []byte{}
	}
	return body
}

// settle ends the first half of a stream, whose request is complete. Only a stream whose window the client changed is kept until it is answered.
func (h *h2Conn) settle(id uint32, st *h2Stream) {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.bodies -= len(st.body)
	st.body, st.done = nil, true
	if st.window == 0 {
		delete(h.streams, id)
	}
}

// returnWindow gives n bytes of the connection's window back to the client, many at a time. A stream needs no more than its first window: a query is not larger.
func (h *h2Conn) returnWindow(n int) {
	if h.unacked += n; h.unacked > h2Window/2 {
		h.write(appendNumbers(nil, frameWindow, 0, uint32(h.unacked)))
		h.unacked = 0
	}
}

// stream returns a stream that is not over; nil if there is none.
func (h *h2Conn) stream(id uint32) *h2Stream {
	h.writing.Lock()
	defer h.writing.Unlock()
	return h.streams[id]
}

// forget ends a stream. Nothing more is sent on it.
func (h *h2Conn) forget(id uint32) {
	h.writing.Lock()
	defer h.writing.Unlock()
	if st := h.streams[id]; st != nil {
		h.bodies -= len(st.body)
		h.endStream(id, st)
	}
}

// endStream is forget for a caller that holds h.writing.
func (h *h2Conn) endStream(id uint32, st *h2Stream) {
	h.owe(-st.owed)
	delete(h.streams, id)
}

// refuse ends a stream with an error.
func (h *h2Conn) refuse(id uint32, code uint32) {
	h.write(appendNumbers(nil, frameReset, id, code))
}

// explain answers a request that holds no query. more reports that content of the request follows, which is not wanted.
func (h *h2Conn) explain(id uint32, method string, status int, more bool) {
	if !h.count() {
		return
	}
	h.writing.Lock()
	defer h.writing.Unlock()
	out := appendResponse(nil, id, status, "text/plain", len(explanationOfRequest), -1)
	if method == "HEAD" { // RFC 9110 section 9.3.2: no content
		out[4] |= flagEndStream
	} else {
		out = h.appendContent(out, id, nil, []byte(explanationOfRequest))
	}
	if more && h.streams[id] == nil {
		out = appendNumbers(out, frameReset, id, h2NoError) // RFC 9113 section 8.1
	}
	h.sendOwed(out)
}
