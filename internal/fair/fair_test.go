package fair

import (
	"net/netip"
	"testing"
)

// TestOneKeyLeavesPlacesForOthers checks that one key can take most places but never all: other keys still get places.
func TestOneKeyLeavesPlacesForOthers(t *testing.T) {
	p := New[string](640, 160)
	greedy := 0
	for range 1000 {
		if p.Take("greedy", "greedy") {
			greedy++
		}
	}
	if greedy != 480 {
		t.Errorf("one key took %d of 640 places", greedy)
	}
	for _, key := range []string{"a", "b", "c"} {
		for i := range 10 {
			if !p.Take(key, key) {
				t.Errorf("%s got no place after %d", key, i)
			}
		}
	}
	for p.Take("b", "b") {
	}
	if n := p.Taken(); n != 510 {
		t.Errorf("%d places are taken, want 510: the last quarter is for keys that have few places", n)
	}
	for range greedy {
		p.Return("greedy", "greedy")
	}
	if !p.Take("b", "b") || p.Taken() != 510-greedy+1 {
		t.Errorf("%d places are taken after most were given back", p.Taken())
	}
}

// TestTakenPlacesAreBounded checks that no more places are taken than there are.
func TestTakenPlacesAreBounded(t *testing.T) {
	for _, size := range []int{1, 2, 5} {
		p := New[int](size, size/4)
		taken := 0
		for key := range 100 {
			if p.Take(key, key) {
				taken++
			}
		}
		if taken != size {
			t.Errorf("%d of %d places", taken, size)
		}
	}
}

// TestOneGroupLeavesPlacesForOthers checks that the keys of one group can take most places but never all: other groups still get places.
func TestOneGroupLeavesPlacesForOthers(t *testing.T) {
	const size = 640
	p := New[int](size, size/4)
	for key := 1; key <= 256; key++ {
		for range 100 {
			p.Take(key, -1)
		}
	}
	if n := p.Taken(); n != size-size/8 {
		t.Errorf("one group took %d of %d places", n, size)
	}
	for key := 1001; key <= 1020; key++ {
		if !p.Take(key, -key/10) {
			t.Errorf("a key of another group got no place")
		}
	}
	for key := 1; key <= 256; key++ {
		for p.by[key] > 0 {
			p.Return(key, -1)
		}
	}
	if n := p.Taken(); n != 20 || len(p.by) != 20+3 {
		t.Errorf("%d places are taken, under %d keys and groups", n, len(p.by))
	}
}

func TestClient(t *testing.T) {
	for addr, want := range map[string][2]string{
		"192.0.2.7":         {"192.0.2.7/32", "192.0.2.0/24"},
		"2001:db8:1:2:3::4": {"2001:db8:1:2::/64", "2001:db8:1::/48"},
	} {
		client, network := Client(netip.MustParseAddr(addr))
		if got := [2]string{client.String(), network.String()}; got != want {
			t.Errorf("Client(%s) = %v, want %v", addr, got, want)
		}
	}
}
