package rpz

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

const (
	testZoneName = "rpz.test"
	testPage     = "page.filter.test"
	testKeyName  = "transfer.test"
	testSecret   = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=" // base64
)

var testKey = Key{Name: testKeyName, Algorithm: "hmac-sha256", Secret: []byte("01234567890123456789012345678901")}

// serving is a server on loopback.
type serving struct {
	*Server
	addr   string // UDP and TCP
	secure string
	view   atomic.Pointer[blocklist.View]
	said   *bytes.Buffer // the log of the server; a test reads it after the server has ended
}

// serve starts a server that serves view. The server ends with the test.
func serve(t testing.TB, v *blocklist.View, change func(*Config)) *serving {
	t.Helper()
	s := &serving{said: &bytes.Buffer{}}
	s.view.Store(v)
	cfg := Config{
		Zones: []ZoneConfig{{Name: testZoneName, Categories: blocklist.AllCategories, Page: testPage}},
		Keys:  []Key{testKey},
		View:  s.view.Load,
		Log:   slog.New(slog.NewTextHandler(s.said, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if s.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	stream, packet := dnstest.ListenBoth(t)
	s.addr = stream.Addr().String()
	l := Listeners{Packet: []net.PacketConn{packet}, Stream: []net.Listener{stream}}
	if cfg.TLS != nil {
		secure, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.secure = secure.Addr().String()
		l.TLS = append(l.TLS, secure)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.said)
		}
	})
	dnstest.Eventually(t, "the zones are there", func() bool { return s.state.Load() != nil })
	return s
}

// clock returns the current time in Unix seconds.
func clock() int64 { return time.Now().Unix() }

// change applies changes to the view, as its next version.
func (s *serving) change(t testing.TB, changes ...blocklist.Change) {
	t.Helper()
	before := s.view.Load()
	after, err := before.With(blocklist.Info{Version: before.Version() + 1, Created: time.Now()}, changes)
	if err != nil {
		t.Fatal(err)
	}
	names := [][]byte{}
	for _, c := range changes {
		names = append(names, c.Listing.Name)
	}
	s.view.Store(after)
	s.Changed(before, after, names)
}

// changed calls change and waits until the new version is served.
func (s *serving) changed(t testing.TB, changes ...blocklist.Change) {
	t.Helper()
	s.change(t, changes...)
	dnstest.Eventually(t, "the new version is served", func() bool { return s.state.Load().view == s.view.Load() })
}

// metric returns a metric's value.
func (s *serving) metric(t testing.TB, name string, labels map[string]string) float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s.Collector())
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want != l.GetValue() {
					continue metrics
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func (s *serving) transferred(t testing.TB, kind string) float64 {
	return s.metric(t, "rempart_rpz_transfers_total", map[string]string{"kind": kind, "result": "ok"})
}

func (s *serving) refusedFor(t testing.TB, reason string) float64 {
	return s.metric(t, "rempart_rpz_refused_total", map[string]string{"reason": reason})
}

// signed signs a query with the test's key.
func signed(m *dns.Msg) *dns.Msg {
	return m.SetTsig(testKeyName+".", dns.HmacSHA256, 300, clock())
}

var testSecrets = map[string]string{testKeyName + ".": testSecret}

// transfer returns the records that miekg/dns receives. It requires every message to be signed.
func (s *serving) transfer(t testing.TB, q *dns.Msg) (all []dns.RR, messages int) {
	t.Helper()
	tr := &dns.Transfer{TsigSecret: testSecrets, DialTimeout: time.Minute, ReadTimeout: time.Minute}
	return received(t, tr, q, s.addr)
}

func received(t testing.TB, tr *dns.Transfer, q *dns.Msg, addr string) (all []dns.RR, messages int) {
	t.Helper()
	parts, err := tr.In(q, addr)
	if err != nil {
		t.Fatal(err)
	}
	for p := range parts {
		if p.Error != nil {
			t.Fatalf("transfer: %v", p.Error)
		}
		all = append(all, p.RR...)
		messages++
	}
	return all, messages
}

func axfr() *dns.Msg { return signed(new(dns.Msg).SetAxfr(testZoneName + ".")) }

func ixfr(serial uint32) *dns.Msg {
	return signed(new(dns.Msg).SetIxfr(testZoneName+".", serial, ".", "."))
}

// ask sends a query for the SOA record, which change can alter, and returns the answer.
func (s *serving) ask(t testing.TB, network string, change func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(testZoneName+".", dns.TypeSOA)
	if change != nil {
		change(m)
	}
	c := dns.Client{Timeout: time.Minute, Net: network, TsigSecret: testSecrets}
	got, _, err := c.Exchange(m, s.addr)
	if got == nil {
		t.Fatal(err)
	}
	return got
}

// testCertificate returns a server's certificate.
func testCertificate(t testing.TB) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{dnstest.SelfSigned(t, "rpz.test")}}
}

func TestSerialIsTheVersion(t *testing.T) {
	s := serve(t, viewOf(t, 1<<32+7, listing("a", "bad.example", blocklist.Subtree, blocklist.Block)), nil)
	if got := s.metric(t, "rempart_rpz_serial", nil); got != 7 {
		t.Errorf("unexpected serial %v", got)
	}
}
