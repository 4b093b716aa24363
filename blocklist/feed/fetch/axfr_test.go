package fetch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/feed/format"
)

const (
	testZone   = "rpz.example."
	testSecret = "U0VDUkVUU0VDUkVUU0VDUkVUU0VDUkVUU0VDUkVUU0U="
	testTSIG   = "hmac-sha256:transfer.example:" + testSecret
)

// startPrimary answers each query over TCP as serve does, and returns "axfr://host:port/zone".
func startPrimary(t *testing.T, serve func(conn net.Conn, q *dns.Msg)) string {
	t.Helper()
	return "axfr://" + serveConns(t, func(conn net.Conn) {
		buf := make([]byte, dns.MaxMsgSize)
		for {
			packed, err := readMessage(conn, buf)
			q := new(dns.Msg)
			if err != nil || q.Unpack(packed) != nil {
				return
			}
			serve(conn, q)
		}
	}) + "/rpz.example"
}

func send(w io.Writer, packed []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...))
	return err
}

// reply returns an answer to q with the given records.
func reply(t *testing.T, q *dns.Msg, records ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative, m.Compress = true, true
	for _, text := range records {
		m.Answer = append(m.Answer, rrOf(t, text))
	}
	return m
}

func rrOf(t *testing.T, text string) dns.RR {
	rr, err := dns.NewRR("$ORIGIN " + testZone + "\n$TTL 60\n" + text)
	if err != nil || rr == nil {
		t.Fatalf("record %s: %v", text, err)
	}
	return rr
}

func soa(serial int) string {
	return fmt.Sprintf("@ IN SOA ns.example. admin.example. %d 60 60 3600 60", serial)
}

// answering sends a message for each group of records.
func answering(t *testing.T, conn net.Conn, q *dns.Msg, messages ...[]string) {
	for _, records := range messages {
		packed, err := reply(t, q, records...).Pack()
		if err != nil {
			t.Error(err)
			return
		}
		if send(conn, packed) != nil {
			return
		}
	}
}

func TestTransfer(t *testing.T) {
	var mu sync.Mutex
	zone := map[uint16][][]string{}
	say := func(kind uint16, messages ...[]string) {
		mu.Lock()
		defer mu.Unlock()
		zone[kind] = messages
	}
	asked := []uint16{}
	f := newFetching(t, Origin{Format: format.RPZ, URL: startPrimary(t, func(conn net.Conn, q *dns.Msg) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, q.Question[0].Qtype)
		answering(t, conn, q, zone[q.Question[0].Qtype]...)
	})})
	f.client.partTimeout = 300 * time.Millisecond
	expect := func(kinds ...uint16) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if fmt.Sprint(asked) != fmt.Sprint(kinds) {
			t.Errorf("asked for %v, want %v", asked, kinds)
		}
		asked = nil
	}

	say(dns.TypeSOA, []string{soa(1)})
	say(dns.TypeAXFR, []string{soa(1), "@ NS ns.example."},
		[]string{"bad.example CNAME .", "*.bad.example CNAME ."}, []string{"Worse.example CNAME *.", "32.1.2.0.192.rpz-ip CNAME ."}, []string{soa(1)})
	f.mustFetch(false)
	expect(dns.TypeSOA, dns.TypeAXFR)
	f.listed(names{"bad.example": 3, "worse.example": 1})
	want := `$ORIGIN rpz.example.
rpz.example.	60	IN	SOA	ns.example. admin.example. 1 60 60 3600 60
rpz.example.	60	IN	NS	ns.example.
bad.example.rpz.example.	60	IN	CNAME	.
*.bad.example.rpz.example.	60	IN	CNAME	.
worse.example.rpz.example.	60	IN	CNAME	*.
32.1.2.0.192.rpz-ip.rpz.example.	60	IN	CNAME	.
`
	if got := f.body(); got != want {
		t.Errorf("body:\n%s", got)
	}
	f.mustFetch(true)
	expect(dns.TypeSOA)

	// Two differences in one answer: the second reverses a part of the first.
	say(dns.TypeSOA, []string{soa(3)})
	say(dns.TypeIXFR, []string{soa(3), soa(1), "*.bad.example CNAME .", soa(2), "new.example CNAME .", "odd.example CNAME ."},
		[]string{soa(2), "new.example CNAME .", soa(3), "*.bad.example CNAME .", "good.example CNAME rpz-passthru."}, []string{soa(3)})
	f.mustFetch(false)
	expect(dns.TypeSOA, dns.TypeIXFR)
	f.listed(names{"bad.example": 3, "worse.example": 1, "odd.example": 1})
	if f.validators.Serial != "3" {
		t.Errorf("serial %s", f.validators.Serial)
	}

	// In each of these cases, the whole zone is transferred.
	say(dns.TypeAXFR, []string{soa(4), "last.example CNAME .", soa(4)})
	held := filepath.Join(t.TempDir(), "held")
	if err := os.WriteFile(held, []byte(f.body()), 0o600); err != nil {
		t.Fatal(err)
	}
	known := f.validators
	for name, messages := range map[string][][]string{
		"whole zone in the format of IXFR": {{soa(4), "last.example CNAME .", soa(4)}},
		"deletes a missing record":         {{soa(4), soa(3), "none.example CNAME .", soa(4), soa(4)}},
		"deletes a record twice":           {{soa(4), soa(3), "odd.example CNAME .", soa(4), soa(4), soa(4)}},
		"starts from another serial":       {{soa(4), soa(2), soa(4), soa(4)}},
		"decreasing serials":               {{soa(4), soa(3), soa(2), soa(2), soa(4), soa(4)}},
		"serials that do not connect":      {{soa(5), soa(3), soa(4), "a.example CNAME .", soa(3), soa(5), soa(5)}},
		"the newest SOA alone":             {{soa(4)}},
		"only the known SOA":               {{soa(3)}},
		"no SOA":                           {{"odd.example CNAME ."}},
		"ends within a difference":         {{soa(4), soa(3), "odd.example CNAME .", soa(4)}},
		"no message":                       {},
		"continues after its end":          {{soa(4), soa(3), soa(4), soa(4), "odd.example CNAME ."}},
		"adds to another zone":             {{soa(4), soa(3), soa(4)}, {"a.example. CNAME ."}, {soa(4)}},
		"an SOA of another zone":           {{soa(4), strings.Replace(soa(3), "@", "sub", 1), soa(4), soa(4)}},
	} {
		f.before, f.validators = held, known
		say(dns.TypeSOA, []string{soa(4)})
		say(dns.TypeIXFR, messages...)
		got, err := f.try()
		if err != nil || got.Unchanged {
			t.Errorf("%s: fetched %+v, %v; want the whole zone", name, got, err)
			continue
		}
		expect(dns.TypeSOA, dns.TypeIXFR, dns.TypeAXFR)
		f.listed(names{"last.example": 1})
	}
	// The stored body does not belong to the stored serial.
	if err := os.WriteFile(held, []byte("a.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.before, f.validators = held, known
	say(dns.TypeIXFR, []string{soa(4), soa(3), soa(4), "a.example CNAME .", soa(4)})
	f.mustFetch(false)
	expect(dns.TypeSOA, dns.TypeIXFR, dns.TypeAXFR)

	// If the serial is lower than before, the whole zone is transferred.
	f.validators.Serial = "9"
	f.mustFetch(false)
	expect(dns.TypeSOA, dns.TypeAXFR)
}

func TestTransferErrors(t *testing.T) {
	good := []string{soa(2), "bad.example CNAME .", soa(2)}
	messages := func(m ...[]string) func(*testing.T, net.Conn, *dns.Msg) {
		return func(t *testing.T, conn net.Conn, q *dns.Msg) { answering(t, conn, q, m...) }
	}
	closing := func(m ...[]string) func(*testing.T, net.Conn, *dns.Msg) {
		return func(t *testing.T, conn net.Conn, q *dns.Msg) { answering(t, conn, q, m...); conn.Close() }
	}
	changed := func(change func(*dns.Msg)) func(*testing.T, net.Conn, *dns.Msg) {
		return func(t *testing.T, conn net.Conn, q *dns.Msg) {
			m := reply(t, q, good...)
			change(m)
			if packed, err := m.Pack(); err != nil || send(conn, packed) != nil {
				t.Error("the answer could not be sent")
			}
		}
	}
	raw := func(b ...byte) func(*testing.T, net.Conn, *dns.Msg) {
		return func(_ *testing.T, conn net.Conn, _ *dns.Msg) { conn.Write(b); conn.Close() }
	}
	for _, tt := range []struct {
		name  string
		serve func(*testing.T, net.Conn, *dns.Msg)
		want  string
		many  bool // whether the case applies only to answers with many records
	}{
		{"endless", func(t *testing.T, conn net.Conn, q *dns.Msg) {
			answering(t, conn, q, []string{soa(2)})
			packed, _ := reply(t, q, "a.example TXT "+strings.Repeat(strings.Repeat("x", 250)+" ", 100)).Pack()
			for send(conn, packed) == nil {
			}
		}, "too large", true},
		{"endless SOA records", func(t *testing.T, conn net.Conn, q *dns.Msg) {
			for i := 2; i < 1000; i++ {
				answering(t, conn, q, []string{soa(i)})
			}
		}, "changed during the transfer", true},
		{"silent", func(*testing.T, net.Conn, *dns.Msg) {}, "timeout", false},
		{"slow", func(t *testing.T, conn net.Conn, q *dns.Msg) {
			packed, _ := reply(t, q, good...).Pack()
			conn.Write([]byte{0, byte(len(packed))})
			for _, c := range packed {
				if _, err := conn.Write([]byte{c}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}, "timeout", false},
		{"closed at once", closing(), "EOF", false},
		{"closed within a message", raw(1, 0, 1, 2, 3), "EOF", false},
		{"SOA not repeated", closing([]string{soa(2), "bad.example CNAME ."}), "EOF", true},
		{"HTTP response", raw([]byte("\x00\x0fHTTP/1.1 400 Bad Request\r\n")...), "cannot be read", false},
		{"empty message", raw(0, 0), "cannot be read", false},
		{"no SOA first", messages([]string{"bad.example CNAME .", soa(2)}), "does not begin", true},
		{"records of another zone", messages([]string{soa(2), "bad.example. CNAME .", soa(2)}), "another zone", true},
		{"another SOA", messages([]string{"other.example. SOA ns.example. admin.example. 2 60 60 3600 60"}), "another zone", false},
		{"record of another class", messages([]string{soa(2), "bad.example CH TXT x", soa(2)}), "another zone", true},
		{"empty messages", messages([]string{soa(2)}, []string{}, []string{soa(2)}), "without records", true},
		{"continues after its end", messages([]string{soa(2), soa(2), "bad.example CNAME ."}), "after its end", false},
		{"serial changes", messages([]string{soa(2)}, []string{soa(3)}), "changed during the transfer", true},
		{"wrong ID", changed(func(m *dns.Msg) { m.Id++ }), "another query", false},
		{"a query", changed(func(m *dns.Msg) { m.Response = false }), "another query", false},
		{"a NOTIFY", changed(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), "another query", false},
		{"another question", changed(func(m *dns.Msg) { m.Question[0].Name = "other.example." }), "another question", false},
		{"another type", changed(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeANY }), "another question", false},
		{"no question", changed(func(m *dns.Msg) { m.Question = nil }), "to what", false},
		{"two questions", changed(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), "to what", false},
		{"truncated", changed(func(m *dns.Msg) { m.Truncated = true }), "truncated", false},
		{"REFUSED", changed(func(m *dns.Msg) { m.Answer, m.Rcode = nil, dns.RcodeRefused }), "REFUSED: it does not let", false},
		{"NOTAUTH", changed(func(m *dns.Msg) { m.Answer, m.Rcode = nil, dns.RcodeNotAuth }), "NOTAUTH: it does not hold", false},
		{"SERVFAIL", changed(func(m *dns.Msg) { m.Answer, m.Rcode = nil, dns.RcodeServerFailure }), "SERVFAIL", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kinds := []uint16{dns.TypeAXFR}
			if !tt.many {
				kinds = append(kinds, dns.TypeSOA)
			}
			for _, kind := range kinds {
				f := newFetching(t, Origin{Format: format.RPZ})
				f.client.maxBody = 1 << 20
				f.from.URL = startPrimary(t, func(conn net.Conn, q *dns.Msg) {
					switch q.Question[0].Qtype {
					case kind:
						tt.serve(t, conn, q)
					case dns.TypeSOA:
						answering(t, conn, q, []string{soa(2)})
					}
				})
				f.client.partTimeout = time.Minute
				if tt.want == "timeout" {
					f.client.partTimeout = 200 * time.Millisecond
				}
				f.before = filepath.Join(t.TempDir(), "a.body")
				if err := os.WriteFile(f.before, []byte("before"), 0o600); err != nil {
					t.Fatal(err)
				}
				f.mustFail(tt.want)
			}
		})
	}
}

func TestTransferEndsWithItsContext(t *testing.T) {
	asked := make(chan struct{}, 1)
	f := newFetching(t, Origin{URL: startPrimary(t, func(net.Conn, *dns.Msg) { asked <- struct{}{} })})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := f.client.Fetch(ctx, f.from, Validators{}, "", f.path); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestEndlessDifferenceIsRefused checks that a zone difference that never stops adding records is refused.
func TestEndlessDifferenceIsRefused(t *testing.T) {
	d := newDifference(1)
	d.most = 1 << 20
	for _, text := range []string{soa(2), soa(1), soa(2)} {
		if _, err := d.add(rrOf(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat(strings.Repeat("x", 250)+" ", 200)
	for i := 0; ; i++ {
		_, err := d.add(rrOf(t, fmt.Sprintf("n%d.example TXT %s", i, long)))
		if errors.Is(err, bounded.ErrTooLarge) {
			break
		}
		if err != nil || i > d.most/len(long) {
			t.Fatalf("%d records: %v", i, err)
		}
	}
}
