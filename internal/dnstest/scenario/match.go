package scenario

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/miekg/dns"
)

// compare returns the difference between the entry and m, which arrived over transport; nil if there is none.
func (e *entry) compare(m *dns.Msg, transport string) error {
	for _, check := range []func(*dns.Msg) error{e.compareHeader, e.compareQuestion, e.compareEDNS, e.compareRecords} {
		if err := check(m); err != nil {
			return err
		}
	}
	if e.match["UDP"] && transport != "udp" || e.match["TCP"] && transport != "tcp" {
		return fmt.Errorf("it arrived over %s", transport)
	}
	return nil
}

func (e *entry) compareHeader(m *dns.Msg) error {
	all, want := e.match["all"], e.packets[0].header
	switch {
	case (all || e.match["opcode"]) && m.Opcode != want.Opcode:
		return fmt.Errorf("opcode %s, want %s", dns.OpcodeToString[m.Opcode], dns.OpcodeToString[want.Opcode])
	case (all || e.match["rcode"]) && m.Rcode != want.Rcode:
		return fmt.Errorf("rcode %s, want %s", dns.RcodeToString[m.Rcode], dns.RcodeToString[want.Rcode])
	case (all || e.match["flags"]) && flagsOf(m.MsgHdr) != flagsOf(want):
		return fmt.Errorf("flags %s, want %s", flagsOf(m.MsgHdr), flagsOf(want))
	case e.match["CD"] && !m.CheckingDisabled || e.match["noCD"] && m.CheckingDisabled:
		return fmt.Errorf("CD is %v", m.CheckingDisabled)
	}
	return nil
}

func flagsOf(h dns.MsgHdr) string {
	var set []string
	for _, f := range []struct {
		on   bool
		name string
	}{{h.Response, "QR"}, {h.Authoritative, "AA"}, {h.Truncated, "TC"}, {h.RecursionDesired, "RD"}, {h.RecursionAvailable, "RA"},
		{h.AuthenticatedData, "AD"}, {h.CheckingDisabled, "CD"}} {
		if f.on {
			set = append(set, f.name)
		}
	}
	return "[" + strings.Join(set, " ") + "]"
}

func (e *entry) compareQuestion(m *dns.Msg) error {
	question := e.match["all"] || e.match["question"]
	if !question && !e.match["qname"] && !e.match["qtype"] && !e.match["subdomain"] {
		return nil
	}
	if len(m.Question) != 1 {
		return fmt.Errorf("%d questions, want one", len(m.Question))
	}
	got, want := m.Question[0], e.packets[0].question[0]
	switch {
	case (question || e.match["qname"]) && !strings.EqualFold(got.Name, want.Name),
		e.match["subdomain"] && !dns.IsSubDomain(want.Name, got.Name):
		return fmt.Errorf("question for %s, want %s", got.Name, want.Name)
	case (question || e.match["qtype"]) && got.Qtype != want.Qtype:
		return fmt.Errorf("question of type %s, want %s", dns.Type(got.Qtype), dns.Type(want.Qtype))
	case question && got.Qclass != want.Qclass:
		return fmt.Errorf("question of class %s, want %s", dns.Class(got.Qclass), dns.Class(want.Qclass))
	}
	return nil
}

func (e *entry) compareEDNS(m *dns.Msg) error {
	opt := m.IsEdns0()
	do := opt != nil && opt.Do()
	switch {
	case e.match["edns"] && opt == nil:
		return fmt.Errorf("it has no OPT")
	case e.match["noedns"] && opt != nil:
		return fmt.Errorf("it has an OPT")
	case e.match["DO"] && !do || e.match["noDO"] && do:
		return fmt.Errorf("DO is %v", do)
	}
	codes := []uint16{}
	for _, x := range errorsOf(m) {
		codes = append(codes, x.InfoCode)
	}
	switch {
	case e.match["ede=none"] && len(codes) > 0, e.match["ede=any"] && len(codes) == 0, e.match["ede"] && !slices.Equal(codes, e.ede):
		return fmt.Errorf("extended errors %v", codes)
	}
	return nil
}

func errorsOf(m *dns.Msg) (all []*dns.EDNS0_EDE) {
	opt := m.IsEdns0()
	if opt == nil {
		return nil
	}
	for _, o := range opt.Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			all = append(all, e)
		}
	}
	return all
}

func (e *entry) compareRecords(m *dns.Msg) error {
	extra := slices.DeleteFunc(slices.Clone(m.Extra), func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
	for i, section := range []struct {
		name string
		got  []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"additional", extra}} {
		if !e.match["all"] && !e.match[section.name] {
			continue
		}
		want := e.packets[0].sections[i]
		same := func(a, b dns.RR) bool {
			return dns.IsDuplicate(a, b) && (!e.match["ttl"] || a.Header().Ttl == b.Header().Ttl)
		}
		if !slices.EqualFunc(section.got, want, same) {
			return fmt.Errorf("records of the %s section:\n%swant:\n%s", section.name, list(section.got), list(want))
		}
	}
	return nil
}

func list(records []dns.RR) string {
	if len(records) == 0 {
		return "\tnone\n"
	}
	var b strings.Builder
	for _, rr := range records {
		fmt.Fprintf(&b, "\t%s\n", rr)
	}
	return b.String()
}

// mayOmitQuestion reports whether an answer with this rcode may lack the question, because the server could not read it.
func mayOmitQuestion(rcode int) bool {
	return rcode == dns.RcodeFormatError || rcode == dns.RcodeNotImplemented
}

// checkAnswer checks the rules that apply to every answer. query is the query of the client, sent over transport.
func checkAnswer(m *dns.Msg, answer, query []byte, transport string) error {
	switch {
	case m.Id != binary.BigEndian.Uint16(query):
		return fmt.Errorf("the ID is not that of the query")
	case !m.Response:
		return fmt.Errorf("QR is not set")
	}
	if new(dns.Msg).Unpack(answer[:len(answer)-1]) == nil {
		return fmt.Errorf("there are bytes after the last record")
	}
	asked := new(dns.Msg)
	if asked.Unpack(query) != nil {
		return nil
	}
	opt := asked.IsEdns0()
	limit := dns.MaxMsgSize
	if transport == "udp" {
		limit = dns.MinMsgSize
		if opt != nil {
			limit = max(limit, int(opt.UDPSize()))
		}
	}
	switch {
	case len(asked.Question) == 1 && !slices.Equal(m.Question, asked.Question) && !(len(m.Question) == 0 && mayOmitQuestion(m.Rcode)):
		return fmt.Errorf("the question %v is not the one of the query, %v", m.Question, asked.Question)
	case (m.IsEdns0() != nil) != (opt != nil):
		return fmt.Errorf("an OPT in the query: %v, in the answer: %v", opt != nil, m.IsEdns0() != nil)
	case len(answer) > limit:
		return fmt.Errorf("%d bytes for a client that accepts %d", len(answer), limit)
	}
	for _, e := range errorsOf(m) {
		if !utf8.ValidString(e.ExtraText) {
			return fmt.Errorf("the text of extended error %d is not UTF-8: %q", e.InfoCode, e.ExtraText)
		}
	}
	return nil
}
