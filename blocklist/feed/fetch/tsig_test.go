package fetch

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist/feed/format"
)

// signer signs messages of an answer.
type signer struct {
	t    *testing.T
	key  *tsigKey
	mac  string // the MAC of the query, then that of the last signed message
	gap  bytes.Buffer
	many bool
	at   time.Time
}

// Generate inserts the unsigned messages since the last signature after the MAC of that signature (RFC 8945 section 5.3.1).
func (s *signer) Generate(msg []byte, t *dns.TSIG) ([]byte, error) {
	n := 2 + len(s.mac)/2
	return s.key.Generate(append(append(bytes.Clone(msg[:n]), s.gap.Bytes()...), msg[n:]...), t)
}
func (s *signer) Verify([]byte, *dns.TSIG) error { return nil }

func (s *signer) pack(m *dns.Msg, sign bool) []byte {
	if !sign {
		packed, err := m.Pack()
		if err != nil {
			s.t.Error(err)
		}
		s.gap.Write(packed)
		return packed
	}
	m.SetTsig(s.key.name, s.key.algorithm, 300, s.at.Unix())
	packed, mac, err := dns.TsigGenerateWithProvider(m, s, s.mac, s.many)
	if err != nil {
		s.t.Error(err)
	}
	s.mac, s.many = mac, true
	s.gap.Reset()
	return packed
}

func TestTSIG(t *testing.T) {
	key, err := parseTSIG(testTSIG)
	if err != nil {
		t.Fatal(err)
	}
	other := *key
	other.secret = []byte("another")
	renamed := *key
	renamed.name = "other.example."
	sha512, err := parseTSIG("hmac-sha512:transfer.example:" + testSecret)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		key   *tsigKey
		signs func(i, n int) bool // whether message i of n is signed
		alter int                 // the number of the message that is altered after it was signed; the first is 1
		late  time.Duration
		want  string
	}{
		{name: "every message signed", signs: func(int, int) bool { return true }},
		{name: "first and last message signed", signs: func(i, n int) bool { return i == 0 || i == n-1 }},
		{name: "every 17th message signed", signs: func(i, n int) bool { return i%17 == 0 || i == n-1 }},
		{name: "no message signed", signs: func(int, int) bool { return false }, want: "is not signed"},
		{name: "first message not signed", signs: func(i, n int) bool { return i > 0 }, want: "is not signed"},
		{name: "last message not signed", signs: func(i, n int) bool { return i == 0 || i == n-2 }, want: "end of the answer is not signed"},
		{name: "another secret", key: &other, signs: func(int, int) bool { return true }, want: "signature is wrong"},
		{name: "another name", key: &renamed, signs: func(int, int) bool { return true }, want: "another key"},
		{name: "another algorithm", key: sha512, signs: func(int, int) bool { return true }, want: "another key"},
		{name: "an unsigned message altered", signs: func(i, n int) bool { return i == 0 || i == n-1 }, alter: 5, want: "signature is wrong"},
		{name: "a signed message altered", signs: func(int, int) bool { return true }, alter: 3, want: "signature is wrong"},
		{name: "clocks differ by an hour", signs: func(int, int) bool { return true }, late: time.Hour, want: "set both clocks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFetching(t, Origin{Format: format.RPZ, TSIG: testTSIG})
			f.client.partTimeout = time.Minute
			f.from.URL = startPrimary(t, func(conn net.Conn, q *dns.Msg) {
				asked := q.IsTsig()
				if asked == nil {
					t.Error("the query is not signed")
					return
				}
				s := &signer{t: t, key: key, mac: asked.MAC, at: time.Now()}
				if q.Question[0].Qtype == dns.TypeSOA {
					send(conn, s.pack(reply(t, q, soa(1)), true))
					return
				}
				if tt.key != nil {
					s.key = tt.key
				}
				s.at = s.at.Add(-tt.late)
				const n = 60
				for i := range n {
					records := []string{fmt.Sprintf("n%d.example CNAME .", i)}
					if i == 0 || i == n-1 {
						records = []string{soa(1)}
					}
					packed := s.pack(reply(t, q, records...), tt.signs(i, n))
					if i+1 == tt.alter {
						packed = bytes.Replace(packed, []byte("example"), []byte("exemple"), 2)
						const id = 2 // the ID may contain the byte n and must not change
						packed = append(packed[:id:id], bytes.Replace(packed[id:], []byte("n"), []byte("m"), 1)...)
						if i := bytes.Index(packed, []byte("exemple")); i >= 0 { // the question must stay readable
							copy(packed[i:], "example")
						}
					}
					if send(conn, packed) != nil {
						return
					}
				}
			})
			if tt.want != "" {
				f.mustFail(tt.want)
				return
			}
			f.mustFetch(false)
			if n := strings.Count(f.body(), "CNAME"); n != 58 {
				t.Errorf("%d records", n)
			}
		})
	}
}

// TestTooManyUnsignedMessagesAreRefused checks that an answer with too many consecutive messages without a signature is refused.
func TestTooManyUnsignedMessagesAreRefused(t *testing.T) {
	key, err := parseTSIG(testTSIG)
	if err != nil {
		t.Fatal(err)
	}
	s := signatures{key: key, signed: true}
	if err := s.startSum(""); err != nil {
		t.Fatal(err)
	}
	for range maxUnsigned {
		if err := s.verify([]byte("message"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.verify([]byte("message"), nil); err == nil || s.complete() {
		t.Error("one unsigned message too many was accepted")
	}
}

// TestPrimaryRefusesTSIGKey fetches a zone from a primary that refuses the key.
func TestPrimaryRefusesTSIGKey(t *testing.T) {
	for code, want := range map[uint16]string{
		dns.RcodeBadKey: "BADKEY", dns.RcodeBadSig: "BADSIG", dns.RcodeBadTime: "BADTIME", 0: "or requires a TSIG key",
	} {
		f := newFetching(t, Origin{TSIG: testTSIG, URL: startPrimary(t, func(conn net.Conn, q *dns.Msg) {
			m := new(dns.Msg).SetRcode(q, dns.RcodeNotAuth)
			if code != 0 {
				asked := q.IsTsig()
				m.Extra = []dns.RR{&dns.TSIG{Hdr: dns.RR_Header{Name: asked.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
					Algorithm: asked.Algorithm, TimeSigned: asked.TimeSigned, Fudge: 300, OrigId: q.Id, Error: code}}
			}
			packed, err := m.Pack()
			if err != nil {
				t.Error(err)
			}
			send(conn, packed)
		})})
		f.mustFail(want)
	}
}
