package fair

import (
	"net/netip"
	"testing"
)

// conn is a connection of a test, by the time of its last use.
type conn struct {
	from    netip.Addr
	lastUse int64
}

func TestAdmission(t *testing.T) {
	const known, unknown = 0, 1
	a := NewAdmission(func(c *conn) int64 { return c.lastUse }, Class{Conns: 2, PerClient: 2}, Class{Conns: 4, PerClient: 3, Evict: true, Margin: 2})
	admit := func(from string, lastUse int64, class int) (*conn, bool, *conn) {
		c := &conn{netip.MustParseAddr(from), lastUse}
		ok, evicted := a.Admit(c, c.from, class)
		return c, ok, evicted
	}
	want := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	var first *conn
	for i := range 3 {
		c, ok, _ := admit("192.0.2.1", int64(10-i), unknown)
		want("a connection of the first client", ok, true)
		first = c // the last connection was used longest ago
	}
	_, ok, _ := admit("192.0.2.1", 0, unknown)
	want("one more than a client may have", ok, false)
	second, ok, evicted := admit("192.0.2.2", 0, unknown)
	want("the second client", ok && evicted == nil, true)
	third, ok, evicted := admit("192.0.2.3", 0, unknown)
	want("the third client takes a place of the first", ok && evicted == first, true)
	_, ok, _ = admit("192.0.2.2", 0, unknown)
	want("nobody has two connections more than the second client", ok, false)
	if n := a.Len(unknown); n != 4 {
		t.Errorf("unexpected number of unknown connections: %d", n)
	}
	a.Move(second, known)
	a.Move(third, known)
	_, ok, _ = admit("192.0.2.4", 0, known)
	want("a class that does not evict is full", ok, false)
	a.Release(third)
	a.Release(third)
	_, ok, _ = admit("192.0.2.4", 0, known)
	want("a place is free again", ok, true)
	one, ok, _ := admit("2001:db8::1", 0, unknown)
	want("IPv6", ok, true)
	a.Release(one)
	count := 0
	a.Each(func(*conn) { count++ })
	if count != a.Len(known)+a.Len(unknown) {
		t.Errorf("unexpected number of connections: %d", count)
	}
	a.Close()
	_, ok, _ = admit("192.0.2.5", 0, unknown)
	want("after Close", ok, false)
	if len(a.clients) != 3 { // 192.0.2.1 unknown, 192.0.2.2 and 192.0.2.4 known
		t.Errorf("unexpected clients: %v", a.clients)
	}
}
