package listen

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2/hpack"

	"rempart/internal/wire"
)

const (
	maxHeaderBlock   = 16 << 10 // of one request, compressed
	maxHeaderList    = 16 << 10 // of one request, decompressed, as RFC 9113 section 6.5.2 counts
	maxContinuations = 8        // frames of one request's header block
	headerTable      = 4096     // of HPACK, for requests (the size of the protocol)
	maxControl       = 500      // frames in a row that belong to no request: settings, pings, resets, empty frames
	requestAllows    = 4        // so many of them belong to one request
)

// h2Conn is a connection over HTTP/2. Like stream, its reader calls Fast on the queries that arrived together and writes those answers together; answers of the
// slow path are written when they are ready.
type h2Conn struct {
	*connection
	decoder *hpack.Decoder
	head    h2Head
	last    uint32              // the highest stream of the client
	control int                 // frames that belong to no request, less those that requests allow
	unacked int                 // bytes of the connection's window that were used and not given back to the client
	bodies  int                 // bytes of incomplete requests that are held
	ids     [streamBatch]uint32 // the streams of the batch
	failing uint32              // the error of the connection; h2NoError while it is sound
	failed  bool

	// Guarded by connection.writing.
	window  int64 // bytes that may be sent
	given   int   // bytes that were sent and for which no WINDOW_UPDATE was received yet, at most maxGiven
	initial int64 // the same at the start of a stream
	streams map[uint32]*h2Stream
}

// h2Stream is a stream whose request is incomplete, is on the slow path, or whose answer waits for the client's window.
type h2Stream struct {
	body   []byte // of a POST request, as far as it arrived
	done   bool   // the request is complete
	window int64  // bytes that may be sent, beyond the initial window
	rest   []byte // of the response's content, not sent yet
	owed   int    // bytes that are counted as untaken for rest
}

// h2Head is the header block that arrives now.
type h2Head struct {
	requestHead
	stream uint32 // 0: none
	end    bool   // the request has no content
	block  []byte
	frames int
}

func newH2(c *connection) *h2Conn {
	h := &h2Conn{connection: c, window: h2Window, initial: h2Window, streams: map[uint32]*h2Stream{}}
	h.decoder = hpack.NewDecoder(headerTable, h.field)
	h.decoder.SetMaxStringLength(maxHeaderList)
	return h
}

// serveHTTPS serves a connection after its handshake, which negotiated the protocol.
func (s *streamServer) serveHTTPS(c *connection, protocol string) {
	if protocol == protocolDoH {
		newH2(c).run()
		return
	}
	defer c.close()
	c.allow(handshakeFor)
	if c.more() != nil { // a response before the request would confuse clients
		return
	}
	c.write([]byte("HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Type: text/plain\r\nContent-Length: 34\r\nConnection: close\r\n\r\nUse HTTP/2 or HTTP/3 (RFC 8484).\r\n"))
}

// run reads until the client closes the connection, is idle for too long, or violates the protocol.
func (h *h2Conn) run() {
	defer h.close()
	defer h.endAll()
	defer h.slow.Wait()
	idle := h.idle()
	h.allow(idle)
	if !h.fill(func(in []byte) int { return len(h2Preface) }) || string(h.ws.in[:len(h2Preface)]) != h2Preface {
		return
	}
	h.used(len(h2Preface))
	if !h.write(appendSettings(nil)) {
		return
	}
	for !h.failed && h.fill(h2FrameLen) {
		batch, used := h.frames(h.ws.batch[:0], idle)
		if len(batch) > 0 {
			h.asked.Store(time.Now().UnixNano())
			h.server.handler.Fast(batch)
			if !h.answer(batch) {
				return
			}
			idle = h.idle()
			h.allow(idle) // only requests keep a connection open
		}
		h.used(used)
	}
	if h.failed {
		h.write(appendNumbers(nil, frameGoAway, 0, h.last, h.failing))
		return
	}
	h.write(appendNumbers(nil, frameGoAway, 0, h.last, h2NoError)) // the client may send further requests over another connection
}

// endAll ends every stream.
func (h *h2Conn) endAll() {
	h.writing.Lock()
	defer h.writing.Unlock()
	for id, st := range h.streams {
		h.endStream(id, st)
	}
}

// fail ends the connection with an error after the present batch.
func (h *h2Conn) fail(code uint32) {
	if !h.failed {
		h.failed, h.failing = true, code
	}
}

// frames takes the whole frames that arrived, and makes queries of the requests that are complete, at most a batch. used is the length of these frames.
func (h *h2Conn) frames(batch []wire.Query, idle time.Duration) (_ []wire.Query, used int) {
	in := h.ws.in
	h.ws.scratch = h.ws.scratch[:0]
	for !h.failed && len(batch) < cap(batch) {
		n := h2FrameLen(in[used:])
		if n > len(in)-used {
			break
		}
		f, ok := h2ReadFrame(in[used:])
		if !ok {
			h.fail(h2FrameSizeError)
			break
		}
		if h.concerns(&f, len(batch)) {
			break
		}
		used += n
		packet := h.frame(&f)
		if packet == nil {
			continue
		}
		h.control = max(0, h.control-requestAllows)
		h.ids[len(batch)] = f.stream
		batch = batch[:len(batch)+1]
		q := &batch[len(batch)-1]
		q.Packet = packet
		q.Client, q.Local, q.Transport, q.Idle = h.client, h.local, wire.HTTPS, uint16(idle/(100*time.Millisecond))
	}
	return batch, used
}

// concerns reports whether a frame changes the state of a stream whose request is in the batch, of which n requests are made: they are answered first.
func (h *h2Conn) concerns(f *h2Frame, n int) bool {
	if f.kind != frameWindow && f.kind != frameReset {
		return false
	}
	for _, id := range h.ids[:n] {
		if id == f.stream {
			return true
		}
	}
	return false
}

// frame takes one frame. It returns the query that the frame completes, valid until the input is used, or nil.
func (h *h2Conn) frame(f *h2Frame) []byte {
	if h.head.stream != 0 && (f.kind != frameContinuation || f.stream != h.head.stream) { // RFC 9113 section 6.10
		h.fail(h2ProtocolError)
		return nil
	}
	switch f.kind {
	case frameHeaders:
		return h.headers(f)
	case frameContinuation:
		return h.continuation(f)
	case frameData:
		return h.data(f)
	}
	if !(f.kind == frameWindow && h.paid()) && !h.count() {
		return nil
	}
	switch f.kind {
	case frameSettings:
		h.settings(f)
	case framePing:
		h.ping(f)
	case frameWindow:
		h.update(f)
	case frameReset:
		h.reset(f)
	case framePush:
		h.fail(h2ProtocolError)
	case framePriority:
		if len(f.payload) != 5 || f.stream == 0 {
			h.fail(h2ProtocolError)
		}
	}
	return nil // frames of other types are ignored (RFC 9113 section 5.5)
}

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

// count counts a frame that belongs to no request. Too many of them end the connection.
func (h *h2Conn) count() bool {
	if h.control++; h.control > maxControl {
		h.fail(h2EnhanceYourCalm)
		return false
	}
	return true
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
	return len(h.streams) >= maxH2Streams
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

// windowStep is the number of sent bytes for which a client may return its window once without it being counted.
const windowStep = 2048

// paid reports whether the client received enough bytes for one more WINDOW_UPDATE.
func (h *h2Conn) paid() bool {
	h.writing.Lock()
	defer h.writing.Unlock()
	if h.given < windowStep {
		return false
	}
	h.given -= windowStep
	return true
}

// settings applies the client's settings and acknowledges them.
func (h *h2Conn) settings(f *h2Frame) {
	switch {
	case f.stream != 0, len(f.payload)%6 != 0:
		h.fail(h2ProtocolError)
		return
	case f.flags&flagAck != 0:
		return
	}
	for p := f.payload; len(p) > 0; p = p[6:] {
		id, value := binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])
		switch {
		case id == settingWindow && value > h2MaxWindow:
			h.fail(h2FlowControl)
			return
		case id == settingWindow:
			h.writing.Lock()
			h.initial = int64(value) // also for the streams that wait (RFC 9113 section 6.9.2)
			h.writing.Unlock()
		case id == settingFrameSize && (value < h2FrameSize || value >= 1<<24):
			h.fail(h2ProtocolError)
			return
		}
	}
	h.write(appendFrameHeader(nil, 0, frameSettings, flagAck, 0))
	h.resume()
}

// ping answers a ping.
func (h *h2Conn) ping(f *h2Frame) {
	switch {
	case len(f.payload) != 8:
		h.fail(h2FrameSizeError)
	case f.flags&flagAck == 0:
		h.write(append(appendFrameHeader(nil, 8, framePing, flagAck, 0), f.payload...))
	}
}

// update lets more bytes be sent.
func (h *h2Conn) update(f *h2Frame) {
	if len(f.payload) != 4 {
		h.fail(h2FrameSizeError)
		return
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & h2MaxWindow)
	h.writing.Lock()
	defer h.writing.Unlock()
	if f.stream == 0 {
		if h.window += n; n == 0 || h.window > h2MaxWindow {
			h.fail(h2FlowControl)
			return
		}
		h.resumeLocked()
		return
	}
	st := h.streams[f.stream]
	if st == nil {
		return
	}
	if st.window += n; n == 0 || h.initial+st.window > h2MaxWindow {
		h.fail(h2FlowControl)
		return
	}
	if len(st.rest) > 0 {
		h.sendOwed(h.appendRest(nil, f.stream, st))
	}
}

// reset ends a stream for the client, whose answer is not sent any more.
func (h *h2Conn) reset(f *h2Frame) {
	if len(f.payload) != 4 || f.stream == 0 || f.stream > h.last {
		h.fail(h2ProtocolError)
		return
	}
	h.forget(f.stream)
}
