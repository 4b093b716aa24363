package transport

import (
	"encoding/binary"

	"rempart/internal/wire"
)

// Posting is a question that Transport.Post sends over a connection that many questions share, without a goroutine that waits for its answer. Its owner makes
// it by NewPosting, and may use it again after the Postbox has received it or Withdraw has returned true.
type Posting struct {
	Owner  any    // of the caller's choice
	Result Result // set when the Postbox receives the Posting; the packed reply is valid only until Received returns

	to       Postbox
	pipe     *pipe // the connection over which it was sent
	question Question
	call     call
	frame    [maxQuery]byte
}

// Postbox receives postings whose questions have ended. Several goroutines may call it concurrently.
type Postbox interface {
	Received([]*Posting)
}

// NewPosting returns a Posting. The Postbox to receives it when its question has ended.
func NewPosting(to Postbox) *Posting { return &Posting{to: to} }

// appendFrame appends a query with its length before it (RFC 1035 section 4.2.2).
func appendFrame(dst []byte, q *Question, id uint16, f Form) []byte {
	start := len(dst)
	dst = AppendQuery(append(dst, 0, 0), q, id, f)
	binary.BigEndian.PutUint16(dst[start:], uint16(len(dst)-start-2))
	return dst
}

// Set makes q the question of p. The caller must not change the name until Post has returned.
func (p *Posting) Set(q *Question) {
	p.question = *q
	p.Result = Result{}
}

// Post sends questions with EDNS together over open connections that have room. It does not wait for answers. It returns the number of questions that it sent,
// which are the first ones of the batch. It sends none if the upstream is not asked over TCP or TLS, or if no open connection has room: it opens no connection,
// but Exchange does.
func (t *Transport) Post(batch []*Posting) (sent int) {
	s, ok := t.stream.(*stream)
	if !ok || t.datagrams != nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for sent < len(batch) {
		p, room := s.openPipe()
		if room == 0 {
			break
		}
		n := min(room, len(batch)-sent)
		p.post(batch[sent:sent+n], Form{EDNS: true, Pad: t.pad})
		sent += n
	}
	return sent
}

// openPipe returns an open connection with room for questions, and the number of questions for which it has room. The number is 0 if there is no such
// connection. It is called with mu held.
func (s *stream) openPipe() (p *pipe, room int) {
	limit := s.bound.limit()
	for _, p := range s.pipes {
		if p.conn != nil && !p.alone && p.isReadable() {
			if room := min(maxPending-len(p.pending), limit-p.taken); room > 0 {
				return p, room
			}
		}
	}
	return nil, 0
}

// post puts questions in flight. It is called with stream.mu held.
func (p *pipe) post(batch []*Posting, f Form) {
	frames := make([]byte, 0, len(batch)*(2+2*padBlock))
	for _, one := range batch {
		frame := appendFrame(one.frame[:0], &one.question, p.newID(), f)
		one.question.Name = frame[2+wire.HeaderLen:][:len(one.question.Name)]
		one.pipe = p
		one.call = call{question: &one.question, sent: frame[2:], posting: one}
		p.register(&one.call)
		frames = append(frames, frame...)
	}
	p.enqueue(frames)
}

// Withdraw ends the wait for an answer. If the answer arrives later, it is recorded as a foreign message. Withdraw returns false if the question has ended
// already: then the Postbox receives the Posting.
func (p *Posting) Withdraw() bool {
	s := p.pipe.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.pipe.pending[wire.ID(p.call.sent)] != &p.call {
		return false
	}
	p.pipe.drop(&p.call)
	return true
}
