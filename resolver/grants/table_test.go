package grants

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// TestGrantIsOfOneClientAndName checks whom a grant lets pass, and to which names.
func TestGrantIsOfOneClientAndName(t *testing.T) {
	table := New(0)
	table.Grant(addr("192.0.2.1"), dnstest.WireName(t, "bad.example"), 3600, 0)
	table.Grant(addr("2001:db8:0:1::1"), dnstest.WireName(t, "bad.example"), 3600, 0)
	for _, tt := range []struct {
		client, name string
		now          int64
		want         int64
	}{
		{"192.0.2.1", "bad.example", 0, 3600},
		{"192.0.2.1", "www.bad.example", 3599, 3600},
		{"192.0.2.1", "bad.example", 3600, 0},
		{"192.0.2.1", "example", 0, 0},
		{"192.0.2.1", "notbad.example", 0, 0},
		{"192.0.2.2", "bad.example", 0, 0},
		{"2001:db8:0:1:ffff::", "bad.example", 0, 3600},
		{"2001:db8:0:2::1", "bad.example", 0, 0},
		{"::192.0.2.1", "bad.example", 0, 0},
	} {
		if got := table.Until(addr(tt.client), dnstest.WireName(t, tt.name), tt.now); got != tt.want {
			t.Errorf("%s, %s at %d: until %d, want %d", tt.client, tt.name, tt.now, got, tt.want)
		}
	}
	if other := New(0); other.Until(addr("192.0.2.1"), dnstest.WireName(t, "bad.example"), 0) != 0 {
		t.Error("a new table holds a grant")
	}
	table.Grant(addr("192.0.2.1"), dnstest.WireName(t, "bad.example"), 1000, 0)
	if got := table.Until(addr("192.0.2.1"), dnstest.WireName(t, "bad.example"), 0); got != 3600 {
		t.Errorf("a grant that ends earlier replaced one that ends later: %d", got)
	}
	table.Grant(addr("192.0.2.3"), dnstest.WireName(t, "bad.example"), 10, 10)
	if got := table.Until(addr("192.0.2.3"), dnstest.WireName(t, "bad.example"), 9); got != 0 {
		t.Errorf("a grant that had ended was stored: %d", got)
	}
}

// TestKeyChanges checks that grants survive the change of the key until they end, and that the old key is forgotten then.
func TestKeyChanges(t *testing.T) {
	table, client, bad := New(0), addr("192.0.2.1"), dnstest.WireName(t, "bad.example")
	first := table.keys.Load().current
	table.Grant(client, bad, keyLife+1800, keyLife-1800)
	table.Tend(keyLife)
	if k := table.keys.Load(); k.current == first || k.previous == nil || *k.previous != first {
		t.Fatal("the key was not replaced after a day, or the previous one is not in use")
	}
	table.Grant(client, dnstest.WireName(t, "other.example"), keyLife+3600, keyLife+1)
	for text, want := range map[string]int64{"bad.example": keyLife + 1800, "other.example": keyLife + 3600} {
		if got := table.Until(client, dnstest.WireName(t, text), keyLife+2); got != want {
			t.Errorf("%s: until %d, want %d", text, got, want)
		}
	}
	table.Tend(keyLife + 1800)
	if table.keys.Load().previous != nil {
		t.Error("the previous key was not forgotten with its last grant")
	}
	if got := table.Until(client, bad, keyLife+1800); got != 0 {
		t.Errorf("the grant lasts until %d", got)
	}
	table.Tend(10 * keyLife)
	if k := table.keys.Load(); k.previous != nil {
		t.Error("a key without grants was kept")
	}
}

// TestTendRemovesWhatHasEnded checks that no hash is kept after its grant has ended.
func TestTendRemovesWhatHasEnded(t *testing.T) {
	table := New(0)
	for i := range 100 {
		table.Grant(netip.AddrFrom4([4]byte{10, byte(i), 0, 1}), dnstest.WireName(t, "bad.example"), 100, 0)
	}
	table.Grant(addr("192.0.2.1"), dnstest.WireName(t, "bad.example"), 200, 0)
	table.Tend(100)
	if got := left(table); got != 1 {
		t.Errorf("%d grants are left, want one", got)
	}
	if table.Until(addr("192.0.2.1"), dnstest.WireName(t, "bad.example"), 199) != 200 {
		t.Error("a grant was removed before its end")
	}
	table.Tend(200)
	if got := left(table); got != 0 || table.latest.Load() != 0 {
		t.Errorf("%d grants are left, want none", got)
	}
}

// left returns the number of places that hold something.
func left(table *Table) (n int) {
	for i := range table.buckets {
		b := &table.buckets[i]
		for p := range b.meta {
			if b.meta[p].Load() != 0 || b.hash[p].Load() != 0 {
				n++
			}
		}
	}
	return n
}

// TestNobodyPushesOutOthers checks the bounds of a client and of a network, and that the grants of other networks remain when one makes many.
func TestNobodyPushesOutOthers(t *testing.T) {
	table, bad := New(0), dnstest.WireName(t, "bad.example")
	const others = 2000
	other := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}) }
	for i := range others {
		table.Grant(other(i), bad, 3600, 0)
	}
	held := func(client func(i int) netip.Addr, text func(i int) string, n int) (count int) {
		for i := range n {
			table.Grant(client(i), dnstest.WireName(t, text(i)), 3600+int64(i), 1)
		}
		for i := range n {
			if table.Until(client(i), dnstest.WireName(t, text(i)), 2) != 0 {
				count++
			}
		}
		return count
	}
	one := func(int) netip.Addr { return addr("192.0.2.1") }
	if got := held(one, func(i int) string { return fmt.Sprintf("n%d.example", i) }, 5000); got != perClient {
		t.Errorf("one client holds %d grants, want %d", got, perClient)
	}
	for what, network := range map[string]func(int) netip.Addr{
		"IPv4 /24": func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) },
		"IPv6 /48": func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, byte(i >> 8), byte(i), 15: 1})
		},
	} {
		if got := held(network, func(int) string { return "bad.example" }, 256); got > perNetwork {
			t.Errorf("a network (%s) holds %d grants, want at most %d", what, got, perNetwork)
		}
	}
	kept := 0
	for i := range others {
		if table.Until(other(i), bad, 2) != 0 {
			kept++
		}
	}
	if kept != others { // two on average in each bucket of 64
		t.Errorf("%d of %d other clients lost their grant", others-kept, others)
	}
}

// TestFullTable checks that a full table replaces the grants that end first, and stays correct.
func TestFullTable(t *testing.T) {
	table, bad := New(0), dnstest.WireName(t, "bad.example")
	const clients = 3 * buckets * places
	client := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{byte(11 + i>>16), byte(i >> 8), byte(i), 1}) }
	for i := range clients {
		table.Grant(client(i), bad, 3600+int64(i/1000), 0)
	}
	held := 0
	for i := range clients {
		if until := table.Until(client(i), bad, 1); until == 3600+int64(i/1000) {
			held++
		} else if until != 0 {
			t.Fatalf("client %d has a grant until %d, which is not its own", i, until)
		}
	}
	if held < buckets*places*99/100 || held > buckets*places {
		t.Errorf("%d grants are held, want nearly %d", held, buckets*places)
	}
	if table.Until(client(clients-1), bad, 1) == 0 {
		t.Error("the newest grant was lost")
	}
}

// TestTable compares the table with a map for random actions: a grant is never found for another client or name, or after its end.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type grant struct {
			client netip.Addr
			name   string
		}
		table, model := New(0), map[grant]int64{}
		now := int64(0)
		clients := []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2"), addr("198.51.100.1"), addr("2001:db8::1"), addr("2001:db8:0:1::1")}
		texts := []string{"bad.example", "www.bad.example", "example", "other.test"}
		draw := func() grant {
			return grant{rapid.SampledFrom(clients).Draw(t, "client"), rapid.SampledFrom(texts).Draw(t, "name")}
		}
		wireOf := func(text string) []byte {
			n, err := wire.AppendName(nil, text)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"grant": func(t *rapid.T) {
				g, end := draw(), now+rapid.Int64Range(0, keyLife).Draw(t, "length")
				table.Grant(g.client, wireOf(g.name), end, now)
				model[g] = max(model[g], end)
			},
			"wait": func(t *rapid.T) { now += rapid.Int64Range(1, keyLife).Draw(t, "wait") },
			"tend": func(*rapid.T) { table.Tend(now) },
			"": func(t *rapid.T) {
				for _, client := range clients {
					for _, text := range texts {
						want := int64(0)
						for g, end := range model {
							if g.client == client && end > now && wire.InZone(wireOf(text), wireOf(g.name)) {
								want = max(want, end)
							}
						}
						if got := table.Until(client, wireOf(text), now); got != want {
							t.Fatalf("at %d, %s for %s: until %d, want %d", now, text, client, got, want)
						}
					}
				}
			},
		})
	})
}

// TestReadersNeedNoLock reads while others write: under the race detector, and with a check that no client gets what was granted to another.
func TestReadersNeedNoLock(t *testing.T) {
	table, stop := New(0), make(chan struct{})
	var readers, writers sync.WaitGroup
	own, never, bad := addr("192.0.2.1"), addr("192.0.2.2"), dnstest.WireName(t, "bad.example")
	table.Grant(own, bad, 1<<30, 0)
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if table.Until(own, bad, 1) == 0 || table.Until(never, bad, 1) != 0 {
					t.Error("a grant was lost, or found for another client")
					return
				}
			}
		})
	}
	for w := range 2 {
		writers.Go(func() {
			for i := range 5000 {
				table.Grant(netip.AddrFrom4([4]byte{192, 0, 2, byte(3 + i%100)}), dnstest.WireName(t, fmt.Sprintf("n%d-%d.example", w, i)), 100, 1)
				if i%100 == 0 {
					table.Tend(1)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

func TestNothingIsAllocated(t *testing.T) {
	table, bad := New(0), dnstest.WireName(t, "www.bad.example")
	table.Grant(addr("192.0.2.1"), dnstest.WireName(t, "bad.example"), 100, 0)
	for _, client := range []netip.Addr{addr("192.0.2.1"), addr("192.0.2.9"), addr("2001:db8::1")} {
		if n := testing.AllocsPerRun(100, func() { table.Until(client, bad, 1) }); n != 0 {
			t.Errorf("%v allocations for %s, want none", n, client)
		}
	}
}

func BenchmarkUntil(b *testing.B) {
	table, bad := New(0), dnstest.WireName(b, "www.bad.example")
	for i := range 10_000 {
		table.Grant(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), dnstest.WireName(b, "bad.example"), 100, 0)
	}
	for what, client := range map[string]netip.Addr{"grant": addr("10.0.1.1"), "none": addr("192.0.2.1")} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				table.Until(client, bad, 1)
			}
		})
	}
	b.Run("empty", func(b *testing.B) {
		empty := New(0)
		for b.Loop() {
			empty.Until(addr("10.0.1.1"), bad, 1)
		}
	})
}
