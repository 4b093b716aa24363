package stream

import (
	"encoding/binary"
	"strconv"
)

// Frames of HTTP/2 (RFC 9113 section 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameReset        = 0x3
	frameSettings     = 0x4
	framePush         = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	h2Header    = 9     // before the payload of a frame
	h2FrameSize = 16384 // the largest payload, of which both sides are capable
	h2Window    = 65535 // the window at the start of a stream and of a connection (RFC 9113 section 6.9.2)
	h2MaxWindow = 1<<31 - 1
	h2Preface   = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	maxStreams  = 100 // of a connection over HTTP/2 or QUIC at a time
)

// Errors of HTTP/2 (RFC 9113 section 7).
const (
	h2NoError         = 0x0
	h2ProtocolError   = 0x1
	h2FlowControl     = 0x3
	h2StreamClosed    = 0x5
	h2FrameSizeError  = 0x6
	h2RefusedStream   = 0x7
	h2Cancel          = 0x8
	h2Compression     = 0x9
	h2EnhanceYourCalm = 0xb
)

// Settings of HTTP/2 (RFC 9113 section 6.5.2).
const (
	settingStreams    = 0x3
	settingWindow     = 0x4
	settingFrameSize  = 0x5
	settingHeaderList = 0x6
)

// h2Frame is a frame that arrived. Its payload is valid until the input is used.
type h2Frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// h2FrameLen returns the length of the first frame in buf, with its header. A frame that is too large ends after its header.
func h2FrameLen(buf []byte) int {
	if len(buf) < h2Header {
		return h2Header
	}
	n := int(buf[0])<<16 + int(buf[1])<<8 + int(buf[2])
	if n > h2FrameSize {
		return h2Header
	}
	return h2Header + n
}

// h2ReadFrame returns the first frame in buf, which holds it completely; ok is false if the frame is too large.
func h2ReadFrame(buf []byte) (f h2Frame, ok bool) {
	n := int(buf[0])<<16 + int(buf[1])<<8 + int(buf[2])
	f = h2Frame{kind: buf[3], flags: buf[4], stream: binary.BigEndian.Uint32(buf[5:]) & h2MaxWindow}
	if n > h2FrameSize {
		return f, false
	}
	f.payload = buf[h2Header : h2Header+n]
	return f, true
}

// content returns the payload without padding, and for HEADERS without the priority; ok is false if it is malformed.
func (f *h2Frame) content() (content []byte, ok bool) {
	content = f.payload
	if f.flags&flagPadded != 0 {
		if len(content) == 0 || int(content[0]) >= len(content) {
			return nil, false
		}
		content = content[1 : len(content)-int(content[0])]
	}
	if f.kind == frameHeaders && f.flags&flagPriority != 0 {
		if len(content) < 5 {
			return nil, false
		}
		content = content[5:]
	}
	return content, true
}

// appendFrameHeader appends the header of a frame with n bytes of payload.
func appendFrameHeader(dst []byte, n int, kind, flags byte, stream uint32) []byte {
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return binary.BigEndian.AppendUint32(dst, stream)
}

// appendNumbers appends a frame whose payload is numbers of four bytes.
func appendNumbers(dst []byte, kind byte, stream uint32, numbers ...uint32) []byte {
	dst = appendFrameHeader(dst, 4*len(numbers), kind, 0, stream)
	for _, n := range numbers {
		dst = binary.BigEndian.AppendUint32(dst, n)
	}
	return dst
}

// appendSettings appends the settings of this server: those that differ from the protocol's.
func appendSettings(dst []byte) []byte {
	dst = appendFrameHeader(dst, 12, frameSettings, 0, 0)
	dst = append(dst, 0, settingStreams)
	dst = binary.BigEndian.AppendUint32(dst, maxStreams)
	dst = append(dst, 0, settingHeaderList)
	return binary.BigEndian.AppendUint32(dst, maxHeaderList)
}

// Fields of the static table of HPACK (RFC 7541 appendix A) by their index, as literals without indexing: no state of compression is needed for responses.
const (
	hpackStatus200     = "\x88"
	hpackStatus        = "\x08\x03"
	hpackCacheControl  = "\x0f\x09"
	hpackContentLength = "\x0f\x0d"
	hpackContentType   = "\x0f\x10"
)

// appendResponse appends the HEADERS frame of a response whose content has n bytes. age is for cache-control, negative for none.
func appendResponse(dst []byte, stream uint32, status int, contentType string, n int, age int64) []byte {
	at := len(dst)
	dst = appendFrameHeader(dst, 0, frameHeaders, flagEndHeaders, stream)
	if status == statusOK {
		dst = append(dst, hpackStatus200...)
	} else {
		dst = strconv.AppendInt(append(dst, hpackStatus...), int64(status), 10)
	}
	dst = append(append(dst, hpackContentType...), byte(len(contentType)))
	dst = append(dst, contentType...)
	dst = appendNumberField(dst, hpackContentLength, "", int64(n))
	if age >= 0 {
		dst = appendNumberField(dst, hpackCacheControl, "max-age=", age)
	}
	size := len(dst) - at - h2Header
	dst[at], dst[at+1], dst[at+2] = byte(size>>16), byte(size>>8), byte(size)
	return dst
}

// appendNumberField appends a header field whose value is a number after a prefix.
func appendNumberField(dst []byte, name, prefix string, n int64) []byte {
	dst = append(append(dst, name...), 0)
	at := len(dst)
	dst = strconv.AppendInt(append(dst, prefix...), n, 10)
	dst[at-1] = byte(len(dst) - at)
	return dst
}
