package report

import "testing"

func TestCountMakesPlurals(t *testing.T) {
	t.Parallel()
	for noun, want := range map[string]string{"name": "2 names", "entry": "2 entries", "day": "2 days", "key": "2 keys"} {
		if got := Count(2, noun); got != want || Count(1, noun) != "1 "+noun {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
