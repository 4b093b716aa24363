package cache

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
	"unsafe"

	"rempart/internal/wire"
)

// Times, in seconds. The first two limit the TTLs of upstreams.
const (
	maxTTL         = 86400 // maximum lifetime of a positive answer
	maxNegativeTTL = 3600  // maximum lifetime of a negative answer (RFC 2308 section 5 suggests one to three hours)
	failureTTL     = 5     // lifetime of a failure (RFC 9520 section 3.2: one second to five minutes)
	outageTTL      = 2     // lifetime of a failure while no upstream answers any question: the question is probably not the cause
	staleTTL       = 30    // TTL of a record in a stale answer (RFC 8767 section 4)
	staleFor       = 86400 // how long an answer may be served after its expiry
	recheck        = 30    // pause between a failed renewal and the next attempt (RFC 8767 section 5)
	renewAgain     = 5     // pause between the request of a renewal and the next request, unless the renewal succeeds
)

// ErrAnswer is the error of an upstream's message that cannot be decoded, or cannot be an answer to its question.
var ErrAnswer = errors.New("malformed answer")

// Key identifies an answer in the cache; it is compared in full.
type Key struct {
	Name  []byte // canonical
	Type  uint16
	Class uint16
	DO    bool
	CD    bool
	hash  uint64 // set by Near; 0 if unknown
}

// Answer is one packed DNS answer. It is immutable except for its marks, and safe for concurrent use. Times are in seconds of a monotonic clock, which the caller
// reads.
type Answer struct {
	// Fixed when made.
	hash    uint64
	data    []byte // name, body and targets, one after the other
	name    uint8  // length of the name in data
	bodyEnd uint16
	counts  [3]uint16 // numbers of records in the answer, authority and additional sections
	ends    [2]uint16 // offsets in the body of the ends of the answer and authority sections
	rcode   uint16
	typ     uint16
	class   uint16
	bits    uint8    // doBit, cdBit, adBit, negativeBit
	ttls    []uint16 // offsets in the body of the TTLs
	stored  int64
	expires int64
	errs    []wire.EDE

	// Marks.
	judged      atomic.Uint64 // the stamp of the view under which every target passed
	failedUntil atomic.Int64  // after a failed renewal: time of the next attempt
	uses        atomic.Uint32 // lookups, up to maxUses; each round of the eviction clock subtracts one
	renewAt     atomic.Int64  // after the request of a renewal: time of the next request
}

const (
	doBit = 1 << iota
	cdBit
	adBit
	negativeBit
)

const maxUses = 3

// NewAnswer packs an upstream's message, which answers key and arrived at now. It may change the message. authenticated is true if the message's AD bit can be
// trusted. The answer has only the records that admit accepts. The error is ErrAnswer.
func NewAnswer(key Key, msg []byte, authenticated bool, now int64) (*Answer, error) {
	e, clean, err := pack(key, msg, authenticated, now)
	if clean == nil {
		return e, err
	}
	if e, clean, err = pack(key, clean, authenticated, now); clean != nil {
		return nil, ErrAnswer // packing the rewritten message must require no further rewriting
	}
	return e, err
}

// pack packs a message if admit accepts all of its records unchanged. If not, it returns only clean: the message rewritten with the accepted records.
func pack(key Key, msg []byte, authenticated bool, now int64) (e *Answer, clean []byte, err error) {
	bodyAt := wire.HeaderLen + len(key.Name) + questionTail
	if len(msg) < bodyAt || len(msg) > wire.MaxMessage || wire.Count(msg, wire.SectionQuestion) != 1 ||
		wire.SkipName(msg, wire.HeaderLen) != bodyAt-questionTail { // the body is at bodyAt only if the message repeats the name of key
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
	e.data = append(e.data, p.targets...)
	e.expires = now + int64(p.lifetime(e))
	return e, nil, nil
}

// Failure returns a SERVFAIL answer with extended errors for a question that could not be resolved. Its lifetime is failureTTL (RFC 9520);
// the caller decides whether to store it.
func Failure(key Key, now int64, errs ...wire.EDE) *Answer {
	e := &Answer{
		name: uint8(len(key.Name)), typ: key.Type, class: key.Class, rcode: wire.ServFail,
		data: append([]byte(nil), key.Name...), bodyEnd: uint16(len(key.Name)),
		stored: now, expires: now + failureTTL, errs: errs,
	}
	e.bits = key.bits()
	return e
}

// Outage returns a Failure with the lifetime outageTTL. It is for a time during which no upstream answers any question: this machine's network may be down.
func Outage(key Key, now int64, errs ...wire.EDE) *Answer {
	e := Failure(key, now, errs...)
	e.expires = now + outageTTL
	return e
}

// bits returns the key's flags, encoded as in Answer.bits.
func (k *Key) bits() (bits uint8) {
	if k.DO {
		bits |= doBit
	}
	if k.CD {
		bits |= cdBit
	}
	return bits
}

// matches reports whether the answer is for key, which has that hash. It compares the whole key.
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

// Name returns the question's canonical name. The caller must not change it.
func (e *Answer) Name() []byte { return e.data[:e.name] }

// Rcode returns the upstream's rcode, extended bits included.
func (e *Answer) Rcode() int { return int(e.rcode) }

// Errors returns the upstream's extended errors, or the errors passed to Failure.
func (e *Answer) Errors() []wire.EDE { return e.errs }

// Bogus reports whether DNSSEC validation failed at an upstream. Older data must not be served in place of such an answer.
func (e *Answer) Bogus() bool {
	return e.rcode == wire.ServFail && slices.ContainsFunc(e.errs, wire.EDE.DNSSEC)
}

// Authenticated reports whether the answer may have the AD bit.
func (e *Answer) Authenticated() bool { return e.bits&adBit != 0 }

// Fresh reports whether the answer can be served at now as it is.
func (e *Answer) Fresh(now int64) bool { return now < e.expires }

// Keepable reports whether the answer is worth storing.
func (e *Answer) Keepable() bool { return e.expires > e.stored }

// Servable reports whether the answer, fresh or stale, can be served at now while upstreams fail (RFC 8767).
func (e *Answer) Servable(now int64) bool {
	return now < e.expires+staleFor && (e.rcode == wire.Success || e.rcode == wire.NXDomain)
}

// Failed reports whether a renewal failed in the last recheck seconds before now.
func (e *Answer) Failed(now int64) bool { return now < e.failedUntil.Load() }

// MarkFailed records that a renewal failed at now.
func (e *Answer) MarkFailed(now int64) { e.failedUntil.Store(now + recheck) }

// Judged reports whether all targets passed under the view with that stamp (blocklist.View.Stamp).
func (e *Answer) Judged(stamp uint64) bool { return e.judged.Load() == stamp }

// MarkJudged records that all targets passed under the view with that stamp, and that no start or expiry of a listing will change these verdicts.
func (e *Answer) MarkJudged(stamp uint64) { e.judged.Store(stamp) }

// TargetBytes returns the canonical names to which the answer refers, one after the other. The caller must not change or keep them.
func (e *Answer) TargetBytes() []byte { return e.data[e.bodyEnd:] }

// HasTargets reports whether the answer refers to other names.
func (e *Answer) HasTargets() bool { return len(e.data) > int(e.bodyEnd) }

// WriteAnswer writes the answer to q.Out, without the OPT. It subtracts the answer's age at now from the TTLs; all TTLs of a stale answer are staleTTL. The caller
// must call q.Finish.
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
			ttl = left // the remaining lifetime of the whole answer
		default:
			ttl -= age
		}
		binary.BigEndian.PutUint32(field, ttl)
	}
}

// fitting returns the part of the body that fits q's limit: the whole body, or the body without optional records. It returns nil if the required records do not
// fit, so that the answer must be truncated (RFC 2181 section 9).
func (e *Answer) fitting(q *wire.Query) (body []byte, counts [3]uint16) {
	room := q.Limit() - len(q.Out) - q.OPTSize()
	body, counts = e.data[e.name:e.bodyEnd], e.counts
	if len(body) > room {
		body, counts[2] = body[:e.ends[1]], 0
	}
	// The authority section is the proof of a negative answer and, with DNSSEC, of a wildcard.
	if len(body) > room && e.bits&(negativeBit|doBit) == 0 && e.rcode == wire.Success {
		body, counts[1] = body[:e.ends[0]], 0
	}
	if len(body) > room {
		return nil, counts
	}
	return body, counts
}

// Renew reports whether the answer should be renewed at now, because it is used often and expires soon. It returns true again after renewAgain seconds if no
// renewal replaced the answer.
func (e *Answer) Renew(now int64) bool {
	life, left := e.expires-e.stored, e.expires-now
	if life < 10 || left <= 0 || left > max(life/10, 2) || e.uses.Load() < maxUses || e.Failed(now) {
		return false
	}
	at := e.renewAt.Load()
	return at <= now && e.renewAt.CompareAndSwap(at, now+renewAgain)
}
