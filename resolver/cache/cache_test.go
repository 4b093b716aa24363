package cache

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"rempart/internal/wire"
)

func key(t testing.TB, name string) Key {
	t.Helper()
	n, err := wire.AppendName(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	return Key{Name: n, Type: wire.TypeA, Class: wire.ClassIN}
}

// message packs an answer about name from records in zone-file format; "?" stands before authority ones.
func message(t testing.TB, name string, rrs ...string) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name+".", dns.TypeA)
	m.Response, m.Compress = true, true
	for _, s := range rrs {
		authority := s[0] == '?'
		if authority {
			s = s[1:]
		}
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		if authority {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	m.SetEdns0(1232, false)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func entry(t testing.TB, name string, now int64, rrs ...string) *Answer {
	t.Helper()
	if rrs == nil {
		rrs = []string{name + ". 300 IN A 192.0.2.1"}
	}
	e, err := NewAnswer(key(t, name), message(t, name, rrs...), false, now)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func newCache(t testing.TB, limit int64) *Cache {
	t.Helper()
	c, err := New(limit)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGetComparesTheWholeKey(t *testing.T) {
	c := newCache(t, MinBytes)
	c.Put(entry(t, "example.com", 0), 0)
	k := key(t, "example.com")
	if c.Get(&k) == nil {
		t.Fatal("not found")
	}
	for _, change := range []func(*Key){
		func(k *Key) { k.Type = wire.TypeAAAA }, func(k *Key) { k.Class = wire.ClassCH },
		func(k *Key) { k.DO = true }, func(k *Key) { k.CD = true }, func(k *Key) { k.Name = key(t, "example.org").Name },
	} {
		other := key(t, "example.com")
		change(&other)
		if c.Get(&other) != nil {
			t.Errorf("the key %+v found the entry of another key", other)
		}
	}
}

// TestNearDoesNotChangeGet checks that Near does not change the result of Get, for keys that are in the cache and keys that are not.
func TestNearDoesNotChangeGet(t *testing.T) {
	c := newCache(t, 64*MinBytes) // large enough that no entry is evicted
	var keys []Key
	for i := range 1000 {
		name := fmt.Sprintf("n%d.example", i)
		if i%2 == 0 {
			c.Put(entry(t, name, 0), 0)
		}
		keys = append(keys, key(t, name))
	}
	near := append([]Key(nil), keys...)
	c.Near(near)
	c.Near(near[:1])
	c.Near(nil)
	for i := range keys {
		if got, want := c.Get(&near[i]), c.Get(&keys[i]); got != want || (got != nil) != (i%2 == 0) {
			t.Errorf("key %d: Get returns %v after Near, and %v without Near", i, got, want)
		}
	}
}

func TestPutReplaces(t *testing.T) {
	c := newCache(t, MinBytes)
	for i := range 100 {
		c.Put(entry(t, "example.com", int64(i)), int64(i))
	}
	if s := c.Stats(); s.Entries != 1 || s.Evicted != 0 {
		t.Errorf("stats %+v, want one entry and no eviction", s)
	}
}

func TestFailureDoesNotReplaceAnAnswer(t *testing.T) {
	c := newCache(t, MinBytes)
	e := entry(t, "example.com", 0)
	c.Put(e, 0)
	k := key(t, "example.com")
	c.Put(Failure(k, 400), 400)
	if got := c.Get(&k); got != e || !e.Failed(401) || e.Failed(400+recheck) {
		t.Error("the answer that can be served stale was replaced, or is not marked as failed")
	}
	c.Put(Failure(k, 300+staleFor), 300+staleFor)
	if got := c.Get(&k); got == e {
		t.Error("an answer that is too old to be served stale was not replaced")
	}
}

func TestMemoryStaysBelowLimit(t *testing.T) {
	c := newCache(t, MinBytes)
	for i := range 20_000 {
		c.Put(entry(t, fmt.Sprintf("n%d.example", i), 0), 0)
		if i%100 == 0 {
			if s := c.Stats(); s.Bytes > s.Limit {
				t.Fatalf("%d bytes are used, the limit is %d", s.Bytes, s.Limit)
			}
		}
	}
	s := c.Stats()
	held := int64(0)
	entries := int64(0)
	for i := range c.buckets {
		for j := range c.buckets[i].slots {
			if e := c.buckets[i].slots[j].Load(); e != nil {
				held += e.size()
				entries++
			}
		}
	}
	if held != s.Bytes || entries != s.Entries || s.Evicted != 20_000-uint64(entries) {
		t.Errorf("Stats returned %+v, but the slots hold %d bytes in %d entries", s, held, entries)
	}
	if s.Entries < 1000 {
		t.Errorf("%d entries fit into %d bytes, want at least 1000", s.Entries, s.Limit)
	}
}

func TestUsedEntryIsNotEvicted(t *testing.T) {
	c := newCache(t, MinBytes)
	k := key(t, "popular.example")
	c.Put(entry(t, "popular.example", 0), 0)
	for i := range 20_000 {
		if c.Get(&k) == nil {
			t.Fatalf("the entry was evicted after %d others, although it is used all the time", i)
		}
		c.Put(entry(t, fmt.Sprintf("n%d.example", i), 0), 0)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := newCache(t, MinBytes)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 3000 {
				name := fmt.Sprintf("n%d.example", (i*7+w)%700)
				k := key(t, name)
				if e := c.Get(&k); e != nil && string(e.key().Name) != string(k.Name) {
					t.Errorf("%s: Get returned the entry of another name", name)
				}
				c.Put(entry(t, name, int64(i)), int64(i))
			}
		})
	}
	all.Wait()
}

func TestEntryAnswer(t *testing.T) {
	e := entry(t, "www.example.com", 0,
		"www.example.com. 300 IN CNAME cdn.example.net.", "cdn.example.net. 60 IN A 192.0.2.1", "?example.net. 90000 IN NS ns.example.net.")
	if e.expires != 60 {
		t.Errorf("the answer expires at %d, want 60", e.expires)
	}
	m := new(dns.Msg).SetQuestion("wWw.example.com.", dns.TypeA)
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := wire.Query{Packet: packed, Client: netip.MustParseAddr("::1")}
	q.Parse(0)
	for _, tt := range []struct {
		now   int64
		stale bool
		want  []uint32
	}{{0, false, []uint32{300, 60, 86400}}, {45, false, []uint32{255, 15, 86355}}, {100, true, []uint32{30, 30, 30}}} {
		e.WriteAnswer(&q, tt.now, tt.stale)
		q.Finish(e.Rcode())
		var a dns.Msg
		if err := a.Unpack(q.Out); err != nil {
			t.Fatal(err)
		}
		var ttls []uint32
		for _, rr := range append(a.Answer, a.Ns...) {
			ttls = append(ttls, rr.Header().Ttl)
		}
		if diff := cmp.Diff(tt.want, ttls); diff != "" || a.Question[0].Name != "wWw.example.com." {
			t.Errorf("at %d: %s %v", tt.now, diff, &a)
		}
	}
	var targets []string
	for rest := e.TargetBytes(); len(rest) > 0; {
		n := wire.NameLen(rest)
		targets, rest = append(targets, wire.Text(rest[:n])), rest[n:]
	}
	if diff := cmp.Diff([]string{"cdn.example.net"}, targets); diff != "" {
		t.Error(diff)
	}
}

// TestCachedAnswerHasNoRandomCase checks that a cached answer does not keep the random case of the question that was sent to the upstream.
func TestCachedAnswerHasNoRandomCase(t *testing.T) {
	m := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
	m.Response = true
	for _, s := range []string{"exAMple.CoM. 300 IN CNAME CDN.example.net.", "CDN.example.net. 300 IN A 192.0.2.1"} {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewAnswer(key(t, "example.com"), packed, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := given(t, e).Answer[0].Header().Name; got != "example.com." {
		t.Errorf("the owner is %s, want example.com.", got)
	}
}

func TestTTLWithTopBitIsReadAsZero(t *testing.T) {
	e := entry(t, "example.com", 0, "example.com. 4294967295 IN A 192.0.2.1")
	if e.Keepable() {
		t.Error("an answer with this TTL can be cached, want TTL 0 (RFC 2181 section 8)")
	}
	if a := given(t, e); a.Answer[0].Header().Ttl != 0 {
		t.Errorf("answer %v, want TTL 0", a)
	}
}

// given returns the message of a new answer about example.com.
func given(t *testing.T, e *Answer) *dns.Msg {
	t.Helper()
	query, err := new(dns.Msg).SetQuestion("example.com.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := wire.Query{Packet: query}
	q.Parse(0)
	e.WriteAnswer(&q, 0, false)
	a := new(dns.Msg)
	if err := a.Unpack(q.Out); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestGetDoesNotAllocate(t *testing.T) {
	c := newCache(t, MinBytes)
	c.Put(entry(t, "example.com", 0), 0)
	hit, miss := key(t, "example.com"), key(t, "example.org")
	if n := testing.AllocsPerRun(100, func() { c.Get(&hit); c.Get(&miss) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// FuzzNewAnswer checks that NewAnswer returns an error or, if the message of the upstream unpacks, an answer that
// unpacks.
func FuzzNewAnswer(f *testing.F) {
	f.Add(message(f, "example.com", "example.com. 300 IN A 192.0.2.1"))
	f.Add(message(f, "example.com", "example.com. 300 IN CNAME a.b.", "a.b. 3 IN HTTPS 0 c.d.", "?b. 9 IN SOA a. b. 1 2 3 4 5"))
	k := key(f, "example.com")
	query, err := new(dns.Msg).SetQuestion("example.com.", dns.TypeA).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		e, err := NewAnswer(k, msg, true, 0)
		if err != nil {
			return
		}
		q := wire.Query{Packet: query, Transport: wire.TCP}
		q.Parse(0)
		e.WriteAnswer(&q, 0, false)
		body := bytes.Clone(q.Out[q.BodyAt:])
		q.Finish(e.Rcode(), e.Errors()...)
		var a, original dns.Msg
		if original.Unpack(msg) != nil || len(original.Question) != 1 || original.Question[0].Name != "example.com." {
			return // NewAnswer need not detect these errors in the message of the upstream
		}
		if !bytes.EqualFold(msg[q.BodyAt:][:min(len(body), len(msg)-q.BodyAt)], body) {
			return // a name that a compression pointer continues in a TTL changes with the TTL; the sender is responsible
		}
		for i := wire.HeaderLen; i+1 < len(msg); i++ {
			if msg[i] == 0xc0 && msg[i+1] < wire.HeaderLen {
				return // a name that a compression pointer continues in the header changes with the header; the sender is responsible
			}
		}
		if err := a.Unpack(q.Out); err != nil {
			t.Fatalf("the message unpacks, but its answer does not: %v", err)
		}
	})
}
