package rpz

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

func small(t testing.TB) *blocklist.View {
	return viewOf(t, 7, listing("a", "bad.example", blocklist.Subtree, blocklist.Block))
}

// signedWith returns a function that signs a query with another key.
func signedWith(name, algorithm string, at int64) func(*dns.Msg) {
	return func(m *dns.Msg) { m.SetTsig(name, algorithm, 300, at) }
}

func TestRefusedQueries(t *testing.T) {
	other := Key{Name: "other.test", Algorithm: "hmac-sha512", Secret: testKey.Secret}
	s := serve(t, small(t), func(c *Config) {
		c.Keys = append(c.Keys, other)
		c.Zones[0].Keys = []string{testKeyName}
	})
	const wrong = "d3JvbmdzZWNyZXR3cm9uZ3NlY3JldHdyb25nc2VjcmV0"
	now := clock()
	for _, tt := range []struct {
		name      string
		secret    string
		change    func(*dns.Msg)
		rcode     int
		tsigError uint16
		reason    string
	}{
		{"no key", "", func(*dns.Msg) {}, dns.RcodeRefused, 0, "no_key"},
		{"no key, EDNS", "", func(m *dns.Msg) { m.SetEdns0(4096, true) }, dns.RcodeRefused, 0, "no_key"},
		{"an unknown key", testSecret, signedWith("unknown.test.", dns.HmacSHA256, now), dns.RcodeNotAuth, dns.RcodeBadKey, "bad_key"},
		{"another algorithm", testSecret, signedWith(testKeyName+".", dns.HmacSHA512, now), dns.RcodeNotAuth, dns.RcodeBadKey, "bad_key"},
		{"a weak algorithm", testSecret, signedWith(testKeyName+".", dns.HmacSHA1, now), dns.RcodeNotAuth, dns.RcodeBadKey, "bad_key"},
		{"another secret", wrong, signedWith(testKeyName+".", dns.HmacSHA256, now), dns.RcodeNotAuth, dns.RcodeBadSig, "bad_signature"},
		{"signed long ago", testSecret, signedWith(testKeyName+".", dns.HmacSHA256, now-4000), dns.RcodeNotAuth, dns.RcodeBadTime, "bad_time"},
		{"key without access to the zone", testSecret, signedWith("other.test.", dns.HmacSHA512, now), dns.RcodeRefused, 0, "bad_key"},
		{"another zone", testSecret, func(m *dns.Msg) { m.Question[0].Name = "other.test."; signed(m) }, dns.RcodeNotAuth, 0, "unknown_zone"},
		{"a name in the zone", testSecret, func(m *dns.Msg) { m.Question[0].Name = "bad.example.rpz.test."; signed(m) }, dns.RcodeNotAuth, 0, "unknown_zone"},
		{"another class", testSecret, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS; signed(m) }, dns.RcodeNotAuth, 0, "unknown_zone"},
		{"another type", testSecret, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA; signed(m) }, dns.RcodeRefused, 0, "question"},
		{"an update", testSecret, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate; signed(m) }, dns.RcodeNotImplemented, 0, "malformed"},
		{"a NOTIFY", testSecret, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify; signed(m) }, dns.RcodeNotImplemented, 0, "malformed"},
		{"two questions", testSecret, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]); signed(m) }, dns.RcodeFormatError, 0, "malformed"},
		{"IXFR without a serial", testSecret, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeIXFR; signed(m) }, dns.RcodeFormatError, 0, "malformed"},
		{"EDNS of another version", testSecret, func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1); signed(m) }, dns.RcodeBadVers, 0, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := new(dns.Msg).SetQuestion(testZoneName+".", dns.TypeSOA)
			tt.change(m)
			c := dns.Client{Timeout: time.Minute, Net: "tcp"}
			if tt.secret != "" {
				c.TsigSecret = map[string]string{testKeyName + ".": tt.secret, "unknown.test.": tt.secret, "other.test.": tt.secret}
			}
			before := s.refusedFor(t, tt.reason)
			got, _, err := c.Exchange(m, s.addr)
			if got == nil {
				t.Fatal(err)
			}
			if got.Rcode != tt.rcode || len(got.Answer) > 0 {
				t.Errorf("unexpected answer %v", got)
			}
			sig := got.IsTsig()
			switch {
			case tt.tsigError != 0 && (sig == nil || sig.Error != tt.tsigError):
				t.Errorf("want the TSIG error %d, got %v", tt.tsigError, sig)
			case tt.tsigError == 0 && (sig != nil) != (tt.secret != "" && tt.rcode != dns.RcodeNotImplemented && len(m.Question) == 1):
				t.Errorf("signed: %v", sig)
			case tt.tsigError == dns.RcodeBadTime && (err == nil || sig.MACSize == 0 || len(sig.OtherData) != 12):
				t.Errorf("the answer to a wrong time must be signed and hold the server's time: %v, %v", sig, err)
			case tt.tsigError == 0 && sig != nil && err != nil && tt.rcode != dns.RcodeNotAuth: // miekg/dns returns an error for every NOTAUTH
				t.Errorf("the signature of the answer is invalid: %v", err)
			}
			if s.refusedFor(t, tt.reason) != before+1 {
				t.Errorf("the refusal was not counted as %s", tt.reason)
			}
		})
	}
}

func TestSOA(t *testing.T) {
	s := serve(t, small(t), func(c *Config) {
		c.Keys = append(c.Keys, Key{"sha384.test", "HMAC-SHA384", testKey.Secret}, Key{"sha512.test.", "hmac-sha512.", testKey.Secret})
	})
	for name, algorithm := range map[string]string{testKeyName: dns.HmacSHA256, "sha384.test": dns.HmacSHA384, "sha512.test": dns.HmacSHA512} {
		for _, network := range []string{"udp", "tcp"} {
			m := new(dns.Msg).SetQuestion("RPZ.test.", dns.TypeSOA)
			m.SetEdns0(1232, false)
			m.SetTsig(name+".", algorithm, 300, clock())
			c := dns.Client{Timeout: time.Minute, Net: network, TsigSecret: map[string]string{name + ".": testSecret}}
			got, _, err := c.Exchange(m, s.addr)
			if err != nil {
				t.Fatal(err)
			}
			if soa, ok := got.Answer[0].(*dns.SOA); !ok || soa.Serial != 7 || !got.Authoritative || got.IsEdns0() == nil || got.Question[0].Name != "RPZ.test." {
				t.Errorf("%s over %s: %v", name, network, got)
			}
		}
	}
	// The answer to IXFR over UDP holds only the SOA record, so that the client asks again over TCP.
	c := dns.Client{Timeout: time.Minute, TsigSecret: testSecrets}
	if got, _, err := c.Exchange(ixfr(3), s.addr); err != nil || len(got.Answer) != 1 {
		t.Errorf("IXFR over UDP: %v, %v; want one record", got, err)
	}
	c = dns.Client{Timeout: time.Minute, TsigSecret: testSecrets}
	if got, _, err := c.Exchange(axfr(), s.addr); err != nil || got.Rcode != dns.RcodeRefused {
		t.Errorf("AXFR over UDP: %v, %v; want REFUSED", got, err)
	}
}

// TestIXFRFromUnusualSerials checks the answers to IXFR from unusual serials. miekg/dns compares serials as plain numbers, not as RFC 1982 requires.
func TestIXFRFromUnusualSerials(t *testing.T) {
	s := serve(t, small(t), nil)
	for held, want := range map[uint32]string{
		7: "current", 8: "current", 7 + 1<<31 - 1: "current", 7 + 1<<31: "current",
		6: "axfr_for_ixfr", 0: "axfr_for_ixfr", 1<<32 - 1: "axfr_for_ixfr", 7 + 1<<31 + 1: "axfr_for_ixfr",
	} {
		before := s.transferred(t, want)
		c := dns.Client{Timeout: time.Minute, Net: "tcp", TsigSecret: testSecrets}
		if _, _, err := c.Exchange(ixfr(held), s.addr); err != nil {
			t.Error(err)
		}
		dnstest.Eventually(t, fmt.Sprintf("IXFR from %d is answered as %s", held, want), func() bool { return s.transferred(t, want) == before+1 })
	}
}

func TestKeylessClientsNeedNoTSIG(t *testing.T) {
	s := serve(t, small(t), func(c *Config) { c.Keyless = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}; c.Keys = nil })
	all, _ := received(t, &dns.Transfer{DialTimeout: time.Minute, ReadTimeout: time.Minute}, new(dns.Msg).SetAxfr(testZoneName+"."), s.addr)
	if len(all) != 5 {
		t.Errorf("unexpected records: %v", all)
	}
}

// TestMalformedQueriesGetAtMostOneAnswer checks that a server that receives altered or incomplete queries sends at most one answer to each and continues to
// work.
func TestMalformedQueriesGetAtMostOneAnswer(t *testing.T) {
	s := serve(t, small(t), nil)
	good, _, err := dns.TsigGenerate(axfr(), testSecret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		msg := append([]byte(nil), good...)
		if rapid.Bool().Draw(t, "random") {
			msg = rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "octets")
		}
		for range rapid.IntRange(1, 5).Draw(t, "edits") {
			if len(msg) > 0 {
				msg[rapid.IntRange(0, len(msg)-1).Draw(t, "at")] ^= rapid.ByteMin(1).Draw(t, "flip")
			}
		}
		msg = msg[:rapid.IntRange(0, len(msg)).Draw(t, "cut")]
		sent := 0
		authentic, err := s.answer(t.Context(), msg, netip.MustParseAddr("192.0.2.9"), true, func() {}, func(out []byte) error {
			if sent++; len(out) < headerLen || out[2]&0x80 == 0 || [2]byte(out) != [2]byte(msg) {
				t.Fatalf("answer %x", out)
			}
			return nil
		})
		// The signature does not cover the case of the key's name, nor the ID in the header: a query with such a change is still authentic.
		if sent > 1 || authentic && (err != nil || len(msg) != len(good)) || !authentic && err == nil && sent == 0 {
			t.Fatalf("%d answers, authentic %v, %v", sent, authentic, err)
		}
	})
	if got := s.ask(t, "tcp", func(m *dns.Msg) { signed(m) }); got.Rcode != dns.RcodeSuccess {
		t.Errorf("a query after all others failed: %v", got)
	}
}

// TestTransferToSlowReaderIsEnded checks that the server ends a transfer to a client that does not read the zone.
func TestTransferToSlowReaderIsEnded(t *testing.T) {
	s := serve(t, manyNames(t, 200_000), nil)
	s.limits.write = 50 * time.Millisecond
	packed, _, err := dns.TsigGenerate(axfr(), testSecret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(dnstest.Framed(packed)); err != nil {
		t.Fatal(err)
	}
	dnstest.Eventually(t, "the server ends the transfer", func() bool {
		return s.metric(t, "rempart_rpz_transfers_total", map[string]string{"kind": "axfr", "result": "failed"}) == 1
	})
	dnstest.Eventually(t, "the place of the transfer is free", func() bool { return len(s.slots) == 0 })
}

// TestUnknownClientsLosePlaces checks that unknown clients that fill a server lose their places after a time.
func TestUnknownClientsLosePlaces(t *testing.T) {
	s := serve(t, small(t), nil)
	s.limit(3, time.Hour) // no client loses its place before all places are taken
	fill := func() {
		t.Helper()
		for range 3 {
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
		}
	}
	fill()
	dnstest.Eventually(t, "three are served", func() bool { return s.places.taken() == 3 })
	one, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	if _, err := io.ReadAll(one); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	if s.refusedFor(t, "connections") == 0 {
		t.Error("the fourth connection was not refused")
	}
	s = serve(t, small(t), nil)
	s.limit(3, 2*time.Second)
	fill()
	dnstest.Eventually(t, "three hold places", func() bool { return s.places.taken() == 3 })
	dnstest.Eventually(t, "they lose their places", func() bool { return s.places.taken() == 0 })
	if got := s.ask(t, "tcp", func(m *dns.Msg) { signed(m) }); got.Rcode != dns.RcodeSuccess {
		t.Errorf("afterwards: %v", got)
	}
}

// limit lowers the limits of a server. It is called before the first client connects.
func (s *serving) limit(perClient int, unknown time.Duration) {
	s.limits.unknown = unknown
	s.places.bound(perClient) // the lock in bound also makes the new value of unknown visible to later connections
}

// TestUnknownClientsLeaveRoomForSecondaries checks that secondaries are served while unknown clients from many addresses hold all places that they can get:
// both a secondary that was authenticated before and new ones.
func TestUnknownClientsLeaveRoomForSecondaries(t *testing.T) {
	s := serve(t, small(t), nil)
	s.limit(maxConnsPerClient, time.Hour)
	open := func(ip net.IP) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}
		conn, err := d.Dial("tcp4", s.addr)
		if err != nil {
			t.Skipf("this system has only one loopback address: %v", err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	ask := func(ip net.IP) error {
		conn := &dns.Conn{Conn: open(ip), TsigSecret: map[string]string{testKeyName + ".": testSecret}}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		m := new(dns.Msg).SetQuestion(testZoneName+".", dns.TypeSOA)
		signed(m)
		if err := conn.WriteMsg(m); err != nil {
			return err
		}
		answer, err := conn.ReadMsg()
		if err == nil && (answer.Rcode != dns.RcodeSuccess || len(answer.Answer) == 0) {
			err = fmt.Errorf("%v", answer)
		}
		return err
	}
	for i := range byte(40) {
		for range maxUnknownPerClient {
			open(net.IPv4(127, 0, 3, 1+i))
		}
	}
	dnstest.Eventually(t, "all places of unknown clients are taken", func() bool { return s.places.taken() == maxUnknown })
	for i := range 20 {
		if err := ask(net.IPv4(127, 0, 4, 1)); err != nil {
			t.Fatalf("query %d of one secondary: %v", i, err)
		}
		if err := ask(net.IPv4(127, 0, 5, byte(1+i))); err != nil {
			t.Fatalf("the query of another secondary: %v", err)
		}
		open(net.IPv4(127, 0, 3, byte(1+i)))
	}
}

func TestNewRefuses(t *testing.T) {
	good := func() Config {
		return Config{
			Zones: []ZoneConfig{{Name: testZoneName, Page: testPage}}, Keys: []Key{testKey},
			View: func() *blocklist.View { return nil }, Log: slog.New(slog.DiscardHandler),
		}
	}
	for want, change := range map[string]func(*Config){
		"too weak":                func(c *Config) { c.Keys[0].Algorithm = "hmac-sha1" },
		"too weak; make":          func(c *Config) { c.Keys[0].Algorithm = "hmac-md5.sig-alg.reg.int" },
		"is not known":            func(c *Config) { c.Keys[0].Algorithm = "rot13" },
		"has 8 bytes":             func(c *Config) { c.Keys[0].Secret = []byte("8 octets") },
		"not a domain name":       func(c *Config) { c.Keys[0].Name = "a..b" },
		"two TSIG keys":           func(c *Config) { c.Keys = append(c.Keys, testKey) },
		"0 zones":                 func(c *Config) { c.Zones = nil },
		"configured twice":        func(c *Config) { c.Zones = append(c.Zones, c.Zones[0]) },
		"not the name of a zone":  func(c *Config) { c.Zones[0].Name = "" },
		"leaves no room":          func(c *Config) { c.Zones[0].Name = strings.Repeat("aaaaaaaaa.", 15) },
		"whose name \"\" is none": func(c *Config) { c.Zones[0].Page = "" },
		"there is no TSIG key":    func(c *Config) { c.Zones[0].Keys = []string{"other"} },
		"no address with a port":  func(c *Config) { c.Secondaries = []Secondary{{}} },
		"no TSIG key \"other\"":   func(c *Config) { c.Secondaries = []Secondary{{netip.MustParseAddrPort("192.0.2.1:53"), "other"}} },
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), string(testKey.Secret)) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := New(good()); err != nil {
		t.Error(err)
	}
}

func TestSignaturesOfMessagesAreChained(t *testing.T) {
	k, err := newKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	// miekg/dns verifies the first message with the signature of the query, and each other message with the signature of the message before it.
	prior := []byte("the signature of the query")
	s := &signer{key: k, prior: prior}
	for i := range 3 {
		q := new(dns.Msg).SetQuestion(testZoneName+".", dns.TypeAXFR)
		packed, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out := s.sign(packed)
		if err := dns.TsigVerify(append([]byte(nil), out...), testSecret, hex.EncodeToString(prior), i > 0); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
		prior = s.prior
	}
}
