package stream

import (
	"io"
	"strconv"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"rempart/internal/wire"
)

// Frames, streams, settings and errors of HTTP/3 (RFC 9114 sections 7.2, 6.2, 7.2.4.1 and 8.1).
const (
	h3Data     = 0x0
	h3Headers  = 0x1
	h3Settings = 0x4
	h3GoAway   = 0x7

	h3ControlStream = 0x0
	h3PushStream    = 0x1
	h3EncoderStream = 0x2
	h3DecoderStream = 0x3

	h3SettingFieldSection = 0x6

	h3NoError         = 0x100
	h3InternalError   = 0x102
	h3StreamCreation  = 0x103
	h3ClosedCritical  = 0x104
	h3FrameUnexpected = 0x105
	h3FrameError      = 0x106
	h3ExcessiveLoad   = 0x107
	h3MissingSettings = 0x10a
	h3Message         = 0x10e
	h3Decompression   = 0x200
)

const (
	h3UniStreams    = 3       // of a client: control, encoder and decoder
	maxCriticalData = 1 << 20 // on each of these streams, over the life of a connection
)

// h3 is the framing of DNS over HTTPS with HTTP/3. Each request is read to its end before it is looked at: it is a query, and small.
type h3 struct{}

func (h3) codes() quicCodes {
	return quicCodes{done: h3NoError, internal: h3InternalError, violated: h3ExcessiveLoad, overload: h3ExcessiveLoad, message: h3Message}
}

// begin sends the settings and reads the client's control stream.
func (h3) begin(q *quicSession) {
	control, err := q.conn.Load().OpenUniStream()
	if err != nil {
		return // the connection ends
	}
	settings := quicvarint.Append(quicvarint.Append(nil, h3SettingFieldSection), maxHeaderList)
	_, _ = control.Write(append(quicvarint.Append(nil, h3ControlStream), h3Frame(h3Settings, settings)...))
	q.control = control
	go h3{}.acceptStreams(q)
}

// end announces which requests are answered (RFC 9114 section 5.2).
func (h3) end(q *quicSession) {
	if q.control == nil {
		return
	}
	next := uint64(q.last) + 4
	if q.last < 0 {
		next = 0
	}
	_ = q.control.SetWriteDeadline(time.Now().Add(drainRead))
	_, _ = q.control.Write(h3Frame(h3GoAway, quicvarint.Append(nil, next)))
}

// acceptStreams reads the unidirectional streams of a client until the connection ends.
func (h h3) acceptStreams(q *quicSession) {
	c := q.conn.Load()
	for {
		st, err := c.AcceptUniStream(c.Context())
		if err != nil {
			return
		}
		go func() {
			if code := h.critical(st); code != 0 {
				q.violated(code, "")
			}
		}()
	}
}

// critical reads one unidirectional stream. It returns the error that ends the connection, or 0.
func (h h3) critical(st *quic.ReceiveStream) quic.ApplicationErrorCode {
	limited := &io.LimitedReader{R: st, N: maxCriticalData}
	r := quicvarint.NewReader(limited)
	kind, err := quicvarint.Read(r)
	if err != nil {
		return 0
	}
	switch kind {
	case h3ControlStream:
		first, err := quicvarint.Read(r)
		if err == nil && first != h3Settings {
			return h3MissingSettings
		}
	case h3EncoderStream, h3DecoderStream: // without a dynamic table they carry nothing that matters
	case h3PushStream:
		return h3StreamCreation
	default:
		st.CancelRead(h3StreamCreation)
		return 0
	}
	_, _ = io.Copy(io.Discard, r) // the client's settings concern what this server never sends
	if limited.N == 0 {
		return h3ExcessiveLoad
	}
	return h3ClosedCritical
}

// query reads the frames of a request (RFC 9114 section 4.1).
func (h3) query(received []byte) (query, response []byte, violation quic.ApplicationErrorCode) {
	var head requestHead
	var content []byte
	seen, parts := false, 0
	for len(received) > 0 {
		kind, payload, rest, ok := h3ReadFrame(received)
		if !ok {
			return nil, nil, h3FrameError
		}
		received = rest
		switch {
		case kind == h3Headers && !seen:
			seen = true
			if code := h3Fields(&head, payload); code != 0 {
				return nil, nil, code
			}
		case kind == h3Headers: // trailers
		case kind == h3Data && seen:
			if parts++; parts == 1 {
				content = payload
				break
			}
			content = append(content[:len(content):len(content)], payload...)
		case kind == h3Data, kind == h3Settings, kind == h3GoAway, kind == 0x3, kind == 0x5, kind == 0xd:
			return nil, nil, h3FrameUnexpected
		}
	}
	if head.isMalformed() {
		return nil, nil, h3Message
	}
	query, status := head.query(content)
	if status != statusOK {
		return nil, h3Explain(status, head.method), 0
	}
	return query, nil, 0
}

// h3Fields decodes a field section into head.
func h3Fields(head *requestHead, section []byte) quic.ApplicationErrorCode {
	next := (&qpack.Decoder{}).Decode(section)
	for {
		f, err := next()
		switch {
		case err == io.EOF:
			return 0
		case err != nil:
			return h3Decompression
		}
		if head.add(f.Name, f.Value); head.size > maxHeaderList {
			return h3ExcessiveLoad
		}
	}
}

// h3ReadFrame returns the first frame in buf and the rest.
func h3ReadFrame(buf []byte) (kind uint64, payload, rest []byte, ok bool) {
	kind, n, err := quicvarint.Parse(buf)
	if err != nil {
		return 0, nil, nil, false
	}
	buf = buf[n:]
	length, n, err := quicvarint.Parse(buf)
	if err != nil || length > uint64(len(buf)-n) {
		return 0, nil, nil, false
	}
	end := n + int(length)
	return kind, buf[n:end], buf[end:], true
}

// h3Frame returns a frame.
func h3Frame(kind uint64, payload []byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload))), payload...)
}

// isViolation is never true: a request whose content is no query gets no response.
func (h3) isViolation(*wire.Query) bool { return false }

func (h3) response(answer []byte) []byte {
	return h3Response(statusOK, qpackDNSMessage, answer, int64(maxAge(answer)))
}

func h3Explain(status int, method string) []byte {
	response := h3Response(status, qpackPlainText, []byte(explanationOfRequest), -1)
	if method == "HEAD" { // RFC 9110 section 9.3.2: no content
		kind, section, _, _ := h3ReadFrame(response)
		return h3Frame(kind, section)
	}
	return response
}

// Fields of the static table of QPACK (RFC 9204 appendix A), and names of it before a literal value.
const (
	qpackPrefix        = "\x00\x00" // no dynamic table
	qpackStatus200     = "\xd9"
	qpackStatus404     = "\xdb"
	qpackStatus        = "\x5f\x09\x03"
	qpackContentLength = "\x54"
	qpackCacheControl  = "\x5f\x15"
	qpackDNSMessage    = "\xec"
	qpackPlainText     = "\xf5"
)

// h3Response returns the frames of a response. contentType is an encoded field, age is for cache-control, negative for none.
func h3Response(status int, contentType string, content []byte, age int64) []byte {
	var room [64]byte
	section := append(room[:0], qpackPrefix...)
	switch status {
	case statusOK:
		section = append(section, qpackStatus200...)
	case statusNotFound:
		section = append(section, qpackStatus404...)
	default:
		section = strconv.AppendInt(append(section, qpackStatus...), int64(status), 10)
	}
	section = append(section, contentType...)
	section = appendNumberField(section, qpackContentLength, "", int64(len(content)))
	if age >= 0 {
		section = appendNumberField(section, qpackCacheControl, "max-age=", age)
	}
	out := make([]byte, 0, len(section)+len(content)+20)
	out = append(quicvarint.Append(quicvarint.Append(out, h3Headers), uint64(len(section))), section...)
	return append(quicvarint.Append(quicvarint.Append(out, h3Data), uint64(len(content))), content...)
}
