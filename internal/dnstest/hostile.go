package dnstest

import (
	"strings"

	"github.com/miekg/dns"
)

// Behaviour is one way in which an upstream that is broken or hostile answers.
type Behaviour struct {
	Kind    string // what is wrong: the header, the question, ...
	Name    string // one label of a domain name, different for each Behaviour
	Type    uint16 // of the question that it is an answer to
	Outcome Outcome
	Silent  bool // over UDP no message arrives that may be taken for an answer: a client waits until Rempart gives up
	Handler Handler
}

// Outcome says what a client may get where the upstream shows a Behaviour. In any case the client gets an answer in
// time, with nothing in it that the question does not ask for.
type Outcome uint8

const (
	OutcomeAny     Outcome = iota // the right answer, none, or SERVFAIL
	OutcomeRight                  // RightAddress: all that is needed arrives, whatever else does
	OutcomeFailure                // SERVFAIL: no answer can be taken from it
)

const (
	// RightAddress is the address that every Behaviour gives to the name in the question.
	RightAddress = "192.0.2.1"
	// PoisonAddress is the address of records that answer no question. It must reach no client.
	PoisonAddress = "198.51.100.66"
	// PoisonName is the owner of many of them.
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

// Hostile returns behaviours of hostile upstreams, some hundred, or with every value of every parameter if all is
// set: some thousand. They are the same each time. Some remember which questions they were asked: one list is for one Upstream.
func Hostile(all bool) []Behaviour {
	c := &catalogue{all: all}
	for _, part := range []struct {
		kind string
		fill func(*catalogue)
	}{
		{"header", hostileHeader},
		{"question", hostileQuestion},
		{"counts", hostileCounts},
		{"names", hostileNames},
		{"targets", hostileTargets},
		{"data", hostileData},
		{"lengths", hostileLengths},
		{"bits", hostileBits},
		{"sections", hostileSections},
		{"aliases", hostileAliases},
		{"rcode", hostileRcodes},
		{"framing", hostileFraming},
		{"timing", hostileTiming},
		{"several", hostileSeveral},
	} {
		c.kind = part.kind
		part.fill(c)
	}
	return c.list
}

// add adds a Behaviour for a question of type A.
func (c *catalogue) add(name string, o Outcome, h Handler) { c.addType(name, dns.TypeA, o, h) }

// addSilent adds a Behaviour that is Silent.
func (c *catalogue) addSilent(name string, o Outcome, h Handler) {
	c.add(name, o, h)
	c.list[len(c.list)-1].Silent = true
}

func (c *catalogue) addType(name string, typ uint16, o Outcome, h Handler) {
	c.list = append(c.list, Behaviour{Kind: c.kind, Name: name, Type: typ, Outcome: o, Handler: h})
}

// each calls f for the numbers in few, or for all from first to last if the catalogue is to have all.
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

// ByName answers a question as the Behaviour of list that is the second label of its name, and other questions right: with
// RightAddress, or with no data for types other than A.
func ByName(list []Behaviour) Handler {
	by := make(map[string]Handler, len(list))
	for _, b := range list {
		by[b.Name] = b.Handler
	}
	return func(q *Query) {
		h := Handler(rightly)
		if labels := dns.SplitDomainName(q.Msg.Question[0].Name); len(labels) > 2 && by[strings.ToLower(labels[1])] != nil {
			h = by[strings.ToLower(labels[1])]
		}
		h(q)
	}
}

// rightly answers as an upstream should.
func rightly(q *Query) {
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
