package main

import (
	"encoding/json"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// TestLogAsJSON checks that REMPART_LOG=json makes each line of the log a JSON object.
func TestLogAsJSON(t *testing.T) {
	t.Parallel()
	p := start(t, upstreams(dnstest.NewUpstream(t, nil)), "REMPART_LOG=json")
	p.Stop(t)
	lines := strings.Split(strings.TrimSpace(p.Stderr()), "\n")
	for _, line := range lines {
		var record struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(line), &record); err != nil || record.Time == "" || record.Level == "" || record.Msg == "" {
			t.Errorf("%s: %v", line, err)
		}
	}
	if len(lines) < 2 {
		t.Errorf("the log has %d lines", len(lines))
	}
}
