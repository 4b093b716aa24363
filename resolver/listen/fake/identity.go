package fake

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"rempart/internal/dnstest"
)

// Loopback returns an address of loopback with any port.
func Loopback() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")} }

// Identity returns the certificate of a test's server, and the settings of a client that trusts it.
func Identity(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	cert := dnstest.SelfSigned(t, "dns.example")
	return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: dnstest.Trusting(cert), ServerName: "dns.example"}
}
