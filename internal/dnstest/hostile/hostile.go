// Package hostile is a catalogue of answers that a broken or hostile upstream may send.
package hostile

import (
	"strings"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// Behaviour is one way in which a broken or hostile upstream answers.
type Behaviour struct {
	Kind    string // what is wrong: the header, the question, ...
	Name    string // one label of a domain name, different for each Behaviour
	Type    uint16 // of the question that Handler answers
	Outcome Outcome
	Silent  bool // over UDP Rempart receives no message that it may accept as an answer: a client waits until Rempart gives up
	Handler dnstest.Handler
}

// Outcome is what a client may receive if the upstream shows a Behaviour. In each case the client receives an answer in
// time, and the answer holds only records that the question asks for.
type Outcome uint8

const (
	OutcomeAny     Outcome = iota // the right answer, an answer without an address, or SERVFAIL
	OutcomeRight                  // RightAddress: the upstream sends all that is needed, whatever else it sends
	OutcomeFailure                // SERVFAIL: the upstream sends no usable answer
)

const (
	// RightAddress is the address that every Behaviour gives to the name in the question.
	RightAddress = "192.0.2.1"
	// PoisonAddress is the address of records that answer no question. It must reach no client.
	PoisonAddress = "198.51.100.66"
	// PoisonName is the owner of many records with PoisonAddress.
	PoisonName = "poison.example."

	rightData  = "\xc0\x00\x02\x01"
	poisonData = "\xc6\x33\x64\x42"
)

// catalogue collects behaviours of one kind after another.
type catalogue struct {
	all  bool
	kind string
	list []Behaviour
}

// Behaviours returns several hundred behaviours of hostile upstreams. If all is set, it returns several thousand, with every value of
// every parameter. The list is the same each time. Some behaviours remember which questions they received: use each list for one Upstream.
func Behaviours(all bool) []Behaviour {
	c := &catalogue{all: all}
	for _, part := range []struct {
		kind string
		fill func(*catalogue)
	}{
		{"header", addHeader},
		{"question", addQuestion},
		{"counts", addCounts},
		{"names", addNames},
		{"targets", addTargets},
		{"data", addData},
		{"lengths", addLengths},
		{"bits", addBits},
		{"sections", addSections},
		{"aliases", addAliases},
		{"rcode", addRcodes},
		{"framing", addFraming},
		{"timing", addTiming},
		{"several", addSeveral},
	} {
		c.kind = part.kind
		part.fill(c)
	}
	return c.list
}

// add adds a Behaviour for a question of type A.
func (c *catalogue) add(name string, o Outcome, h dnstest.Handler) { c.addType(name, dns.TypeA, o, h) }

// addSilent adds a Behaviour that is Silent.
func (c *catalogue) addSilent(name string, o Outcome, h dnstest.Handler) {
	c.add(name, o, h)
	c.list[len(c.list)-1].Silent = true
}

func (c *catalogue) addType(name string, typ uint16, o Outcome, h dnstest.Handler) {
	c.list = append(c.list, Behaviour{Kind: c.kind, Name: name, Type: typ, Outcome: o, Handler: h})
}

// each calls f for the numbers in few, or, if c.all is set, for all numbers from first to last.
func (c *catalogue) each(few []int, first, last int, f func(n int)) {
	if !c.all {
		for _, n := range few {
			f(n)
		}
		return
	}
	for n := first; n <= last; n++ {
		f(n)
	}
}

// ByName answers a question by the Behaviour of list whose Name is the second label of the question's name. It gives other questions
// the right answer: RightAddress, or no data for types other than A.
func ByName(list []Behaviour) dnstest.Handler {
	by := make(map[string]dnstest.Handler, len(list))
	for _, b := range list {
		by[b.Name] = b.Handler
	}
	return func(q *dnstest.Query) {
		h := dnstest.Handler(rightly)
		if labels := dns.SplitDomainName(q.Msg.Question[0].Name); len(labels) > 2 && by[strings.ToLower(labels[1])] != nil {
			h = by[strings.ToLower(labels[1])]
		}
		h(q)
	}
}

// rightly answers as an upstream should.
func rightly(q *dnstest.Query) {
	m := q.Reply(dns.RcodeSuccess)
	name := q.Msg.Question[0].Name
	if q.Msg.Question[0].Qtype == dns.TypeA {
		rr, err := dns.NewRR(name + " 300 IN A " + RightAddress)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	} else {
		m.Ns = append(m.Ns, &dns.SOA{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}, Ns: ".", Mbox: ".", Minttl: 60})
	}
	q.Send(m)
}
