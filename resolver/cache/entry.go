package cache

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"unsafe"

	"rempart/internal/wire"
)

// Caps on what an upstream may ask for, in seconds.
const (
	maxTTL         = 86400 // of a positive answer
	maxNegativeTTL = 3600  // of a negative one (RFC 2308 section 5 names one to three hours)
	failureTTL     = 5     // of a failure (RFC 9520 section 3.2: one second to five minutes)
	staleTTL       = 30    // of a record served stale (RFC 8767 section 5.2)
	staleFor       = 86400 // how long past its end an answer may be served stale
	recheck        = 30    // how long a failed renewal is not tried again (RFC 8767 section 5)
	renewAgain     = 5     // how long a renewal that was asked for is waited for
	optLen         = 11    // octets of an OPT without options
)

// ErrAnswer is returned for an upstream's message that cannot be walked.
var ErrAnswer = errors.New("a malformed answer")

// Key is what an answer is cached under; it is compared in full.
type Key struct {
	Name  []byte // canonical
	Type  uint16
	Class uint16
	DO    bool
	CD    bool
}

// Entry is one packed answer: immutable but for its marks, safe for concurrent use. Times
// are seconds of the clock the cache's user passes in, which never goes back.
type Entry struct {
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
	failedUntil atomic.Int64  // a renewal failed: not tried before
	uses        atomic.Uint32 // since it was stored or the clock hand passed, up to maxUses
	renewAt     atomic.Int64  // a renewal was asked for: not again before
}

const (
	doBit = 1 << iota
	cdBit
	adBit
	negativeBit
)

const maxUses = 3

// NewEntry packs an upstream's message, whose question is key's, stored at now. authenticated
// says whether its AD bit may be believed. Its OPT goes, and what stands behind it; so does what stands
// behind an answer record that does not belong to the question.
func NewEntry(key Key, msg []byte, authenticated bool, now int64) (*Entry, error) {
	bodyAt := wire.HeaderLen + len(key.Name) + 4
	if len(msg) < bodyAt || len(msg) > wire.MaxMessage || wire.Count(msg, wire.SectionQuestion) != 1 ||
		wire.SkipName(msg, wire.HeaderLen) != bodyAt-4 { // the body's place depends on the question being key's
		return nil, ErrAnswer
	}
	e := &Entry{name: uint8(len(key.Name)), typ: key.Type, class: key.Class, rcode: uint16(wire.Rcode(msg)), stored: now}
	e.setBits(key)
	if authenticated && wire.Flags(msg)&wire.FlagAD != 0 {
		e.bits |= adBit
	}
	p := packing{key: key, msg: msg, bodyAt: bodyAt, end: len(msg), ttl: maxTTL}
	if err := p.follow(); err != nil {
		return nil, err
	}
	if err := p.walk(e); err != nil {
		return nil, err
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
	return e, nil
}

// lowerLabels puts the labels at the start of b in lower case, up to the root or a pointer.
func lowerLabels(b []byte) {
	for len(b) > 0 && b[0] != 0 && b[0] <= wire.MaxLabel {
		n := 1 + int(b[0])
		for i := 1; i < n && i < len(b); i++ {
			b[i] = wire.Lower(b[i])
		}
		b = b[min(n, len(b)):]
	}
}

// Failure is what a question that no upstream answered is cached as, for a short while (RFC 9520).
func Failure(key Key, now int64, errs ...wire.EDE) *Entry {
	e := &Entry{
		name: uint8(len(key.Name)), typ: key.Type, class: key.Class, rcode: wire.ServFail,
		data: append([]byte(nil), key.Name...), bodyEnd: uint16(len(key.Name)),
		stored: now, expires: now + failureTTL, errs: errs,
	}
	e.setBits(key)
	return e
}

func (e *Entry) setBits(key Key) {
	if key.DO {
		e.bits |= doBit
	}
	if key.CD {
		e.bits |= cdBit
	}
}

// packing is one upstream message on its way into an entry.
type packing struct {
	key      Key
	msg      []byte
	bodyAt   int
	end      int    // where the body ends: at the OPT, or at a record that does not belong
	ttl      uint32 // the lowest of all records
	negative uint32 // what the SOA allows a negative answer
	soa      bool
	answered bool   // a record of the asked type is there
	spelt    []int  // where records spell the question's name out, in the case it was asked in for safety
	targets  []byte // the names CNAME records lead to, then those of SVCB and HTTPS
	chain    int    // octets of targets that are CNAMEs'
}

// maxChain bounds the CNAME records followed in one answer.
const maxChain = 32

// follow finds the names the question's leads to by CNAME, in whatever order the records stand.
func (p *packing) follow() error {
	at := p.key.Name
	for range maxChain {
		next, err := p.alias(at)
		if err != nil {
			return err
		}
		if next == nil {
			break
		}
		begin := len(p.targets)
		p.targets = append(p.targets, next...)
		at = p.targets[begin:]
	}
	p.chain = len(p.targets)
	return nil
}

// alias is the target of name's CNAME in the answer, nil if it has none.
func (p *packing) alias(name []byte) ([]byte, error) {
	r := wire.ReadRecords(p.msg)
	var rr wire.Record
	var owner, target [wire.MaxName]byte
	for r.Next(&rr) && rr.Section == wire.SectionAnswer {
		if rr.Type != wire.TypeCNAME {
			continue
		}
		of, _, ok := wire.ExpandName(owner[:0], p.msg, rr.Name)
		if !ok {
			return nil, ErrAnswer
		}
		if string(of) != string(name) {
			continue
		}
		to, next, ok := wire.ExpandName(target[:0], p.msg, rr.Data)
		if !ok || next != rr.End {
			return nil, ErrAnswer
		}
		return to, nil
	}
	return nil, nil
}

// belongs reports whether an answer record speaks of the question's name, of one it leads to, or, as
// DNAME and its signature do, of one above.
func (p *packing) belongs(rr *wire.Record) (bool, error) {
	var buf [wire.MaxName]byte
	owner, _, ok := wire.ExpandName(buf[:0], p.msg, rr.Name)
	if !ok {
		return false, ErrAnswer
	}
	above := rr.Type == wire.TypeDNAME || rr.Type == wire.TypeRRSIG
	name := p.key.Name
	for rest := p.targets[:p.chain]; ; {
		if string(owner) == string(name) {
			p.spelt = append(p.spelt, rr.Name)
			return true, nil
		}
		if above && wire.InZone(name, owner) {
			return true, nil
		}
		n := wire.NameLen(rest)
		if n == 0 {
			return false, nil
		}
		name, rest = rest[:n], rest[n:]
	}
}

// walk reads every record once: TTLs, targets, the SOA, extended errors.
func (p *packing) walk(e *Entry) error {
	r := wire.ReadRecords(p.msg)
	var rr wire.Record
	for r.Next(&rr) {
		if rr.Type == wire.TypeOPT {
			p.cut(&rr)
			if rr.TTL>>24 != 0 {
				e.rcode = wire.ServFail // an extended rcode, about our own query
			}
			e.errs = readErrors(p.msg[rr.Data:rr.End])
			continue
		}
		if p.end != len(p.msg) {
			continue // what was cut off, up to an OPT
		}
		if rr.Section == wire.SectionAnswer {
			ok, err := p.belongs(&rr)
			if err != nil {
				return err
			}
			if !ok {
				p.cut(&rr) // taking it out of the middle would break the compression of what follows
				continue
			}
		}
		if err := p.keep(e, &rr); err != nil {
			return err
		}
	}
	if r.Malformed() {
		return ErrAnswer
	}
	if e.rcode != wire.Success && e.rcode != wire.NXDomain && e.rcode != wire.YXDomain {
		e.rcode = wire.ServFail // REFUSED or FORMERR would speak of the client's query; they speak of ours
	}
	return nil
}

// cut ends the body where rr begins.
func (p *packing) cut(rr *wire.Record) { p.end = min(p.end, rr.Name) }

// keep takes a record into the entry.
func (p *packing) keep(e *Entry, rr *wire.Record) error {
	if rr.TTL > 1<<31-1 {
		rr.TTL = 0 // RFC 2181 section 8
	}
	p.ttl = min(p.ttl, rr.TTL)
	switch rr.Section {
	case wire.SectionAnswer:
		p.answered = p.answered || rr.Type == p.key.Type
		e.ends[0] = uint16(rr.End - p.bodyAt)
		if rr.Type == wire.TypeSVCB || rr.Type == wire.TypeHTTPS {
			if err := p.service(rr); err != nil {
				return err
			}
		}
	case wire.SectionAuthority:
		if rr.Type == wire.TypeSOA && rr.End-rr.Data >= 4 {
			p.soa = true
			p.negative = min(rr.TTL, binary.BigEndian.Uint32(p.msg[rr.End-4:]), maxNegativeTTL)
		}
	}
	if rr.Section <= wire.SectionAuthority {
		e.ends[1] = uint16(rr.End - p.bodyAt)
	}
	e.counts[rr.Section-1]++
	e.ttls = append(e.ttls, uint16(rr.TTLAt-p.bodyAt))
	return nil
}

// service keeps the name a SVCB or HTTPS record leads to, to be judged like an alias.
func (p *packing) service(rr *wire.Record) error {
	const priority = 2
	var buf [wire.MaxName]byte
	name, next, ok := wire.ExpandName(buf[:0], p.msg, rr.Data+priority)
	if !ok || next > rr.End {
		return ErrAnswer
	}
	if len(name) > 1 { // a root target means the owner itself (RFC 9460 section 2.5)
		p.targets = append(p.targets, name...)
	}
	return nil
}

// lifetime is for how many seconds the answer may be given as it is.
func (p *packing) lifetime(e *Entry) uint32 {
	switch {
	case e.rcode == wire.Success && p.answered:
		return p.ttl
	case e.rcode == wire.Success || e.rcode == wire.NXDomain:
		if !p.soa {
			return 0 // RFC 2308 section 5: without an SOA it should not be cached
		}
		e.bits |= negativeBit
		return min(p.ttl, p.negative)
	default:
		return failureTTL
	}
}

// readErrors copies the extended errors out of an OPT's options: two at most, text bounded.
func readErrors(options []byte) (errs []wire.EDE) {
	for len(options) >= 4 && len(errs) < 2 {
		code, n := binary.BigEndian.Uint16(options), int(binary.BigEndian.Uint16(options[2:]))
		if 4+n > len(options) {
			break
		}
		if code == wire.OptionEDE && n >= 2 {
			text := options[6 : 4+n]
			errs = append(errs, wire.EDE{Code: binary.BigEndian.Uint16(options[4:]), Text: string(text[:min(len(text), 255)])})
		}
		options = options[4+n:]
	}
	return errs
}

// matches compares the key in full.
func (e *Entry) matches(hash uint64, key *Key) bool {
	bits := uint8(0)
	if key.DO {
		bits |= doBit
	}
	if key.CD {
		bits |= cdBit
	}
	return e.hash == hash && e.typ == key.Type && e.class == key.Class && e.bits&(doBit|cdBit) == bits &&
		string(e.data[:e.name]) == string(key.Name)
}

// size is what the entry weighs in memory, in octets.
func (e *Entry) size() int64 {
	n := int(unsafe.Sizeof(*e)) + cap(e.data) + 2*cap(e.ttls)
	for _, x := range e.errs {
		n += int(unsafe.Sizeof(x)) + len(x.Text)
	}
	return int64(n)
}

// Rcode is the upstream's, extended bits included.
func (e *Entry) Rcode() int { return int(e.rcode) }

// Errors are the upstream's extended errors, or those given to Failure.
func (e *Entry) Errors() []wire.EDE { return e.errs }

// Authenticated reports whether AD may be given.
func (e *Entry) Authenticated() bool { return e.bits&adBit != 0 }

// Fresh reports whether the answer may be given at now as it is.
func (e *Entry) Fresh(now int64) bool { return now < e.expires }

// Keepable reports whether it is worth storing at all.
func (e *Entry) Keepable() bool { return e.expires > e.stored }

// Stale reports whether it may be given when its upstreams fail: it was an answer, and not too long ago.
func (e *Entry) Stale(now int64) bool {
	return now < e.expires+staleFor && (e.rcode == wire.Success || e.rcode == wire.NXDomain)
}

// Failed reports whether renewing it was tried and failed a moment ago.
func (e *Entry) Failed(now int64) bool { return now < e.failedUntil.Load() }

// MarkFailed notes that renewing it failed at now.
func (e *Entry) MarkFailed(now int64) { e.failedUntil.Store(now + recheck) }

// Judged reports whether all targets passed under that version of the set.
func (e *Entry) Judged(version uint64) bool { return e.judged.Load() == version }

// MarkJudged notes that they did, and that no moment will change it.
func (e *Entry) MarkJudged(version uint64) { e.judged.Store(version) }

// TargetBytes are the names the answer leads to, canonical, one behind the other, borrowed.
func (e *Entry) TargetBytes() []byte { return e.data[e.bodyEnd:] }

// HasTargets reports whether the answer leads to other names.
func (e *Entry) HasTargets() bool { return len(e.data) > int(e.bodyEnd) }

// Answer writes the entry as q's answer up to, not including, the OPT, its TTLs aged to now; served
// stale they are given a short life. The caller finishes it.
func (e *Entry) Answer(q *wire.Query, now int64, stale bool) {
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
		ttl := binary.BigEndian.Uint32(field)
		switch {
		case stale:
			ttl = staleTTL
		case ttl <= age, e.bits&negativeBit != 0:
			ttl = left // no longer, and of a negative answer no shorter, than the whole
		default:
			ttl = min(ttl-age, maxTTL)
		}
		binary.BigEndian.PutUint32(field, ttl)
	}
}

// fitting is what of the body q's client takes: all, or without records that are not owed; nil if even
// that is too large (RFC 2181 section 9).
func (e *Entry) fitting(q *wire.Query) (body []byte, counts [3]uint16) {
	room := q.Limit() - len(q.Out)
	if q.EDNS {
		room -= optLen
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

// Renew reports whether the entry, used at now, is asked for often and near its end, so that it should
// be renewed before: true once, and again when that came to nothing.
func (e *Entry) Renew(now int64) bool {
	life, left := e.expires-e.stored, e.expires-now
	if life < 10 || left <= 0 || left > max(life/10, 2) || e.uses.Load() < maxUses || e.Failed(now) {
		return false
	}
	at := e.renewAt.Load()
	return at <= now && e.renewAt.CompareAndSwap(at, now+renewAgain)
}
