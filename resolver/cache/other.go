package cache

import "rempart/internal/wire"

// For returns the entry as an answer to another question about the same name: with other flags, or, if the name does not exist, of another type. It is nil if
// the entry cannot answer that. The DNSSEC records of an answer go to clients with DO only.
func (e *Entry) For(key Key) *Entry {
	bodyAt := wire.HeaderLen + len(key.Name) + 4
	msg := make([]byte, wire.HeaderLen, bodyAt+int(e.bodyEnd))
	flags := wire.FlagQR | e.rcode
	if e.Authenticated() {
		flags |= wire.FlagAD
	}
	wire.SetFlags(msg, flags)
	wire.SetCount(msg, wire.SectionQuestion, 1)
	for i, n := range e.counts {
		wire.SetCount(msg, wire.SectionAnswer+i, int(n))
	}
	msg = append(msg, key.Name...)
	msg = append(msg, byte(key.Type>>8), byte(key.Type), byte(key.Class>>8), byte(key.Class))
	msg = append(msg, e.data[e.name:e.bodyEnd]...)
	if e.bits&doBit != 0 && !key.DO {
		p := packing{key: key, msg: msg, bodyAt: bodyAt}
		msg = p.rewritten(func(rr *wire.Record) bool { return rr.Type == key.Type || !isProof(rr.Type) })
	}
	n, err := NewEntry(key, msg, true, e.stored)
	if err != nil {
		return nil
	}
	n.expires, n.errs = min(n.expires, e.expires), e.errs
	return n
}

// Ended returns the entry as one that is not fresh any more at now. It is for an entry that nobody else holds.
func (e *Entry) Ended(now int64) *Entry {
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
