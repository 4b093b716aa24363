package report

import (
	"testing"
	"time"
)

func TestCountMakesPlurals(t *testing.T) {
	t.Parallel()
	for noun, want := range map[string]string{"name": "2 names", "entry": "2 entries", "day": "2 days", "key": "2 keys"} {
		if got := Count(2, noun); got != want || Count(1, noun) != "1 "+noun {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMillisecondsKeepsTwoDigits(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		250 * time.Microsecond: "0.25 ms", 999 * time.Microsecond: "1.0 ms", 4200 * time.Microsecond: "4.2 ms", 9990 * time.Microsecond: "10 ms",
		120 * time.Millisecond: "120 ms", 1500 * time.Millisecond: "1500 ms",
	} {
		if got := Milliseconds(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
