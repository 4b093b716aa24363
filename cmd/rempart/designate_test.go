package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// discovered returns the SVCB records of an answer as text, without owner and TTL.
func discovered(t *testing.T, p *dnstest.Program, network, name string) (services []*dns.SVCB) {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, dns.TypeSVCB)
	for _, rr := range dnstest.Exchange(t, network, p.DNS, m).Answer {
		services = append(services, rr.(*dns.SVCB))
	}
	return services
}

// TestClientsDiscoverEncryptedTransport plays a client of RFC 9462: it asks the address that it knows, connects to the designated resolver, and checks that the
// certificate is valid for that address. After the certificate is renewed without the address, nothing is announced any more, except by name.
func TestClientsDiscoverEncryptedTransport(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	here := publicTemplate()
	here.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	ca.issue("dns", here)
	ca.issue("elsewhere", publicTemplate())
	_, port, err := net.SplitHostPort(dnstest.FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, upstreams(dnstest.NewUpstream(t, nil)), "REMPART_TLS_LISTEN=0.0.0.0:"+port, "REMPART_CERT="+ca.path("dns.pem"), "REMPART_KEY="+ca.path("dns.key"),
		"REMPART_CONTACT=https://isp.example/filter")
	want := fmt.Sprintf(`1 dns.example. alpn="dot" port="%s" ipv4hint="127.0.0.1"`, port)
	dnstest.Eventually(t, "the transport is announced", func() bool { return len(discovered(t, p, "udp", "_dns.resolver.arpa.")) == 1 })
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{"_dns.resolver.arpa.", "_dns.dns.example."} {
			all := discovered(t, p, network, name)
			if len(all) != 1 || !strings.HasSuffix(all[0].String(), want) {
				t.Errorf("%s over %s: %v, want %s", name, network, all, want)
			}
		}
	}
	pool := x509.NewCertPool()
	root, err := os.ReadFile(ca.path("ca.pem"))
	if err != nil || !pool.AppendCertsFromPEM(root) {
		t.Fatal(err)
	}
	client := dns.Client{Net: "tcp-tls", TLSConfig: &tls.Config{RootCAs: pool, ServerName: "dns.example", VerifyConnection: func(s tls.ConnectionState) error {
		return s.PeerCertificates[0].VerifyHostname("127.0.0.1") // RFC 9462 section 4.2
	}}}
	a, _, err := client.Exchange(question("good.example"), "127.0.0.1:"+port)
	if err != nil || address(a) != origin {
		t.Errorf("over the discovered transport: %v, %v", a, err)
	}
	info := dnstest.Exchange(t, "udp", p.DNS, new(dns.Msg).SetQuestion("dns.example.", dns.TypeRESINFO))
	if len(info.Answer) != 1 || !info.Authoritative || !strings.Contains(info.Answer[0].String(), `"infourl=https://isp.example/filter"`) {
		t.Errorf("the information about the resolver is %v", info)
	}
	move(t, ca.path("elsewhere"), ca.path("dns"))
	dnstest.Eventually(t, "nothing is announced at the address", func() bool { return len(discovered(t, p, "udp", "_dns.resolver.arpa.")) == 0 })
	if all := discovered(t, p, "udp", "_dns.dns.example."); len(all) != 1 {
		t.Errorf("by name: %v, want one record", all)
	}
}
