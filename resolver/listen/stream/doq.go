package stream

import (
	"github.com/quic-go/quic-go"

	"rempart/internal/wire"
)

// Error codes of DNS over QUIC (RFC 9250 section 4.3).
const (
	doqNoError       = 0
	doqInternalError = 1
	doqProtocolError = 2
	doqExcessiveLoad = 4
)

// doq is the framing of DNS over QUIC: a stream holds one message behind its length (RFC 9250 section 4.2).
type doq struct{}

func (doq) codes() quicCodes {
	return quicCodes{done: doqNoError, internal: doqInternalError, violated: doqProtocolError, overload: doqExcessiveLoad}
}

// begin has nothing to send: DNS over QUIC has no other streams.
func (doq) begin(*quicSession) {}

func (doq) end(*quicSession) {}

func (doq) query(received []byte) (query []byte, response []byte, violation quic.ApplicationErrorCode) {
	if len(received) < frameHeader || messageLen(received) != len(received) {
		return nil, nil, doqProtocolError
	}
	return received[frameHeader:], nil, 0
}

// isViolation reports whether a query violates the protocol: its ID must be 0, and it must have no edns-tcp-keepalive (RFC 9250 sections 4.2.1 and 5.5.2).
func (doq) isViolation(q *wire.Query) bool {
	return q.Outcome == wire.Dropped || wire.ID(q.Packet) != 0 || q.Keepalive
}

func (doq) response(answer []byte) []byte {
	return frame(make([]byte, 0, frameHeader+len(answer)), answer)
}
