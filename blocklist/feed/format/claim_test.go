package format

import (
	"testing"
	"time"

	"rempart/blocklist"
)

func TestTimes(t *testing.T) {
	for text, want := range map[string]string{
		"2026-01-02":                        "2026-01-02T00:00:00Z",
		"2026-01-02 03:04:05":               "2026-01-02T03:04:05Z",
		"2026-01-02T03:04:05Z":              "2026-01-02T03:04:05Z",
		"2026-01-02 03:04:05 UTC":           "2026-01-02T03:04:05Z",
		"2026-01-02T03:04:05.678901Z":       "2026-01-02T03:04:05Z",
		"2026-01-02T03:04:05+01:00":         "2026-01-02T02:04:05Z",
		"2026-01-02T03:04:05.5-0130":        "2026-01-02T04:34:05Z",
		"1767323045":                        "2026-01-02T03:04:05Z",
		"1767323045.25":                     "2026-01-02T03:04:05Z",
		"1767323045000":                     "2026-01-02T03:04:05Z",
		"2026-02-30":                        "",
		"2026-01-02x":                       "",
		"2026-01-02T03:04":                  "",
		"2026-01-02T03:04:05+1:00":          "",
		"2026-01-02T03:04:05+99:00":         "",
		"2026-01-02T03:04:05-":              "",
		"02/01/2026":                        "",
		"soon":                              "",
		"-1":                                "",
		"0001-01-01T00:00:00Z":              "",
		"123456789012":                      "",
		"99999999999999999999":              "",
		"2026-01-02T03:04:05+01:00 or then": "",
	} {
		at, ok := timeOf([]byte(text))
		got := ""
		if ok {
			got = time.Unix(at, 0).UTC().Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	for _, none := range []string{"", "null", "None", "0"} {
		if at, ok := timeOf([]byte(none)); at != 0 || !ok {
			t.Errorf("timeOf(%q) = %d, %v; want 0, true", none, at, ok)
		}
	}
}

func TestCategories(t *testing.T) {
	for text, want := range map[string]blocklist.Category{
		"":                                       blocklist.Malicious,
		"malicious-activity":                     blocklist.Malicious,
		"malware_download":                       blocklist.Malware,
		"Phishing":                               blocklist.Phishing,
		"stalkerware":                            blocklist.Stalkerware,
		"botnet_cc":                              blocklist.Botnet,
		"OCD - Command and Control [C2]":         blocklist.Botnet,
		"Financial fraud":                        blocklist.Scam,
		"['malware', 'phishing']":                blocklist.Malicious, // it is unclear which of the two applies
		"Payload delivery":                       blocklist.Malware,
		`misp-galaxy:threat-actor="Some Spider"`: blocklist.Malicious,
	} {
		var c claim
		c.set(threatRole, []byte(text))
		if got := c.category(); got != want || c.withheld {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
