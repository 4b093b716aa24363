package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

var updateTables = flag.Bool("update", false, "write the measured tables into deploy/forwarders.md")

// dnsPatience is how long the clients of these tests wait for one answer.
const dnsPatience = 5 * time.Second

// blockAnswers are the kinds of answers to blocked names that are compared, and the addresses of a Rempart for each.
var blockAnswers = []struct{ setting, first, second string }{
	{"page", firstServer, secondServer},
	{"nxdomain", "192.0.2.12", "192.0.2.13"},
	{"refused", "192.0.2.14", "192.0.2.15"},
}

// seenAnswer is an answer as the table shows it.
func seenAnswer(m *dns.Msg) string {
	switch a := address(m); {
	case a == page:
		return "page"
	case a == origin && m.AuthenticatedData:
		return "address, AD"
	case a == origin:
		return "address"
	default:
		return a
	}
}

// seenErrors lists the extended errors of an answer.
func seenErrors(m *dns.Msg) string {
	var all []string
	for _, code := range errorsOf(m) {
		all = append(all, fmt.Sprint(code))
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, ", ")
}

// TestForwardersAndDNSSEC measures what clients of each resolver get that forwards to Rempart with its file in deploy/forwarders, without and with validation in
// the resolver, and compares it with the table in deploy/forwarders.md. The upstream of Rempart is Unbound, which validates.
func TestForwardersAndDNSSEC(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts many resolvers")
	}
	for _, f := range forwarders {
		dnstest.Need(t, f.program)
	}
	if !dnstest.Isolated(t) {
		return
	}
	root, h := internet(t)
	e := newEngine(t, root, dnstest.NewUpstream(t, h))
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "||bad.plain.example^", "||bad.signed.example^")
	for _, b := range blockAnswers {
		inNetwork(t, b.first, b.second)
		start(t, "REMPART_UPSTREAMS=udp://"+e.addr, "REMPART_LISTS="+list, "REMPART_BLOCK_ANSWER="+b.setting,
			"REMPART_LISTEN="+b.first+":53,"+b.second+":53", "REMPART_CLIENTS=192.0.2.0/24", "REMPART_LIMITS=none")
	}
	type row struct {
		forwarder, setting string
		unsigned, signed   [3]string // the answer to a blocked name, by kind of answer
		errors             string    // of the first of them
		passed, forged     string
	}
	var rows []*row
	t.Run("resolvers", func(t *testing.T) {
		for _, f := range forwarders {
			for _, v := range f.validations {
				r := &row{forwarder: f.name, setting: v.setting}
				rows = append(rows, r)
				number := len(rows)
				for kind, b := range blockAnswers {
					t.Run(fmt.Sprint(f.name, " ", v.setting, " ", b.setting), func(t *testing.T) {
						t.Parallel()
						text, anchor := forwarderText(t, f.file), (*dns.DNSKEY)(nil)
						if v.old != "" {
							text = replaced(t, text, v.old, v.new)
						}
						if v.anchored {
							anchor = root.Key
						}
						addr := fmt.Sprintf("127.0.%d.%d", number, 1+kind)
						f.start(t, strings.NewReplacer(firstServer, b.first, secondServer, b.second).Replace(text), addr, anchor)
						ask := func(name string) *dns.Msg { return dnstest.Exchange(t, "udp", addr+":53", validated(name)) }
						unsigned := ask("bad.plain.example")
						r.unsigned[kind], r.signed[kind] = seenAnswer(unsigned), seenAnswer(ask("bad.signed.example"))
						if kind > 0 {
							return
						}
						r.errors, r.passed, r.forged = seenErrors(unsigned), seenAnswer(ask("www.signed.example")), seenAnswer(ask("forged.signed.example"))
						if address(unsigned) == page && unsigned.Answer[0].Header().Ttl > 30 {
							t.Errorf("the TTL of a blocked answer is longer than REMPART_BLOCK_TTL: %v", unsigned)
						}
					})
				}
			}
		}
	})
	table := "| resolver | validation | blocked, unsigned zone | blocked, signed zone | extended errors of a block | signed name that passes | " +
		"name with a forged signature | `nxdomain`: unsigned, signed | `refused`: unsigned, signed |\n" +
		"|---|---|---|---|---|---|---|---|---|\n"
	for _, r := range rows {
		table += fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s, %s | %s, %s |\n", r.forwarder, r.setting,
			r.unsigned[0], r.signed[0], r.errors, r.passed, r.forged, r.unsigned[1], r.signed[1], r.unsigned[2], r.signed[2])
	}
	t.Log(table)
	dnstest.CheckTable(t, filepath.Join("..", "..", "deploy", "forwarders.md"), "dnssec", "go test ./cmd/rempart -run ForwardersAndDNSSEC -update", table, *updateTables)
}
