package units

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90m": 90 * time.Minute, "36h": 36 * time.Hour, "7d": 7 * day, "1w": 7 * day, "2w3d": 17 * day, "1d12h": 36 * time.Hour,
		"1.5d": 36 * time.Hour, " 1d ": day, "200us": 200 * time.Microsecond, "1w1h30m": 7*day + 90*time.Minute, "-5m": -5 * time.Minute,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "w", "1", "7 days", "-1d", "1d-1h", "1e3d", "NaNd", "1d1w", "1d1d", "20000w", "99999999d", "106751d99h", "1y", "1x", "0x1d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"67108864": 64 << 20, "64M": 64 << 20, "64m": 64 << 20, "64MiB": 64 << 20, "64 MiB": 64 << 20, "64mib": 64 << 20, "64MB": 64e6,
		"1G": 1 << 30, "1k": 1 << 10, "1kB": 1000, "2T": 2 << 40, "10b": 10, "0": 0, " 5 ": 5,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "-1M", "1.5G", "1X", "1MM", "1ibm", "1i", "9999999T", "64Mbit", "9223372036854775808"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}
