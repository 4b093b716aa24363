package stream

import "encoding/binary"

// This file takes the frames that belong to no request.

// count counts a frame that belongs to no request. Too many of them end the connection.
func (h *h2Conn) count() bool {
	if h.control++; h.control > maxControl {
		h.fail(h2EnhanceYourCalm)
		return false
	}
	return true
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
