package rpz

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

// timed returns a listing that is in effect from start to expiry.
func timed(name string, start, expiry int64) blocklist.Change {
	c := listing("a", name, blocklist.Exact, blocklist.Block)
	c.Listing.Start, c.Listing.Expiry = start, expiry
	return c
}

// TestListingsStartAndExpire checks that listings start and expire without a change of the set.
func TestListingsStartAndExpire(t *testing.T) {
	v := viewOf(t, 1, timed("ends.example", 0, 100), timed("begins.example", 200, 0), timed("other.example", 0, 0))
	b := newBuilder([]*zone{testZone("rpz")})
	st, err := b.next(t.Context(), nil, v, 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		now, next int64
		want      []string
	}{
		{99, 100, []string{"ends.example", "other.example"}},
		{100, 200, []string{"other.example"}},
		{200, blocklist.Forever, []string{"begins.example", "other.example"}},
	} {
		if v, err = v.With(blocklist.Info{Version: v.Version() + 1}, nil); err != nil {
			t.Fatal(err)
		}
		if st, err = b.next(t.Context(), st, v, tt.now, [][]byte{}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for owner := range texts(contents(t, b, st, 0)) {
			got = append(got, owner)
		}
		if slices.Sort(got); !slices.Equal(got, tt.want) || b.due.next() != tt.next {
			t.Errorf("at %d: %v, next at %d; want %v, %d", tt.now, got, b.due.next(), tt.want, tt.next)
		}
	}
}

func TestDueNamesAreBounded(t *testing.T) {
	var d dueNames
	for i := range maxDue + 10 {
		d.add(wireOf(fmt.Sprintf("n%d.example", i)), int64(1000+i))
	}
	if len(d.names) != maxDue || d.horizon != 1000+maxDue || d.next() != 1000 {
		t.Errorf("%d names, horizon %d, next %d", len(d.names), d.horizon, d.next())
	}
	if !d.known(1000+maxDue-1) || d.known(1000+maxDue) {
		t.Error("known ignores the horizon")
	}
	if got := d.popped(1001); len(got) != 2 || d.next() != 1002 {
		t.Errorf("%d due, next %d", len(got), d.next())
	}
}

// TestExpiryRequestsNewVersion checks that the server asks for a new version when a listing expires.
func TestExpiryRequestsNewVersion(t *testing.T) {
	asked := make(chan struct{}, 1)
	s := serve(t, viewOf(t, 1, timed("ends.example", 0, clock()+2)), func(c *Config) {
		c.Renew = func() { asked <- struct{}{} }
	})
	if all, _ := s.transfer(t, axfr()); len(all) != 4 {
		t.Fatalf("AXFR: records %v, want 4", all)
	}
	<-asked
	s.changed(t)
	all, _ := s.transfer(t, ixfr(1))
	if len(all) != 5 || all[2].Header().Name != "ends.example.rpz.test." {
		t.Errorf("IXFR: records %v, want 5, the third of them of ends.example", all)
	}
}

// TestSerialHasSameContentAfterRestart checks that a serial has the same content after a restart, even if listings have started or expired since the version
// was made.
func TestSerialHasSameContentAfterRestart(t *testing.T) {
	v := viewOf(t, 1)
	before, err := v.With(blocklist.Info{Version: 2, Created: time.Now().Add(-time.Hour)}, []blocklist.Change{
		timed("ended.example", 0, clock()-60), timed("begun.example", clock()-60, 0), timed("stays.example", 0, 0),
	})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 1)
	s := serve(t, before, func(c *Config) { c.Renew = func() { asked <- struct{}{} } })
	want := []string{"ended.example.rpz.test.", "stays.example.rpz.test."}
	if got := cnames(s, t, axfr()); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	<-asked
	s.changed(t)
	if got := cnames(s, t, ixfr(2)); !slices.Equal(got, []string{"begun.example.rpz.test.", "ended.example.rpz.test."}) {
		t.Errorf("the difference: %v", got)
	}
}

// TestRepairedViewWaitsForNextSerial checks that a view with other content under the same serial is not served before the next serial, for which the server
// asks.
func TestRepairedViewWaitsForNextSerial(t *testing.T) {
	asked := make(chan struct{}, 1)
	before := viewOf(t, 2, listing("a", "evil.example", blocklist.Exact, blocklist.Block))
	s := serve(t, before, func(c *Config) { c.Renew = func() { asked <- struct{}{} } })
	after := viewOf(t, 2, listing("a", "evil.example", blocklist.Exact, blocklist.Block), listing("a", "more.example", blocklist.Exact, blocklist.Block)).Revise(before)
	s.view.Store(after)
	s.Changed(before, after, nil)
	<-asked
	if got := cnames(s, t, axfr()); len(got) != 1 {
		t.Errorf("the content changed under the same serial: %v", got)
	}
	s.changed(t, listing("a", "third.example", blocklist.Exact, blocklist.Block))
	if got := cnames(s, t, ixfr(2)); !slices.Equal(got, []string{"more.example.rpz.test.", "third.example.rpz.test."}) {
		t.Errorf("the difference: %v", got)
	}
}

// cnames returns the owners of a transfer's records, without SOA, NS and the records below names.
func cnames(s *serving, t *testing.T, m *dns.Msg) (names []string) {
	all, _ := s.transfer(t, m)
	for _, rr := range all {
		if rr.Header().Rrtype == dns.TypeCNAME && !strings.HasPrefix(rr.Header().Name, "*.") {
			names = append(names, rr.Header().Name)
		}
	}
	slices.Sort(names)
	return names
}

// TestZonesAreEmptyWhileSuspended checks that the zones are empty while enforcement is suspended, and have their content again after that.
func TestZonesAreEmptyWhileSuspended(t *testing.T) {
	prefix := blocklist.Change{Source: blocklist.Source{Name: "a"}, Listing: blocklist.Listing{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Decision: blocklist.Block}}
	s := serve(t, viewOf(t, 1, listing("a", "evil.example", blocklist.Exact, blocklist.Block), prefix), nil)
	whole := cnames(s, t, axfr())
	if len(whole) != 2 {
		t.Fatalf("AXFR: CNAME records %v, want 2", whole)
	}
	set := func(suspended bool) {
		before := s.view.Load()
		after, err := before.With(blocklist.Info{Version: before.Version() + 1, Created: time.Now()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		after = after.Suspend(suspended)
		s.view.Store(after)
		s.Changed(before, after, [][]byte{})
		dnstest.Eventually(t, "the new version is served", func() bool { return s.state.Load().view == after })
	}
	set(true)
	if got := cnames(s, t, axfr()); len(got) > 0 {
		t.Errorf("enforcement is suspended, but the zone holds %v", got)
	}
	if got := cnames(s, t, ixfr(1)); len(got) != 2 {
		t.Errorf("the difference: %v", got)
	}
	if blocked, err := ByView(s.view.Load(), blocklist.AllCategories, clock())(t.Context(), wireOf("evil.example")); blocked || err != nil {
		t.Errorf("enforcement is suspended, but ByView reports a block (%v)", err)
	}
	set(false)
	if got := cnames(s, t, axfr()); !slices.Equal(got, whole) {
		t.Errorf("resumed: %v, want %v", got, whole)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	var serial uint32
	add := func(records int) {
		d := &delta{from: serial, to: serial + 1}
		for i := range records {
			d.added = append(d.added, record{fmt.Sprint(serial, i), block})
		}
		serial++
		d.check()
		h = h.after(d)
	}
	reach := func() int {
		n := 0
		for s := serial; ; s-- {
			if _, ok := h.since(s - 1); !ok {
				return n
			}
			n++
		}
	}
	for range 3 {
		add(maxHistory / 4)
	}
	if reach() != 3 {
		t.Fatalf("reaches back %d", reach())
	}
	add(maxHistory / 2) // the oldest difference no longer fits
	if reach() != 3 || h.size > maxHistory {
		t.Errorf("reaches back %d, holds %d", reach(), h.size)
	}
	add(maxHistory + 1) // more than the history may hold
	if reach() != 0 || h.size != 0 {
		t.Errorf("reaches back %d, holds %d", reach(), h.size)
	}
	for range maxDeltas + 5 {
		add(0)
	}
	if reach() != maxDeltas {
		t.Errorf("reaches back %d", reach())
	}
	if _, ok := h.since(serial); ok {
		t.Error("the history has a difference from the newest serial to itself")
	}
}

// TestChangesDuringUpdateAreNotLost checks that changes that arrive while a state is made are not lost, and that the next difference holds a change that the
// server missed.
func TestChangesDuringUpdateAreNotLost(t *testing.T) {
	s := serve(t, viewOf(t, 1, listing("a", "bad.example", blocklist.Subtree, blocklist.Block)), nil)
	for i := range 20 {
		s.change(t, listing("a", fmt.Sprintf("n%d.example", i), blocklist.Exact, blocklist.Block))
	}
	dnstest.Eventually(t, "the newest is served", func() bool { return s.state.Load().serial() == 21 })
	if all, _ := s.transfer(t, axfr()); len(all) != 20+2+3 {
		t.Errorf("unexpected number of records: %d", len(all))
	}
	missed, err := s.view.Load().With(blocklist.Info{Version: 30}, []blocklist.Change{listing("a", "missed.example", blocklist.Exact, blocklist.Block)})
	if err != nil {
		t.Fatal(err)
	}
	s.view.Store(missed)
	s.changed(t, listing("a", "last.example", blocklist.Exact, blocklist.Block)) // the server does not know the view before this change
	if all, _ := s.transfer(t, ixfr(21)); len(all) != 4+2 {
		t.Errorf("IXFR: records %v, want 6", all)
	}
}

// answerNotify answers a NOTIFY as a secondary does.
func answerNotify(t *testing.T, conn net.PacketConn, packed []byte, to net.Addr) {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(packed); err != nil {
		t.Fatal(err)
	}
	reply := new(dns.Msg).SetReply(m)
	signed(reply)
	out, _, err := dns.TsigGenerate(reply, testSecret, m.IsTsig().MAC, false)
	if err == nil {
		_, err = conn.WriteTo(out, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNotify checks that NOTIFY is sent until the secondary answers, and that the newest serial is sent.
func TestNotify(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	addr := netip.MustParseAddrPort(conn.LocalAddr().String())
	s := serve(t, small(t), func(c *Config) { c.Secondaries = []Secondary{{addr, testKeyName}} })
	buf := make([]byte, 4096)
	read := func() ([]byte, *dns.Msg, net.Addr) {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			t.Fatal(err)
		}
		return append([]byte(nil), buf[:n]...), m, from
	}
	packed, m, from := read()
	if soa, ok := m.Answer[0].(*dns.SOA); m.Opcode != dns.OpcodeNotify || !ok || soa.Serial != 7 || m.Response {
		t.Errorf("message %v, want a NOTIFY with serial 7", m)
	}
	if err := dns.TsigVerify(packed, testSecret, "", false); err != nil {
		t.Error(err)
	}
	// An answer without a signature is ignored: NOTIFY is sent again.
	forged := new(dns.Msg).SetReply(m)
	out, err := forged.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteTo(out, from); err != nil {
		t.Fatal(err)
	}
	dnstest.Eventually(t, "the signed answer is accepted", func() bool { // on a slow machine, another NOTIFY may be sent before the answer arrives
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, from, err := conn.ReadFrom(buf); err == nil {
			answerNotify(t, conn, buf[:n], from)
		}
		return s.metric(t, "rempart_rpz_notifies_total", map[string]string{"result": "ok"}) == 1
	})
	s.changed(t, listing("a", "new.example", blocklist.Exact, blocklist.Block))
	s.changed(t, listing("a", "newer.example", blocklist.Exact, blocklist.Block))
	for {
		if _, m, _ = read(); m.Answer[0].(*dns.SOA).Serial == 9 {
			break
		}
	}
}

func TestDigest(t *testing.T) {
	v := small(t)
	names := slices.Values([][]byte{wireOf("bad.example"), wireOf("www.bad.example"), wireOf("example")})
	sum, blocked, passed, err := Digest(t.Context(), names, ByView(v, blocklist.AllCategories, 10))
	// printf 'bad.example block\nwww.bad.example block\nexample pass\n' | sha256sum
	const want = "ff380087190121a7c2932f46cd9fa95a257c237b63d5428f3ad2ca99d76f4c03"
	if err != nil || sum != want || blocked != 2 || passed != 1 {
		t.Errorf("Digest: %s, %d blocked, %d passed, %v; want %s, 2, 1", sum, blocked, passed, err, want)
	}
	failing := func(context.Context, []byte) (bool, error) { return false, fmt.Errorf("no") }
	if _, _, _, err := Digest(t.Context(), names, failing); err == nil {
		t.Error("Digest ignored the error of the verdict function")
	}
}

// TestResolverAnswersAreInterpreted interprets resolvers' answers to blocked names.
func TestResolverAnswersAreInterpreted(t *testing.T) {
	soa := func(owner string) dns.RR {
		rr, err := dns.NewRR(owner + " 30 IN SOA localhost. root.localhost. 1 60 30 600 30")
		if err != nil {
			t.Fatal(err)
		}
		return rr
	}
	answer := func(rcode int, change func(*dns.Msg)) dnstest.Handler {
		return func(q *dnstest.Query) {
			m := q.Reply(rcode)
			if change != nil {
				change(m)
			}
			q.Send(m)
		}
	}
	zone := Resolver{Page: testPage, Addresses: []netip.Addr{netip.MustParseAddr(pageAddr)}, Zones: []string{testZoneName}}
	absent := Resolver{Absent: true}
	for name, tt := range map[string]struct {
		by      Resolver
		handler dnstest.Handler
		blocked bool
		failed  bool
	}{
		"CNAME to the page":            {zone, dnstest.Answer("@ 30 IN CNAME PAGE.filter.test.", "page.filter.test. 30 IN A 203.0.113.9"), true, false},
		"address of the page":          {zone, dnstest.Answer("@ 30 IN A " + pageAddr), true, false},
		"another address":              {zone, dnstest.Answer("@ 30 IN A " + originAddr), false, false},
		"extended error Blocked":       {absent, dnstest.Rcode(dns.RcodeSuccess, 15), true, false},
		"address instead of no answer": {absent, dnstest.Answer("@ 30 IN A " + originAddr), false, false},
		"SOA of the policy zone":       {zone, answer(dns.RcodeNameError, func(m *dns.Msg) { m.Extra = append(m.Extra, soa(testZoneName)) }), true, false},
		"SOA of another zone":          {zone, answer(dns.RcodeNameError, func(m *dns.Msg) { m.Ns = append(m.Ns, soa("example.")) }), false, false},
		"no SOA":                       {absent, answer(dns.RcodeNameError, nil), true, false},
		"SOA of the name's zone":       {absent, answer(dns.RcodeNameError, func(m *dns.Msg) { m.Ns = append(m.Ns, soa("example.")) }), false, false},
		"a failure":                    {zone, dnstest.Rcode(dns.RcodeServerFailure), false, true},
		"truncated answer":             {zone, dnstest.Truncate(dnstest.Answer("@ 30 IN A " + pageAddr)), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			u := dnstest.NewUpstream(t, tt.handler)
			tt.by.Addr = u.Addr.String()
			blocked, err := tt.by.Blocked(t.Context(), wireOf("bad.example"))
			if blocked != tt.blocked || (err != nil) != tt.failed {
				t.Errorf("blocked %v, %v", blocked, err)
			}
		})
	}
}
