package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"rempart/internal/web/statement"
)

// TestSettingsChangeTheStatement checks that a changed setting changes the privacy statement.
func TestSettingsChangeTheStatement(t *testing.T) {
	t.Parallel()
	texts, err := statement.Load()
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "bad.example")
	settings := func() map[string]string {
		return map[string]string{"UPSTREAMS": "udp://127.0.0.1:9", "DATA_DIR": t.TempDir(), "CLIENTS": "0.0.0.0/0"}
	}
	of := func(s *server) string {
		facts := s.statement()
		return fmt.Sprint(texts["fr"].Write(&facts), texts["en"].Write(&facts), statement.SecurityTxt(facts.Contact, s.started))
	}
	usual := of(newTestServer(t, settings()))
	for name, change := range map[string]map[string]string{
		"mode":         {"MODE": "observe"},
		"answer":       {"BLOCK_ANSWER": "nxdomain"},
		"list":         {"LISTS": list},
		"organisation": {"ORGANISATION": "Another"},
		"contact":      {"CONTACT": "mailto:abuse@isp.example"},
		"upstream":     {"UPSTREAMS": "udp://127.0.0.2:9"},
		"encryption":   {"UPSTREAMS": "tls://127.0.0.1:9"},
		"dnstap":       {"DNSTAP": "unix:/nonexistent/dnstap.sock"},
		"sample":       {"DNSTAP": "unix:/nonexistent/dnstap.sock", "DNSTAP_SAMPLE": "7"},
		"keyed":        {"DNSTAP": "unix:/nonexistent/dnstap.sock", "DNSTAP_CLIENTS": "keyed"},
		"continue":     {"CONTINUE_CATEGORIES": "scam"},
	} {
		changed := settings()
		for variable, value := range change {
			changed[variable] = value
		}
		if of(newTestServer(t, changed)) == usual {
			t.Errorf("%s: %v does not change the statement", name, change)
		}
	}
}
