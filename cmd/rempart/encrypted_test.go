package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"rempart/internal/dnstest"
)

// encryptedServer is a running program with all transports, and a client for each.
type encryptedServer struct {
	*dnstest.Program
	encryptedSettings
	clients map[string]func(t *testing.T, query []byte) []byte
}

// encryptedSettings are the variables of a program with all encrypted transports, and how its clients use them.
type encryptedSettings struct {
	env              []string
	tls, https, quic string // addresses
	ca               *authority
	settings         func(protocols ...string) *tls.Config // of a client
}

func newEncrypted(t *testing.T) encryptedSettings {
	t.Helper()
	ca := newAuthority(t)
	template := publicTemplate()
	template.IPAddresses = append(template.IPAddresses, net.IPv4(127, 0, 0, 1))
	ca.issue("dns", template)
	e := encryptedSettings{tls: dnstest.FreeAddr(t), https: dnstest.FreeAddr(t), quic: dnstest.FreeAddr(t), ca: ca}
	e.env = []string{"REMPART_CERT=" + ca.path("dns.pem"), "REMPART_KEY=" + ca.path("dns.key"),
		"REMPART_TLS_LISTEN=" + e.tls, "REMPART_HTTPS_LISTEN=" + e.https, "REMPART_QUIC_LISTEN=" + e.quic}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(ca.path("ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("no authority: %v", err)
	}
	e.settings = func(protocols ...string) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "dns.example", NextProtos: protocols}
	}
	return e
}

// startEncrypted starts the program with all transports.
func startEncrypted(t *testing.T, env ...string) *encryptedServer {
	t.Helper()
	e := newEncrypted(t)
	p := start(t, append(env, e.env...)...)
	overTLS, overHTTPS, overQUIC, settings := e.tls, e.https, e.quic, e.settings
	over2 := &http.Transport{TLSClientConfig: settings(), ForceAttemptHTTP2: true}
	over3 := &http3.Transport{TLSClientConfig: settings()}
	t.Cleanup(func() { over2.CloseIdleConnections(); over3.Close() })
	url := "https://" + overHTTPS + "/dns-query"
	plain := func(network string) func(*testing.T, []byte) []byte {
		return func(t *testing.T, query []byte) []byte {
			answer, err := dnstest.ExchangePacked(network, p.DNS, query)
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
	}
	return &encryptedServer{p, e, map[string]func(*testing.T, []byte) []byte{
		"udp": plain("udp"), "tcp": plain("tcp"),
		"tls":    func(t *testing.T, query []byte) []byte { return askTLS(t, overTLS, settings("dot"), query) },
		"https":  func(t *testing.T, query []byte) []byte { return askHTTPS(t, over2, http.MethodPost, url, query) },
		"get":    func(t *testing.T, query []byte) []byte { return askHTTPS(t, over2, http.MethodGet, url, query) },
		"http/3": func(t *testing.T, query []byte) []byte { return askHTTPS(t, over3, http.MethodPost, url, query) },
		"quic":   func(t *testing.T, query []byte) []byte { return askQUIC(t, overQUIC, settings("doq"), query) },
	}}
}

// askTLS asks over a new connection.
func askTLS(t *testing.T, addr string, settings *tls.Config, query []byte) []byte {
	t.Helper()
	c, err := tls.Dial("tcp", addr, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(dnstest.Framed(query)); err != nil {
		t.Fatal(err)
	}
	answer, err := dnstest.ReadFrame(c)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// askHTTPS sends a request.
func askHTTPS(t *testing.T, over http.RoundTripper, method, url string, query []byte) []byte {
	t.Helper()
	if method == http.MethodGet {
		url += "?dns=" + base64.RawURLEncoding.EncodeToString(query)
	}
	r, err := http.NewRequest(method, url, bytes.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/dns-message")
	res, err := over.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", res.Status, err)
	}
	return answer
}

// askQUIC asks over a new connection, with ID 0.
func askQUIC(t *testing.T, addr string, settings *tls.Config, query []byte) []byte {
	t.Helper()
	packets, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	return askQUICFrom(t, packets, addr, settings, query)
}

// askQUICFrom is askQUIC from a socket.
func askQUICFrom(t *testing.T, packets net.PacketConn, addr string, settings *tls.Config, query []byte) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	over := &quic.Transport{Conn: packets}
	defer over.Close()
	c, err := over.Dial(ctx, to, settings, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseWithError(0, "")
	st, err := c.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	query = slices.Concat([]byte{byte(len(query) >> 8), byte(len(query)), 0, 0}, query[2:])
	if _, err := st.Write(query); err != nil {
		t.Fatal(err)
	}
	st.Close()
	answer, err := io.ReadAll(st)
	if err != nil || len(answer) < 4 {
		t.Fatalf("an answer of %d bytes, %v", len(answer), err)
	}
	return answer[2:]
}

// TestSameAnswerOverEveryTransport asks for names with each verdict, in each style of a blocked answer and with each kind of EDNS, and compares the answers of all
// transports with the one over TCP.
func TestSameAnswerOverEveryTransport(t *testing.T) {
	t.Parallel()
	edns := map[string]func(*dns.OPT){
		"no EDNS": nil, "EDNS": func(*dns.OPT) {}, "DO": func(o *dns.OPT) { o.SetDo() },
		"structured errors":        func(o *dns.OPT) { o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: 65001}) },
		"structured errors by EDE": func(o *dns.OPT) { o.Option = append(o.Option, &dns.EDNS0_EDE{}) },
		"padding":                  func(o *dns.OPT) { o.Option = append(o.Option, &dns.EDNS0_PADDING{Padding: make([]byte, 10)}) },
	}
	styles := []string{"page", "nxdomain", "nodata", "refused", "null"}
	if testing.Short() { // the race detector needs one
		styles = styles[:1]
	}
	for _, style := range styles {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir+"/list.txt", "blocked.example", "allowed.example")
			write(t, dir+"/allow.txt", "allowed.example")
			u := dnstest.NewUpstream(t, dnstest.Answer("passed.example. 300 IN A 192.0.2.1"))
			s := startEncrypted(t, upstreams(u), "REMPART_LISTS="+dir+"/list.txt", "REMPART_ALLOW="+dir+"/allow.txt", "REMPART_BLOCK_ANSWER="+style, "REMPART_CONTACT=mailto:help@isp.example")
			for _, name := range []string{"blocked.example.", "www.blocked.example.", "passed.example.", "allowed.example.", "host.local.", "_dns.resolver.arpa."} {
				for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS} {
					for kind, change := range edns {
						m := new(dns.Msg).SetQuestion(name, typ)
						m.Id = 0
						if change != nil {
							o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}}
							change(o)
							m.Extra = []dns.RR{o}
						}
						packed, err := m.Pack()
						if err != nil {
							t.Fatal(err)
						}
						want := comparable(t, s.clients["tcp"](t, packed))
						for transport, ask := range s.clients {
							if diff := cmp.Diff(want, comparable(t, ask(t, packed))); diff != "" {
								t.Errorf("%s %s with %s over %s:\n%s", name, dns.TypeToString[typ], kind, transport, diff)
							}
						}
					}
				}
			}
			_, metrics := get(t, s.Program, "/metrics")
			for _, transport := range []string{"udp", "tcp", "tls", "https", "quic"} {
				if !regexp.MustCompile(fmt.Sprintf(`rempart_queries_total\{[^}]*transport=%q[^}]*verdict="block[^}]*\} [1-9]`, transport)).MatchString(metrics) {
					t.Errorf("the metrics do not show queries over %s", transport)
				}
			}
		})
	}
}

// comparable returns a message as text without TTLs and padding: TTLs change with time, and only encrypted answers are padded.
func comparable(t *testing.T, packed []byte) string {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(packed); err != nil {
		t.Fatal(err)
	}
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		rr.Header().Ttl = 0
	}
	if o := m.IsEdns0(); o != nil {
		o.Option = slices.DeleteFunc(o.Option, func(e dns.EDNS0) bool { return e.Option() == dns.EDNS0PADDING })
	}
	return m.String()
}

// TestCertificateByName checks that a client gets the certificate of the name that it asks for, else the first one, and that a changed file is in use without a restart.
func TestCertificateByName(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for _, name := range []string{"first", "second", "third"} {
		ca.issue(name, &x509.Certificate{DNSNames: []string{name + ".example"}})
	}
	at := dnstest.FreeAddr(t)
	start(t, upstreams(dnstest.NewUpstream(t, nil)), "REMPART_TLS_LISTEN="+at, "REMPART_CERT="+ca.path("first.pem")+","+ca.path("second.pem"),
		"REMPART_KEY="+ca.path("first.key")+","+ca.path("second.key"))
	shown := func(name string) string {
		c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].DNSNames[0]
	}
	for asked, want := range map[string]string{"": "first.example", "first.example": "first.example", "second.example": "second.example", "other.example": "first.example"} {
		if got := shown(asked); got != want {
			t.Errorf("a client that asks for %q gets the certificate of %s, want %s", asked, got, want)
		}
	}
	move(t, ca.path("third"), ca.path("second"))
	dnstest.Eventually(t, "the changed certificate is in use", func() bool { return shown("third.example") == "third.example" })
}

// TestUnusableCertificates checks that a server with a certificate that cannot be used does not start, and says why.
func TestUnusableCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.issue("dns", publicTemplate())
	ca.issue("other", publicTemplate())
	write(t, ca.path("junk.pem"), "no certificate")
	for _, tt := range []struct{ name, cert, key, want string }{
		{"missing", "missing.pem", "dns.key", "missing.pem: no such file"},
		{"no certificate", "junk.pem", "dns.key", "failed to find any PEM data"},
		{"of another key", "dns.pem", "other.key", "private key does not match"},
		{"a folder", ".", "dns.key", "not a regular file"},
	} {
		_, stderr, code := operatorEnv(t, []string{"HOME=" + t.TempDir(), "REMPART_TLS_LISTEN=127.0.0.1:0", "REMPART_CERT=" + ca.path(tt.cert), "REMPART_KEY=" + ca.path(tt.key)}, "serve")
		if code == 0 || !strings.Contains(stderr, "REMPART_CERT") || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit code %d, want a message with %q:\n%s", tt.name, code, tt.want, stderr)
		}
	}
}
