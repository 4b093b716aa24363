package cache

import (
	"encoding/binary"

	"rempart/internal/wire"
)

// packing is one upstream message on its way into an answer.
type packing struct {
	key      Key
	msg      []byte
	bodyAt   int
	end      int    // where the body ends: at the first additional record
	ttl      uint32 // the lowest of all records
	negative uint32 // what the SOA allows a negative answer
	soa      bool
	answered bool   // a record of the asked type is there
	targets  []byte // the targets of CNAME records, then those of SVCB and HTTPS
	chain    int    // bytes of targets that are of CNAME records
	unclean  bool   // a record is to be left out or written again
	foreign  bool   // an answer record has a name that the question does not lead to, or another class
}

// Bounds of the aliases in one answer.
const (
	maxChain   = 32 // CNAME records followed
	maxAliases = 64 // CNAME records at all
)

// follow collects the targets of the chain of CNAME records that begins at the name in the question, in any order of the records. A loop is an error (RFC
// 1034 section 3.6.2), and so is a chain of more than maxChain records: cut short, it would mean that the name has no data.
func (p *packing) follow() error {
	all, err := p.aliases()
	if err != nil {
		return err
	}
	at := p.key.Name
	for n := 0; ; n++ {
		next, err := targetOf(at, all)
		if err != nil || next == nil {
			return err
		}
		if n == maxChain || p.isInChain(next) {
			if p.key.Type == wire.TypeCNAME { // nobody follows a CNAME record that was asked for
				return nil
			}
			return ErrAnswer
		}
		p.targets = append(p.targets, next...)
		p.chain = len(p.targets)
		at = next
	}
}

// targetOf returns the target of the CNAME record of name, nil if there is none.
func targetOf(name []byte, all []alias) (target []byte, err error) {
	for _, a := range all {
		if string(a.owner) != string(name) {
			continue
		}
		if target != nil && string(target) != string(a.target) {
			return nil, ErrAnswer // RFC 2181 section 10.1: a name has one target
		}
		target = a.target
	}
	return target, nil
}

// names yields the name in the question and the targets that follow has collected.
func (p *packing) names(yield func(name []byte) bool) {
	if !yield(p.key.Name) {
		return
	}
	for rest := p.targets[:p.chain]; len(rest) > 0; {
		n := wire.NameLen(rest)
		if n == 0 || !yield(rest[:n]) {
			return
		}
		rest = rest[n:]
	}
}

// isInChain reports whether names yields name.
func (p *packing) isInChain(name []byte) bool {
	for n := range p.names {
		if string(n) == string(name) {
			return true
		}
	}
	return false
}

// alias is a CNAME record; both names are canonical.
type alias struct{ owner, target []byte }

// aliases returns the CNAME records of the answer section.
func (p *packing) aliases() (all []alias, err error) {
	r := wire.ReadRecords(p.msg)
	var rr wire.Record
	for r.Next(&rr) && rr.Section == wire.SectionAnswer {
		if rr.Type != wire.TypeCNAME || rr.Class != p.key.Class {
			continue
		}
		var a alias
		var next int
		var ok bool
		if a.owner, _, ok = wire.ExpandName(nil, p.msg, rr.Name); ok {
			a.target, next, ok = wire.ExpandName(nil, p.msg, rr.Data)
		}
		if !ok || next != rr.End || len(all) == maxAliases {
			return nil, ErrAnswer
		}
		all = append(all, a)
	}
	return all, nil
}

// belongs reports whether an answer record is at the question's name, at a target, or, for DNAME and its signature, at a name above. A DNAME record does not
// apply to its own name (RFC 6672 section 2.3).
func (p *packing) belongs(rr *wire.Record) (bool, error) {
	var buf [wire.MaxName]byte
	owner, _, ok := wire.ExpandName(buf[:0], p.msg, rr.Name)
	if !ok {
		return false, ErrAnswer
	}
	above := rr.Type == wire.TypeDNAME || rr.Type == wire.TypeRRSIG
	isOwnDNAME := false // a DNAME record at one of the names
	for name := range p.names {
		switch {
		case string(owner) != string(name):
			if above && wire.InZone(name, owner) {
				return true, nil
			}
		case rr.Type == wire.TypeDNAME && p.key.Type != wire.TypeDNAME:
			isOwnDNAME = true
		default:
			lowerLabels(p.msg[rr.Name:]) // the owner may be in the random case in which the question was asked
			return true, nil
		}
	}
	p.foreign = p.foreign || !isOwnDNAME
	return false, nil
}

// walk reads every record once: TTLs, targets, the SOA, extended errors. Records that are not admitted are skipped, and noted in unclean.
func (p *packing) walk(e *Answer) error {
	r := wire.ReadRecords(p.msg)
	var rr wire.Record
	for r.Next(&rr) {
		if rr.Section == wire.SectionAdditional {
			p.end = min(p.end, rr.Name)
			if rr.Type == wire.TypeOPT {
				if rr.TTL>>24 != 0 {
					e.rcode = wire.ServFail // an extended rcode, about our own query
				}
				e.errs = readErrors(p.msg[rr.Data:rr.End])
			}
			continue
		}
		what, err := p.admit(&rr)
		if err != nil {
			return err
		}
		if what != keep {
			p.unclean = true
		}
		if what == leaveOut {
			continue
		}
		if err := p.keep(e, &rr); err != nil {
			return err
		}
	}
	if r.Malformed() {
		return ErrAnswer
	}
	switch {
	case e.rcode == wire.Success && e.counts[0] == 0 && p.foreign:
		return ErrAnswer // the answer belongs to another question
	case e.rcode == wire.NXDomain && p.answered && p.key.Type != wire.TypeCNAME:
		return ErrAnswer // the answer holds records of the name and says that the name does not exist
	case e.rcode != wire.Success && e.rcode != wire.NXDomain && e.rcode != wire.YXDomain:
		p.fail(e)
	}
	return nil
}

// fail makes e a failure without records. REFUSED or FORMERR would be about the client's query, but they are about ours.
func (p *packing) fail(e *Answer) {
	e.rcode = wire.ServFail
	e.counts, e.ends, e.ttls = [3]uint16{}, [2]uint16{}, nil
	p.end, p.targets, p.chain, p.unclean = p.bodyAt, nil, 0, false
}

// keep adds a record to the answer.
func (p *packing) keep(e *Answer, rr *wire.Record) error {
	if rr.TTL > 1<<31-1 {
		rr.TTL = 0 // RFC 2181 section 8
		binary.BigEndian.PutUint32(p.msg[rr.TTLAt:], 0)
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

// service records the target of a SVCB or HTTPS record, to be judged like an alias.
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

// lifetime returns for how many seconds the answer is fresh.
func (p *packing) lifetime(e *Answer) uint32 {
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

// maxText bounds the stored part of an upstream's EXTRA-TEXT, in bytes.
const maxText = 255

// readErrors copies the extended errors from an OPT's options: at most two, with bounded text.
func readErrors(options []byte) (errs []wire.EDE) {
	for len(errs) < 2 {
		code, value, rest, ok := wire.NextOption(options)
		if !ok {
			break
		}
		if code == wire.OptionEDE {
			if e, ok := wire.ReadEDE(value, maxText); ok {
				errs = append(errs, e)
			}
		}
		options = rest
	}
	return errs
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
