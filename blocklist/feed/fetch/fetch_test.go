package fetch

import (
	"testing"
	"time"
)

func TestRetryAfterParsing(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "0": 0, "-5": 0, "soon": 0, "99999999": maxRetryAfter, "99999999999999999999": 0,
		"Sat, 28 Nov 2026 12:05:00 GMT": 5 * time.Minute, "Sat, 28 Nov 2026 11:00:00 GMT": 0, "Sat, 28 Nov 2099 12:05:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}
