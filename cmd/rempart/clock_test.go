package main

import (
	"strings"
	"testing"
	"time"
)

// TestWrongClockIsReported checks that a clock that is behind the set is reported, and that small differences and a missing set are not.
func TestWrongClockIsReported(t *testing.T) {
	created := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for now, wrong := range map[time.Time]bool{created.Add(-30 * time.Minute): false, created.Add(time.Hour): false, time.Unix(0, 0): true} {
		why := clockProblem(now, created)
		if (why != "") != wrong || wrong && (!strings.Contains(why, "1970-01-01T00:00:00Z") || !strings.Contains(why, "2026-12-01T12:00:00Z")) {
			t.Errorf("at %s: %q", now, why)
		}
	}
	if why := clockProblem(time.Unix(0, 0), time.Time{}); why != "" {
		t.Errorf("without a set: %q", why)
	}
}
