package stream

import (
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

// h2Conn is a connection over HTTP/2. Like framedConn, its reader calls Fast on the queries that arrived together and writes those answers together; answers of the
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
func (s *Server) serveHTTPS(c *connection, protocol string) {
	if protocol == wire.ALPNHTTP2 {
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
		batch, used := h.frames(h.ws.batch, idle)
		h.ws.batch = batch
		if len(batch) > 0 {
			h.asked.Store(time.Now().UnixNano())
			h.server.config.Handler.Fast(batch)
			if !h.answer(batch) {
				return
			}
			idle = h.idle()
			h.allow(idle) // only requests keep a connection open
		}
		h.used(used)
	}
	h.write(appendNumbers(nil, frameGoAway, 0, h.last, h.failing)) // without an error, the client may send further requests over another connection
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
		h.query(&batch[len(batch)-1], packet, idle)
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
