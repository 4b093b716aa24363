package dnstest

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// WireName returns the canonical wire format (RFC 4034 section 6.2) of a name in text form, with or without the trailing dot.
func WireName(t testing.TB, text string) []byte {
	t.Helper()
	buf := make([]byte, 255) // the longest name (RFC 1035 section 2.3.4)
	n, err := dns.PackDomainName(strings.ToLower(dns.Fqdn(text)), buf, 0, nil, false)
	if err != nil {
		t.Fatalf("dnstest: the name %q: %v", text, err)
	}
	return buf[:n:n]
}
