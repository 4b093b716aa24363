package hostile

import (
	"fmt"
	"slices"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// addSections adds records that the question does not ask for.
func addSections(c *catalogue) {
	addInjections(c)
	target := wireName("target", "example")
	alias, end := record(here, dns.TypeCNAME, target), record(target, dns.TypeA, rightData)
	everywhere := func(records ...string) dnstest.Handler {
		return written(func(q *dnstest.Query) draft {
			return bareReply(q).answer(records...).authority(records...).additional(records...)
		})
	}
	c.add("poison-everywhere", OutcomeFailure, everywhere(poison))
	c.add("alias-and-end-everywhere", OutcomeRight, everywhere(alias, end))
	c.add("alias-only-everywhere", OutcomeAny, everywhere(alias))
	c.add("alias-in-authority", OutcomeAny, written(func(q *dnstest.Query) draft { return bareReply(q).authority(alias).additional(end) }))
	c.add("answer-in-authority", OutcomeAny, written(func(q *dnstest.Query) draft { return bareReply(q).authority(rightRecord) }))
	c.add("answer-in-additional", OutcomeAny, written(func(q *dnstest.Query) draft { return bareReply(q).additional(rightRecord) }))
	c.add("end-in-additional", OutcomeAny, written(func(q *dnstest.Query) draft { return bareReply(q).answer(alias).additional(end) }))
	c.add("signature-nobody-asked-for", OutcomeRight, answering(rightRecord, record(here, dns.TypeRRSIG, signature(dns.TypeA))))
	c.add("signature-of-another-type", OutcomeRight, answering(rightRecord, record(here, dns.TypeRRSIG, signature(dns.TypeMX))))
	c.add("signature-of-poison", OutcomeRight, answering(rightRecord, record(wireName("poison", "example"), dns.TypeRRSIG, signature(dns.TypeA))))
	c.add("denial-nobody-asked-for", OutcomeRight, written(func(q *dnstest.Query) draft {
		return right(q).authority(record(wireName("poison", "example"), dns.TypeNSEC, "\x00\x00\x01\x40"), record(here, dns.TypeRRSIG, signature(dns.TypeNSEC)))
	}))
}

// signature returns the data of an RRSIG record of the root zone.
func signature(covered uint16) string {
	return string([]byte{byte(covered >> 8), byte(covered)}) + "\x0d\x03\x00\x00\x01\x2c\x7f\xff\xff\xff\x00\x00\x00\x01\x30\x39\x00signature"
}

// addInjections adds records of other names, in all sections and orders.
func addInjections(c *catalogue) {
	owner := wireName("poison", "example")
	zone, root := wireName("example"), "\x00"
	server := wireName("ns", "poison", "example")
	for _, f := range []struct {
		name string
		rr   string
	}{
		{"a", poison}, {"cname", record(owner, dns.TypeCNAME, wireName("target", "example"))}, {"ns", record(owner, dns.TypeNS, server)},
		{"aaaa", record(owner, dns.TypeAAAA, "\x20\x01\x0d\xb8"+poisonData+poisonData+poisonData)}, {"txt", record(owner, dns.TypeTXT, "\x06poison")},
		{"soa", record(owner, dns.TypeSOA, soaData)}, {"dname", record(owner, dns.TypeDNAME, wireName("target", "example"))}, {"mx", record(owner, dns.TypeMX, "\x00\x01"+server)},
		{"ptr", record(wireName("66", "100", "51", "198", "in-addr", "arpa"), dns.TypePTR, owner)}, {"zone-ns", record(zone, dns.TypeNS, server)}, {"root-ns", record(root, dns.TypeNS, server)},
		{"zone-ds", record(zone, dns.TypeDS, "\x00\x01\x0d\x02"+poisonData+poisonData)}, {"txt-of-the-name", record(here, dns.TypeTXT, "\x06poison")},
		{"aaaa-of-the-name", record(here, dns.TypeAAAA, "\x20\x01\x0d\xb8"+poisonData+poisonData+poisonData)}, {"unknown-of-the-name", record(here, 65280, "poison")},
	} {
		c.add("inject-"+f.name+"-first", OutcomeRight, answering(f.rr, rightRecord))
		c.add("inject-"+f.name+"-last", OutcomeRight, answering(rightRecord, f.rr))
		c.add("inject-"+f.name+"-authority", OutcomeRight, written(func(q *dnstest.Query) draft { return right(q).authority(f.rr) }))
		c.add("inject-"+f.name+"-additional", OutcomeRight, written(func(q *dnstest.Query) draft { return right(q).additional(f.rr) }))
		c.add("inject-"+f.name+"-alone", OutcomeAny, answering(f.rr))
		c.add("inject-"+f.name+"-everywhere", OutcomeAny, written(func(q *dnstest.Query) draft { return bareReply(q).answer(f.rr).authority(f.rr).additional(f.rr) }))
	}
	c.add("referral-with-glue", OutcomeAny, written(func(q *dnstest.Query) draft {
		return bareReply(q).authority(record(zone, dns.TypeNS, server)).additional(record(server, dns.TypeA, poisonData))
	}))
	c.add("answer-with-glue", OutcomeRight, written(func(q *dnstest.Query) draft {
		return right(q).authority(record(zone, dns.TypeNS, server)).additional(record(server, dns.TypeA, poisonData))
	}))
	c.add("between-100-foreign", OutcomeRight, written(func(q *dnstest.Query) draft {
		foreign := numbered(50, func(int) string { return poison })
		return bareReply(q).answer(slices.Concat(foreign, []string{rightRecord}, foreign)...)
	}))
}

// link returns the i-th name of a chain.
func link(i int) string { return wireName(fmt.Sprintf("link%d", i), "chain", "example") }

// chain returns n aliases that begin at the name in the question, and the address of the last target.
func chain(n int) []string {
	records := []string{record(here, dns.TypeCNAME, link(1))}
	for i := 1; i < n; i++ {
		records = append(records, record(link(i), dns.TypeCNAME, link(i+1)))
	}
	return append(records, record(link(n), dns.TypeA, rightData))
}

// addAliases adds chains and loops of CNAME and DNAME records.
func addAliases(c *catalogue) {
	c.each([]int{1, 8, 16, 33, 64, 65, 1000}, 1, 70, func(n int) {
		o := OutcomeRight
		if n > 16 {
			o = OutcomeFailure // never a part of the chain, which a client would read as "no address"
			if n <= 32 {
				o = OutcomeAny
			}
		}
		c.add(fmt.Sprintf("chain-%d", n), o, answering(chain(n)...))
	})
	c.each([]int{1, 2, 5, 40}, 1, 40, func(n int) {
		loop := chain(n)
		loop[n] = record(link(n), dns.TypeCNAME, link(1)) // in place of the address
		c.add(fmt.Sprintf("loop-%d", n), OutcomeFailure, answering(loop...))
	})
	c.add("loop-to-itself", OutcomeFailure, answering(record(here, dns.TypeCNAME, here)))
	c.add("loop-to-itself-with-answer", OutcomeAny, answering(record(here, dns.TypeCNAME, here), rightRecord))
	c.add("loop-back-to-the-name", OutcomeFailure, answering(record(here, dns.TypeCNAME, link(1)), record(link(1), dns.TypeCNAME, here)))
	backwards := chain(10)
	slices.Reverse(backwards)
	c.add("chain-backwards", OutcomeRight, answering(backwards...))
	c.add("chain-with-gap", OutcomeAny, answering(append(chain(2)[:1], chain(4)[2:]...)...))
	c.add("chain-without-end", OutcomeAny, answering(chain(5)[:5]...))
	c.each([]int{2, 3, 50, 800}, 2, 70, func(n int) {
		c.add(fmt.Sprintf("aliases-%d", n), OutcomeFailure, answering(numbered(n, func(i int) string { return record(here, dns.TypeCNAME, link(i)) })...))
	})
	c.add("alias-twice", OutcomeRight, answering(append(chain(1), chain(1)[0])...))
	c.add("alias-and-answer", OutcomeAny, answering(record(here, dns.TypeCNAME, link(1)), rightRecord))
	c.add("alias-to-root", OutcomeAny, answering(record(here, dns.TypeCNAME, "\x00")))
	c.add("alias-poison-answer", OutcomeRight, answering(chain(1)[0], poison, chain(1)[1]))
	addDNAMEs(c)
}

func addDNAMEs(c *catalogue) {
	zone := wireName("hostile", "example")
	// moved returns the name in the question, moved from zone to another zone.
	moved := func(q *dnstest.Query, to ...string) string {
		name := nameOf(q)
		return name[:len(name)-len(zone)] + wireName(to...)
	}
	dname := record(zone, dns.TypeDNAME, wireName("moved", "example"))
	c.add("dname", OutcomeRight, written(func(q *dnstest.Query) draft {
		return bareReply(q).answer(dname, record(here, dns.TypeCNAME, moved(q, "moved", "example")), record(moved(q, "moved", "example"), dns.TypeA, rightData))
	}))
	c.add("dname-without-alias", OutcomeAny, written(func(q *dnstest.Query) draft {
		return bareReply(q).answer(dname, record(moved(q, "moved", "example"), dns.TypeA, rightData))
	}))
	c.add("dname-against-alias", OutcomeAny, written(func(q *dnstest.Query) draft {
		return bareReply(q).answer(dname, record(here, dns.TypeCNAME, link(1)), record(link(1), dns.TypeA, rightData))
	}))
	c.add("dname-alone", OutcomeAny, answering(dname))
	c.add("dname-of-the-name", OutcomeAny, answering(record(here, dns.TypeDNAME, link(1))))
	c.add("dname-of-the-name-beside", OutcomeRight, answering(record(here, dns.TypeDNAME, link(1)), rightRecord))
	c.add("dname-of-root", OutcomeAny, answering(record("\x00", dns.TypeDNAME, wireName("poison", "example")), rightRecord))
	c.add("dname-loop", OutcomeAny, answering(record(zone, dns.TypeDNAME, zone)))
	c.add("dname-too-long", OutcomeAny, written(func(q *dnstest.Query) draft {
		return bareReply(q).rcode(dns.RcodeYXDomain).answer(record(zone, dns.TypeDNAME, longName(250)))
	}))
	c.add("dname-below", OutcomeRight, answering(record(openName("below")+here, dns.TypeDNAME, link(1)), rightRecord))
}
