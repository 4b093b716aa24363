package scenario

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	headerLen   = 12
	defaultSize = 1232 // UDP payload size in an OPT
)

// query returns the packet as a query with this ID. If the packet was given in hexadecimal, query returns its bytes unchanged.
func (k *packet) query(id uint16) ([]byte, error) {
	if k.raw != nil {
		return slices.Clone(k.raw), nil
	}
	m := &dns.Msg{MsgHdr: k.header, Question: k.question, Answer: k.sections[0], Ns: k.sections[1], Extra: slices.Clone(k.sections[2])}
	m.Id = id
	if k.edns == present || k.edns == asUsual && (k.do || k.options != nil || len(k.errors) > 0) {
		if err := k.addOPT(m, k.do); err != nil {
			return nil, err
		}
	}
	return m.Pack()
}

// answer returns the packet as an answer to query. packed holds the bytes of query.
func (k *packet) answer(query *dns.Msg, packed []byte) ([]byte, error) {
	if k.raw != nil {
		return k.rawAnswer(packed), nil
	}
	m := &dns.Msg{MsgHdr: k.header, Question: k.echo(query), Compress: true}
	m.Id = query.Id
	if !k.copyID {
		m.Id++
	}
	for i, section := range []*[]dns.RR{&m.Answer, &m.Ns, &m.Extra} {
		for _, rr := range k.sections[i] {
			rr = dns.Copy(rr)
			if len(m.Question) > 0 && strings.EqualFold(rr.Header().Name, m.Question[0].Name) {
				rr.Header().Name = m.Question[0].Name // servers compress the name, so the owner has the case of the question
			}
			*section = append(*section, rr)
		}
	}
	opt := query.IsEdns0()
	if k.edns == present || k.edns == asUsual && opt != nil {
		if err := k.addOPT(m, k.do || opt != nil && opt.Do()); err != nil {
			return nil, err
		}
	}
	return m.Pack()
}

// echo returns the question section of an answer to query.
func (k *packet) echo(query *dns.Msg) []dns.Question {
	all := slices.Clone(k.question)
	if k.copyQuery {
		all = slices.Clone(query.Question)
	}
	for i := range all {
		if len(query.Question) == 1 && strings.EqualFold(all[i].Name, query.Question[0].Name) {
			all[i].Name = query.Question[0].Name
		}
		if k.flipCase {
			all[i].Name = flipCase(all[i].Name)
		}
	}
	return all
}

func flipCase(name string) string {
	return strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			return c ^ 0x20
		}
		return c
	}, name)
}

// addOPT adds an OPT with the UDP payload size, extended errors and options of the packet.
func (k *packet) addOPT(m *dns.Msg, do bool) error {
	size := k.size
	if size == 0 {
		size = defaultSize
	}
	m.SetEdns0(size, do)
	opt := m.IsEdns0()
	for _, e := range k.errors {
		opt.Option = append(opt.Option, e)
	}
	for rest := k.options; len(rest) > 0; {
		if len(rest) < 4 || len(rest) < 4+int(binary.BigEndian.Uint16(rest[2:])) {
			return dns.ErrBuf
		}
		end := 4 + int(binary.BigEndian.Uint16(rest[2:]))
		opt.Option = append(opt.Option, &dns.EDNS0_LOCAL{Code: binary.BigEndian.Uint16(rest), Data: rest[4:end]})
		rest = rest[end:]
	}
	return nil
}

// rawAnswer returns the bytes given in hexadecimal, with the ID and the question of the query if copy_id and copy_query are given.
func (k *packet) rawAnswer(query []byte) []byte {
	out := slices.Clone(k.raw)
	if k.copyID && len(out) >= 2 {
		copy(out, query[:2])
	}
	if _, end, err := dns.UnpackDomainName(query, headerLen); k.copyQuery && err == nil && end+4 <= len(out) {
		copy(out[headerLen:], query[headerLen:end+4])
	}
	return out
}
