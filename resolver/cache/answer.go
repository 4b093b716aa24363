package cache

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
	"unsafe"

	"rempart/internal/wire"
)

// Maximum lifetimes, in seconds, whatever an upstream asks for.
const (
	maxTTL         = 86400 // of a positive answer
	maxNegativeTTL = 3600  // of a negative one (RFC 2308 section 5 names one to three hours)
	failureTTL     = 5     // of a failure (RFC 9520 section 3.2: one second to five minutes)
	outageTTL      = 2     // of a failure that says nothing about the question, because no upstream answered anything
	staleTTL       = 30    // of a record served stale (RFC 8767 section 5.2)
	staleFor       = 86400 // how long after its expiry an answer may be served
	recheck        = 30    // time after a failed renewal without another attempt (RFC 8767 section 5)
	renewAgain     = 5     // time that a renewal has before another one is asked for
)

// ErrAnswer is returned for a message of an upstream that cannot be decoded.
var ErrAnswer = errors.New("a malformed answer")

// Key identifies an answer in the cache; it is compared in full.
type Key struct {
	Name  []byte // canonical
	Type  uint16
	Class uint16
	DO    bool
	CD    bool
	hash  uint64 // 0 before Near
}

// Answer is one packed answer: immutable except for its marks, safe for concurrent use. Times are seconds of a clock that the user of the cache passes in, which
// never goes back.
type Answer struct {
	// Fixed when made.
	hash    uint64
	data    []byte // name, body and targets, in one piece
	name    uint8  // length of the name in data
	bodyEnd uint16
	counts  [3]uint16 // records of answer, authority, additional
	ends    [2]uint16 // where in the body answer and authority end
	rcode   uint16
	typ     uint16
	class   uint16
	bits    uint8 // doBit, cdBit, adBit, negativeBit
	ttls    []uint16
	stored  int64
	expires int64
	errs    []wire.EDE

	// Marks.
	judged      atomic.Uint64 // the version of the set under which every target passed
	failedUntil atomic.Int64  // a renewal failed: no other attempt before
	uses        atomic.Uint32 // since it was stored or the clock's hand passed, up to maxUses
	renewAt     atomic.Int64  // a renewal was asked for: no other one before
}

const (
	doBit = 1 << iota
	cdBit
	adBit
	negativeBit
)

const maxUses = 3

// NewAnswer packs an upstream's message, whose question is key's, at the time now. It may write to the message. authenticated reports whether the message's AD
// bit can be trusted. The answer has only the records that admit admits.
func NewAnswer(key Key, msg []byte, authenticated bool, now int64) (*Answer, error) {
	e, clean, err := pack(key, msg, authenticated, now)
	if clean == nil {
		return e, err
	}
	if e, clean, err = pack(key, clean, authenticated, now); clean != nil {
		return nil, ErrAnswer // clean must need no further change
	}
	return e, err
}

// pack packs a message if all its records are admitted as they are. If not, it returns only clean, a message with the admitted records.
func pack(key Key, msg []byte, authenticated bool, now int64) (e *Answer, clean []byte, err error) {
	bodyAt := wire.HeaderLen + len(key.Name) + questionTail
	if len(msg) < bodyAt || len(msg) > wire.MaxMessage || wire.Count(msg, wire.SectionQuestion) != 1 ||
		wire.SkipName(msg, wire.HeaderLen) != bodyAt-questionTail { // the body's place depends on the question being key's
		return nil, nil, ErrAnswer
	}
	e = &Answer{name: uint8(len(key.Name)), typ: key.Type, class: key.Class, rcode: uint16(wire.Rcode(msg)), stored: now}
	e.bits = key.bits()
	if authenticated && wire.Flags(msg)&wire.FlagAD != 0 {
		e.bits |= adBit
	}
	p := packing{key: key, msg: msg, bodyAt: bodyAt, end: len(msg), ttl: maxTTL}
	if err := p.follow(); err != nil {
		return nil, nil, err
	}
	if err := p.walk(e); err != nil {
		return nil, nil, err
	}
	if p.unclean || p.readsTTLs(e) {
		clean = p.rewritten(func(rr *wire.Record) bool {
			what, err := p.admit(rr)
			return err == nil && what != leaveOut
		})
		if clean == nil {
			return nil, nil, ErrAnswer
		}
		return nil, clean, nil
	}
	e.data = make([]byte, 0, len(key.Name)+p.end-bodyAt+len(p.targets))
	e.data = append(e.data, key.Name...)
	e.data = append(e.data, msg[bodyAt:p.end]...)
	e.bodyEnd = uint16(len(e.data))
	for _, at := range p.spelt {
		lowerLabels(e.data[len(key.Name)+at-bodyAt:])
	}
	e.data = append(e.data, p.targets...)
	e.expires = now + int64(p.lifetime(e))
	return e, nil, nil
}

// Failure returns the answer that is cached for a short time for a question that no upstream answered (RFC 9520).
func Failure(key Key, now int64, errs ...wire.EDE) *Answer {
	e := &Answer{
		name: uint8(len(key.Name)), typ: key.Type, class: key.Class, rcode: wire.ServFail,
		data: append([]byte(nil), key.Name...), bodyEnd: uint16(len(key.Name)),
		stored: now, expires: now + failureTTL, errs: errs,
	}
	e.bits = key.bits()
	return e
}

// Outage returns a Failure for a question during which no upstream answered anything: the own network may be down. It lives for a shorter time.
func Outage(key Key, now int64, errs ...wire.EDE) *Answer {
	e := Failure(key, now, errs...)
	e.expires = now + outageTTL
	return e
}

// bits returns the key's flags in the form of Answer.bits.
func (k *Key) bits() (bits uint8) {
	if k.DO {
		bits |= doBit
	}
	if k.CD {
		bits |= cdBit
	}
	return bits
}

// matches compares the key in full.
func (e *Answer) matches(hash uint64, key *Key) bool {
	return e.hash == hash && e.typ == key.Type && e.class == key.Class && e.bits&(doBit|cdBit) == key.bits() &&
		string(e.data[:e.name]) == string(key.Name)
}

// size returns the answer's size in memory, in bytes.
func (e *Answer) size() int64 {
	n := int(unsafe.Sizeof(*e)) + cap(e.data) + 2*cap(e.ttls)
	for _, x := range e.errs {
		n += int(unsafe.Sizeof(x)) + len(x.Text)
	}
	return int64(n)
}

// Name returns the question's name, canonical. It must not be changed.
func (e *Answer) Name() []byte { return e.data[:e.name] }

// Rcode returns the upstream's rcode, extended bits included.
func (e *Answer) Rcode() int { return int(e.rcode) }

// Errors returns the upstream's extended errors, or those given to Failure.
func (e *Answer) Errors() []wire.EDE { return e.errs }

// Bogus reports whether an upstream failed to validate the name: older data must not hide that.
func (e *Answer) Bogus() bool {
	return e.rcode == wire.ServFail && slices.ContainsFunc(e.errs, wire.EDE.DNSSEC)
}

// Authenticated reports whether the answer may have the AD bit.
func (e *Answer) Authenticated() bool { return e.bits&adBit != 0 }

// Fresh reports whether the answer can be served at now as it is.
func (e *Answer) Fresh(now int64) bool { return now < e.expires }

// Keepable reports whether the answer is worth storing.
func (e *Answer) Keepable() bool { return e.expires > e.stored }

// Servable reports whether the answer can be served at now, fresh or stale (RFC 8767), when its upstreams fail.
func (e *Answer) Servable(now int64) bool {
	return now < e.expires+staleFor && (e.rcode == wire.Success || e.rcode == wire.NXDomain)
}

// Failed reports whether a renewal failed a moment ago.
func (e *Answer) Failed(now int64) bool { return now < e.failedUntil.Load() }

// MarkFailed records that a renewal failed at now.
func (e *Answer) MarkFailed(now int64) { e.failedUntil.Store(now + recheck) }

// Judged reports whether all targets passed under that version of the set.
func (e *Answer) Judged(version uint64) bool { return e.judged.Load() == version }

// MarkJudged records that all targets passed under that version of the set, and that time will not change it.
func (e *Answer) MarkJudged(version uint64) { e.judged.Store(version) }

// TargetBytes returns the names that the answer refers to, canonical, one after the other. The caller must not change or keep them.
func (e *Answer) TargetBytes() []byte { return e.data[e.bodyEnd:] }

// HasTargets reports whether the answer refers to other names.
func (e *Answer) HasTargets() bool { return len(e.data) > int(e.bodyEnd) }

// WriteAnswer writes it as q's answer, without the OPT, with TTLs aged to now; a stale answer gets a short TTL. The caller finishes the answer.
func (e *Answer) WriteAnswer(q *wire.Query, now int64, stale bool) {
	q.Begin(int(e.rcode))
	if e.Authenticated() && (q.DO || q.Has(wire.FlagAD)) {
		wire.SetFlags(q.Out, wire.Flags(q.Out)|wire.FlagAD) // RFC 6840 sections 5.7 and 5.8
	}
	body, counts := e.fitting(q)
	if body == nil {
		q.Truncate()
		return
	}
	base := len(q.Out)
	q.Out = append(q.Out, body...)
	for i, n := range counts {
		wire.SetCount(q.Out, wire.SectionAnswer+i, int(n))
	}
	age, left := uint32(now-e.stored), uint32(max(0, e.expires-now))
	for _, off := range e.ttls {
		if int(off) >= len(body) {
			break
		}
		field := q.Out[base+int(off):]
		ttl := min(binary.BigEndian.Uint32(field), maxTTL)
		switch {
		case stale:
			ttl = staleTTL
		case ttl <= age, e.bits&negativeBit != 0:
			ttl = left // at most, and for a negative answer exactly, the lifetime of the whole
		default:
			ttl -= age
		}
		binary.BigEndian.PutUint32(field, ttl)
	}
}

// fitting returns the part of the body that q's client accepts: the whole body, or the body without records that are not required. It returns nil if even
// that is too large (RFC 2181 section 9).
func (e *Answer) fitting(q *wire.Query) (body []byte, counts [3]uint16) {
	room := q.Limit() - len(q.Out)
	if q.EDNS {
		room -= wire.OPTLen
	}
	body, counts = e.data[e.name:e.bodyEnd], e.counts
	if len(body) > room {
		body, counts[2] = body[:e.ends[1]], 0
	}
	// Authority proves a negative answer, and with DNSSEC a wildcard's.
	if len(body) > room && e.bits&(negativeBit|doBit) == 0 && e.rcode == wire.Success {
		body, counts[1] = body[:e.ends[0]], 0
	}
	if len(body) > room {
		return nil, counts
	}
	return body, counts
}

// Renew reports whether the answer, used at now, is asked for often and near its expiry, so that it should be renewed before: once, and again if the renewal had
// no result.
func (e *Answer) Renew(now int64) bool {
	life, left := e.expires-e.stored, e.expires-now
	if life < 10 || left <= 0 || left > max(life/10, 2) || e.uses.Load() < maxUses || e.Failed(now) {
		return false
	}
	at := e.renewAt.Load()
	return at <= now && e.renewAt.CompareAndSwap(at, now+renewAgain)
}
