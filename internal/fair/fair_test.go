package fair

import "testing"

// TestPlaces lets one key take most places, and leaves some for others whatever it asks for.
func TestPlaces(t *testing.T) {
	p := New[string](640)
	greedy := 0
	for range 1000 {
		if p.Take("greedy") {
			greedy++
		}
	}
	if greedy != 480 {
		t.Errorf("one key took %d of 640 places", greedy)
	}
	for _, key := range []string{"a", "b", "c"} {
		for i := range 10 {
			if !p.Take(key) {
				t.Errorf("%s got no place after %d", key, i)
			}
		}
	}
	for p.Take("b") {
	}
	if n := p.Taken(); n != 510 {
		t.Errorf("%d places are taken: the last quarter is for keys with few", n)
	}
	for range greedy {
		p.Return("greedy")
	}
	if !p.Take("b") || p.Taken() != 510-greedy+1 {
		t.Errorf("%d places are taken after most were given back", p.Taken())
	}
}

// TestBound never gives out more places than there are.
func TestBound(t *testing.T) {
	for _, size := range []int{1, 2, 5} {
		p := New[int](size)
		taken := 0
		for key := range 100 {
			if p.Take(key) {
				taken++
			}
		}
		if taken != size {
			t.Errorf("%d of %d places", taken, size)
		}
	}
}
