package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"rempart/internal/dnstest"
)

// TestForwardersFailOver runs each resolver with its file in deploy/forwarders, over plain DNS and over TLS, and cuts the line of one of the two servers.
// It also checks the servers' side: no client subnet, no CD bit, the certificate's name, a zone with a server of its own, and the limit of TTLs.
func TestForwardersFailOver(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts many resolvers")
	}
	for _, f := range forwarders {
		dnstest.Need(t, f.program)
	}
	dnstest.Need(t, "iptables")
	if !dnstest.Isolated(t) {
		return
	}
	inNetwork(t, firstServer, secondServer, ownServer)
	upstream := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A "+origin))
	ca := newAuthority(t)
	ca.issue("dns", &x509.Certificate{DNSNames: []string{forwardersName}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err := unix.Mount(ca.path("ca.pem"), "/etc/ssl/certs/ca-certificates.crt", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	var servers []*dnstest.Program
	for _, addr := range []string{firstServer, secondServer} {
		servers = append(servers, start(t, upstreams(upstream), "REMPART_LISTEN="+addr+":53", "REMPART_TLS_LISTEN="+addr+":853",
			"REMPART_CERT="+ca.path("dns.pem"), "REMPART_KEY="+ca.path("dns.key"), "REMPART_CLIENTS=192.0.2.0/24", "REMPART_LIMITS=none"))
	}
	own := serveOwnZone(t)
	var clients []*forwarderClient
	for i, f := range forwarders {
		for k, marks := range [][]string{{"ZONE"}, {"TLS", "ZONE"}} {
			if k == 1 && !f.overTLS {
				continue
			}
			c := &forwarderClient{name: f.name + []string{", UDP", ", TLS"}[k], addr: fmt.Sprintf("127.0.%d.%d:53", 1+i, 1+k)}
			f.start(t, forwarderText(t, f.file, marks...), strings.TrimSuffix(c.addr, ":53"), nil)
			clients = append(clients, c)
			c.checkAnswers(t, own)
		}
	}
	for _, q := range upstream.Seen() {
		if q.Msg.CheckingDisabled && dns.IsSubDomain("plain.example.", dns.CanonicalName(q.Msg.Question[0].Name)) {
			t.Fatalf("a resolver asked the upstream not to validate: %v", q.Msg)
		}
	}
	for i, p := range servers {
		if _, metrics := get(t, p, "/metrics"); !strings.Contains(metrics, `transport="tls"`) || !strings.Contains(metrics, `transport="udp"`) {
			t.Errorf("server %d was not asked over UDP and TLS", i+1)
		}
	}
	checkCertificateName(t)

	var running sync.WaitGroup
	var over atomic.Bool
	for _, c := range clients {
		for n := range forwarderClients {
			running.Go(func() { c.load(t, n, &over) })
		}
	}
	time.Sleep(time.Second)
	cut := time.Now()
	dnstest.Command(t, "iptables", "-I", "INPUT", "-d", firstServer, "-j", "DROP")
	time.Sleep(6 * time.Second)
	over.Store(true)
	running.Wait()
	for _, c := range clients {
		asked, lost, slow, longest := c.between(cut, time.Now())
		_, late, _, _ := c.between(cut.Add(3*time.Second), time.Now())
		t.Logf("%-26s %4d queries, %d lost, %3d took more than 1 s, longest answer %.1f s", c.name, asked, lost, slow, longest.Seconds())
		if c.name == "Knot Resolver 5.6, TLS" {
			continue // it may wait for its connection to the silent server, as the guide says
		}
		if asked == lost || lost > forwarderClients || late > 0 {
			t.Errorf("%s: %d of %d queries were lost, %d of them later than 3 s after the cut", c.name, lost, asked, late)
		}
	}
}

// forwarderClients is how many clients ask each resolver, each for one name after the other.
const forwarderClients = 4

// forwarderClient asks one resolver.
type forwarderClient struct {
	name, addr string
	mu         sync.Mutex
	answers    []forwardedAnswer
}

type forwardedAnswer struct {
	at   time.Time
	took time.Duration
	good bool
}

// load asks for new names until over, one after the other.
func (c *forwarderClient) load(t *testing.T, client int, over *atomic.Bool) {
	exchange := &dns.Client{Timeout: dnsPatience}
	for i := 0; !over.Load(); i++ {
		at := time.Now()
		m, _, err := exchange.Exchange(question(fmt.Sprintf("n%d-%d.%s.plain.example", client, i, strings.Fields(c.name)[0])), c.addr)
		c.mu.Lock()
		c.answers = append(c.answers, forwardedAnswer{at, time.Since(at), err == nil && address(m) == origin})
		c.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

// between counts the queries that were sent in a period, those without an address within dnsPatience, and those that took more than a second, and returns the
// longest time of an answer.
func (c *forwarderClient) between(from, to time.Time) (asked, lost, slow int, longest time.Duration) {
	for _, a := range c.answers {
		if a.at.Before(from) || a.at.After(to) {
			continue
		}
		asked++
		if !a.good {
			lost++
		}
		if a.took > time.Second {
			slow++
		}
		longest = max(longest, a.took)
	}
	return asked, lost, slow, longest
}

// checkAnswers checks the answers of a resolver while both servers run.
func (c *forwarderClient) checkAnswers(t *testing.T, own *ownZone) {
	t.Helper()
	for _, tt := range []struct{ name, want string }{
		{"www.plain.example", origin}, {"phishing.test", page}, {"www.corp.example", "192.0.2.99"},
	} {
		q := question(tt.name)
		q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(198, 51, 100, 0)})
		if m := dnstest.Exchange(t, "udp", c.addr, q); address(m) != tt.want {
			t.Errorf("%s, %s: %v", c.name, tt.name, m)
		}
	}
	if own.queries.Load() == 0 || own.subnets.Load() > 0 {
		t.Errorf("%s: the server of a zone got %d queries, %d of them with a client subnet", c.name, own.queries.Load(), own.subnets.Load())
	}
	if m := dnstest.Exchange(t, "udp", c.addr, question("www.plain.example")); len(m.Answer) != 1 || m.Answer[0].Header().Ttl > 60 {
		t.Errorf("%s keeps an answer for longer than 60 s: %v", c.name, m)
	}
}

// ownZone is the server of the zone corp.example.
type ownZone struct{ queries, subnets atomic.Int64 }

// serveOwnZone runs a server for corp.example at its address.
func serveOwnZone(t *testing.T) *ownZone {
	t.Helper()
	own := &ownZone{}
	packet, err := net.ListenPacket("udp", ownServer+":53")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: packet, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		own.queries.Add(1)
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		if opt := q.IsEdns0(); opt != nil {
			m.SetEdns0(1232, opt.Do())
			for _, o := range opt.Option {
				if o.Option() == dns.EDNS0SUBNET {
					own.subnets.Add(1)
				}
			}
		}
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: net.IPv4(192, 0, 2, 99)}}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { packet.Close() })
	return own
}

// checkCertificateName checks that Unbound and Knot Resolver refuse servers whose certificate is for another name. PowerDNS Recursor 4.8 checks no certificate.
func checkCertificateName(t *testing.T) {
	t.Helper()
	for i, f := range forwarders {
		if !f.overTLS || f.program == "pdns_recursor" {
			continue
		}
		addr := fmt.Sprintf("127.0.%d.9", 1+i)
		f.start(t, strings.ReplaceAll(forwarderText(t, f.file, "TLS"), forwardersName, "other.isp.example"), addr, nil)
		if m := dnstest.Exchange(t, "udp", addr+":53", question("name.plain.example")); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s accepts a certificate for another name: %v", f.name, m)
		}
	}
}
