package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// The addresses of deploy/forwarders/dnsdist.conf and of two of its clients.
const (
	dnsdistAddr             = "192.0.2.53"
	subscriber, notServed   = "198.51.100.7", "203.0.113.7" // dnsdist serves the first one
	excluded                = "198.51.100.8"                // dnsdist serves it, Rempart does not
	dnsdistCert, dnsdistKey = "/etc/dnsdist/fullchain.pem", "/etc/dnsdist/privkey.pem"
)

// TestDnsdistInFront runs dnsdist with deploy/forwarders/dnsdist.conf in front of two servers: they see the clients' addresses over UDP, TCP, TLS and HTTPS, and
// answers have their extended errors. Then one of the two servers is killed, returns, and its line is cut, under load.
func TestDnsdistInFront(t *testing.T) {
	if testing.Short() {
		t.Skip("it measures the time without answers")
	}
	dnstest.Need(t, "dnsdist")
	dnstest.Need(t, "iptables")
	if !dnstest.Isolated(t) {
		return
	}
	inNetwork(t, firstServer, secondServer, dnsdistAddr, subscriber, excluded, notServed)
	for to, from := range map[string]string{firstServer: dnsdistAddr, secondServer: dnsdistAddr, dnsdistAddr: subscriber} {
		dnstest.Command(t, "ip", "route", "replace", "local", to, "dev", "lo", "table", "local", "src", from) // else it is the address itself
	}
	upstream := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A "+origin))
	server := func(addr string) *dnstest.Program {
		return start(t, upstreams(upstream), "REMPART_LISTEN="+addr+":53", "REMPART_PROXIES="+dnsdistAddr,
			"REMPART_CLIENTS="+subscriber+","+dnsdistAddr, "REMPART_LIMITS=none")
	}
	servers := []*dnstest.Program{server(firstServer), server(secondServer)}
	ca := newAuthority(t)
	ca.issue("dns", &x509.Certificate{DNSNames: []string{forwardersName}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	config := filepath.Join(t.TempDir(), "dnsdist.conf")
	text := forwarderText(t, "dnsdist.conf")
	write(t, config, strings.NewReplacer(dnsdistCert, ca.path("dns.pem"), dnsdistKey, ca.path("dns.key")).Replace(text))
	peer := dnstest.StartPeer(t, exec.Command("dnsdist", "-C", config, "--supervised", "--disable-syslog"))
	peer.Answers(t, func() bool {
		m, err := dnsdistExchange(subscriber, "udp", nil, question("phishing.test"))
		return err == nil && address(m) == page
	})

	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate.Leaf)
	secure := &tls.Config{RootCAs: roots, ServerName: forwardersName}
	for _, network := range []string{"udp", "tcp", "tcp-tls"} {
		for _, tt := range []struct{ from, want string }{{subscriber, page}, {excluded, "REFUSED"}} {
			m, err := dnsdistExchange(tt.from, network, secure, question("phishing.test"))
			if err != nil || address(m) != tt.want {
				t.Errorf("from %s over %s: %v, %v; want %s", tt.from, network, m, err, tt.want)
			} else if tt.want == page && fmt.Sprint(errorsOf(m)) != "[15 4]" {
				t.Errorf("over %s: extended errors %v", network, errorsOf(m))
			}
		}
		if m, err := dnsdistExchange(notServed, network, secure, question("phishing.test")); err == nil && m.Rcode != dns.RcodeRefused {
			t.Errorf("a client that is not served got %v over %s", m, network)
		}
	}
	for from, want := range map[string]string{subscriber: page, excluded: "REFUSED"} {
		over := &http.Transport{TLSClientConfig: secure, ForceAttemptHTTP2: true, DialContext: dialFrom(from).DialContext}
		query, err := question("phishing.test").Pack()
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(askHTTPS(t, over, http.MethodPost, "https://"+dnsdistAddr+":443/dns-query", query)); err != nil || address(m) != want {
			t.Errorf("from %s over HTTPS: %v, %v; want %s", from, m, err, want)
		}
		over.CloseIdleConnections()
	}

	measure := func(what string, queries int, fail func()) {
		load := newDatagramLoad(t, dnsdistAddr+":53", restartLoad{queries: queries, rate: 1_000, query: loadQuery})
		var failed time.Time
		load.during(func() {
			time.Sleep(time.Second)
			failed = time.Now()
			fail()
		})
		var last time.Duration // when the last lost query was sent, after the failure
		for _, socket := range load.sockets {
			for id := range socket.asked {
				if sent := socket.asked[id].Load(); sent != 0 {
					last = max(last, time.Unix(0, sent).Sub(failed))
				}
			}
		}
		t.Logf("%s: %d queries, %d lost, the last one %.1f s after the failure, %d failed, longest answer %v", what, load.sent.Load(), load.lost.Load(), last.Seconds(),
			load.failed.Load(), time.Duration(load.longest.Load()))
		if lost := load.lost.Load() + load.failed.Load(); lost > load.sent.Load()/10 || last > 4*time.Second {
			t.Errorf("%s: %d of %d queries were lost, the last one %v after the failure", what, lost, load.sent.Load(), last)
		}
	}
	measure("a server is killed", 3_200, func() {
		servers[0].Signal(t, syscall.SIGKILL)
		servers[0].Wait(t)
	})
	server(firstServer)
	dnstest.Eventually(t, "dnsdist uses the server again", func() bool { return strings.Count(peer.Said(), "Marking downstream 192.0.2.10:53 as 'up'") == 2 })
	measure("the line of a server is cut", 5_600, func() {
		dnstest.Command(t, "iptables", "-I", "INPUT", "-d", firstServer, "-j", "DROP")
	})
}

// dialFrom returns a dialer with a source address.
func dialFrom(from string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: dnsPatience}
}

// dnsdistExchange asks dnsdist from an address.
func dnsdistExchange(from, network string, secure *tls.Config, m *dns.Msg) (*dns.Msg, error) {
	c := &dns.Client{Net: network, TLSConfig: secure, Timeout: time.Second, Dialer: dialFrom(from)}
	port := ":53"
	switch network {
	case "udp":
		c.Dialer.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	case "tcp-tls":
		port = ":853"
	}
	answer, _, err := c.Exchange(m, dnsdistAddr+port)
	return answer, err
}
