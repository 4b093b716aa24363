package cache

import (
	"slices"

	"rempart/internal/wire"
)

// For returns it as the answer to another question: about the same name with other flags, or, if the name does not exist, about another type or a name
// below (RFC 8020). It is nil if the answer cannot answer the question. Only clients with DO get the DNSSEC records of an answer.
func (e *Answer) For(key Key) *Answer {
	own := key
	own.Name = e.data[:e.name]
	bodyAt := wire.HeaderLen + len(own.Name) + questionTail
	msg := e.message(own)
	below := string(own.Name) != string(key.Name)
	if below || e.bits&doBit != 0 && !key.DO {
		p := packing{key: key, msg: msg, bodyAt: bodyAt}
		msg = p.rewritten(func(rr *wire.Record) bool { return key.DO || rr.Type == key.Type || !isProof(rr.Type) })
	}
	if below && msg != nil { // rewritten has left no compressed name in msg, so the question can be replaced
		asked := appendQuestion(slices.Clone(msg[:wire.HeaderLen]), key)
		msg = append(asked, msg[bodyAt:]...)
	}
	n, err := NewAnswer(key, msg, true, e.stored)
	if err != nil {
		return nil
	}
	n.expires, n.errs = min(n.expires, e.expires), e.errs
	return n
}

// message returns it as the message of an upstream about its name.
func (e *Answer) message(key Key) []byte {
	msg := make([]byte, wire.HeaderLen, wire.HeaderLen+len(key.Name)+questionTail+int(e.bodyEnd))
	flags := wire.FlagQR | e.rcode
	if e.Authenticated() {
		flags |= wire.FlagAD
	}
	wire.SetFlags(msg, flags)
	wire.SetCount(msg, wire.SectionQuestion, 1)
	for i, n := range e.counts {
		wire.SetCount(msg, wire.SectionAnswer+i, int(n))
	}
	return append(appendQuestion(msg, key), e.data[e.name:e.bodyEnd]...)
}

// questionTail is the length of a question's type and class.
const questionTail = 4

func appendQuestion(dst []byte, key Key) []byte {
	dst = append(dst, key.Name...)
	return append(dst, byte(key.Type>>8), byte(key.Type), byte(key.Class>>8), byte(key.Class))
}

// Ended returns the answer as one that has expired at now. It is for an answer that nobody else holds.
func (e *Answer) Ended(now int64) *Answer {
	e.expires = min(e.expires, now)
	return e
}

// isProof reports whether records of a type are added to answers for validators.
func isProof(typ uint16) bool {
	switch typ {
	case wire.TypeRRSIG, wire.TypeNSEC, wire.TypeNSEC3, wire.TypeDS:
		return true
	}
	return false
}
