package dnstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// unbound starts Unbound on loopback with config added to the settings that all tests share, and waits until Unbound answers. It returns the address for UDP and
// TCP.
func (p *peers) unbound(t *testing.T, config string) string {
	t.Helper()
	addr := FreeAddr(t)
	file := filepath.Join(p.dir, "unbound.conf")
	text := fmt.Sprintf(`server:
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  use-syslog: no
  num-threads: 1
  do-ip6: no
  do-not-query-localhost: no
  interface: %s
  local-zone: "ready.invalid." static
  local-data: "ready.invalid. A 192.0.2.2"
remote-control:
  control-enable: no
server:
%s`, p.dir, strings.Replace(addr, ":", "@", 1), config)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	program := StartPeer(t, exec.Command("unbound", "-d", "-c", file))
	ready, err := new(dns.Msg).SetQuestion("ready.invalid.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	program.Answers(t, func() bool {
		_, err := ExchangePacked("udp", addr, ready)
		return err == nil
	})
	return addr
}

// freePort returns a free TCP port of loopback.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// testUnboundUpstream forwards to Unbound over every transport that Unbound supports, by its address and by its name.
func testUnboundUpstream(t *testing.T, p *peers) {
	cert, key := filepath.Join(p.dir, "cert.pem"), filepath.Join(p.dir, "key.pem")
	WriteCertificate(t, SelfSigned(t, TLSName), cert, key)
	tlsPort, httpsPort := freePort(t), freePort(t)
	addr := p.unbound(t, fmt.Sprintf(`  module-config: "iterator"
  interface: 127.0.0.1@%s
  tls-port: %s
  interface: 127.0.0.1@%s
  https-port: %s
  tls-service-key: %q
  tls-service-pem: %q
  local-zone: "." static
  local-data: ". 3600 IN NS ns.good.example."
  local-data: "good.example. 60 IN A %s"
  local-data: "good.example. 60 IN AAAA 2001:db8::1"
  local-data: "alias.example. 60 IN CNAME www.bad.example."
  local-data: "%s. 60 IN A 127.0.0.1"
`, tlsPort, tlsPort, httpsPort, httpsPort, key, cert, originAddr, TLSName))
	for _, upstream := range []string{
		"udp://" + addr, "tcp://" + addr, "tls://127.0.0.1:" + tlsPort + "#" + TLSName, "tls://127.0.0.1:" + tlsPort, "tls://" + TLSName + ":" + tlsPort + "@127.0.0.1", "tls://" + TLSName + ":" + tlsPort,
		"https://127.0.0.1:" + httpsPort + "/dns-query", "https://" + TLSName + ":" + httpsPort + "/dns-query{?dns}",
	} {
		r := p.rempart(t, "REMPART_UPSTREAMS="+upstream, "REMPART_BOOTSTRAP="+addr, "SSL_CERT_FILE="+cert)
		for _, tt := range []struct {
			name  string
			typ   uint16
			rcode int
			want  string
		}{
			{"good.example.", dns.TypeA, dns.RcodeSuccess, originAddr},
			{"good.example.", dns.TypeAAAA, dns.RcodeSuccess, "2001:db8::1"},
			{"good.example.", dns.TypeTXT, dns.RcodeSuccess, ""},
			{"missing.example.", dns.TypeA, dns.RcodeNameError, ""},
			{"www.bad.example.", dns.TypeA, dns.RcodeSuccess, pageAddr},
			{"alias.example.", dns.TypeA, dns.RcodeSuccess, pageAddr},
		} {
			for _, network := range []string{"udp", "tcp"} { // from Unbound, and from the cache
				m := Exchange(t, network, r.DNS, new(dns.Msg).SetQuestion(tt.name, tt.typ))
				got := ""
				if len(m.Answer) == 1 {
					fields := strings.Fields(m.Answer[0].String())
					got = fields[len(fields)-1]
				}
				if m.Rcode != tt.rcode || got != tt.want {
					t.Errorf("%s by %s over %s:\n%v", tt.name, upstream, network, m)
				}
			}
		}
	}

	// A certificate for another name is refused, and Rempart does not fall back to an unencrypted transport.
	r := p.rempart(t, "REMPART_UPSTREAMS=tls://127.0.0.1:"+tlsPort+"#other.test", "SSL_CERT_FILE="+cert)
	if m := Exchange(t, "udp", r.DNS, new(dns.Msg).SetQuestion("good.example.", dns.TypeA)); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("with a certificate of another name:\n%v", m)
	}
}

// testUnboundDownstream lets Unbound forward to Rempart and validate the answers: Unbound answers SERVFAIL for a blocked name of a signed zone, as the README
// says.
func testUnboundDownstream(t *testing.T, p *peers) {
	z := newSignedZone(t)
	u := newSigningUpstream(t, z)
	r := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String())
	addr := p.unbound(t, fmt.Sprintf(`  module-config: "validator iterator"
  trust-anchor: "%s"
forward-zone:
  name: "."
  forward-addr: %s
`, strings.Join(strings.Fields(z.Key.String()), " "), strings.Replace(r.DNS, ":", "@", 1)))
	for _, tt := range []struct {
		name  string
		rcode int
		want  string // the address
		ad    bool
	}{
		{"good.example.", dns.RcodeSuccess, originAddr, false},
		{"bad.example.", dns.RcodeSuccess, pageAddr, false},
		{"www.bad.example.", dns.RcodeSuccess, pageAddr, false},
		{"www.signed.example.", dns.RcodeSuccess, originAddr, true},
		{"bad.signed.example.", dns.RcodeServerFailure, "", false},
	} {
		m := new(dns.Msg).SetQuestion(tt.name, dns.TypeA)
		m.SetEdns0(1232, true)
		m = Exchange(t, "udp", addr, m)
		got := ""
		if len(m.Answer) > 0 {
			if a, ok := m.Answer[0].(*dns.A); ok {
				got = a.A.String()
			}
		}
		if m.Rcode != tt.rcode || got != tt.want || m.AuthenticatedData != tt.ad {
			t.Errorf("%s:\n%v", tt.name, m)
		}
	}
}
