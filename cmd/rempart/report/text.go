package report

import (
	"fmt"
	"strings"
	"time"
)

// Count returns a number and a noun, in the plural unless the number is 1: "2 names", "2 entries", "2 days".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok && stem != "" && !strings.ContainsRune("aeiou", rune(stem[len(stem)-1])) {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Age returns a duration in words: "3 minutes".
func Age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return Count(max(0, int(d/time.Second)), "second")
	case d < 2*time.Hour:
		return Count(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return Count(int(d/time.Hour), "hour")
	}
	return Count(int(d/(24*time.Hour)), "day")
}

// Milliseconds returns a duration in milliseconds with two significant digits or more: "0.25 ms", "4.2 ms", "120 ms".
func Milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 0.995:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 9.95:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// Bytes returns a number of bytes in words: "12 kB".
func Bytes(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d MB", n/1_000_000)
}

// Moment returns a time as text, in UTC (RFC 3339).
func Moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// clockTolerance is how much later than now a set may have been made, because the clocks of two machines differ.
const clockTolerance = time.Hour

// ClockIsWrong reports whether a set was made later than now, the time of this machine. A machine without a battery for its clock begins in the past.
func ClockIsWrong(now, created time.Time) bool { return created.After(now.Add(clockTolerance)) }
