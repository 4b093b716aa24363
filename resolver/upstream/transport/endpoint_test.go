package transport

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseEndpoint(t *testing.T) {
	tests := []struct{ in, want string }{
		{"udp://192.0.2.1", "udp://192.0.2.1"},
		{"192.0.2.1", "udp://192.0.2.1"},
		{"192.0.2.1:5353", "udp://192.0.2.1:5353"},
		{"2001:db8::1", "udp://[2001:db8::1]"},
		{"[2001:db8::1]", "udp://[2001:db8::1]"},
		{"[2001:db8::1]:53", "udp://[2001:db8::1]"},
		{"[fe80::1%eth0]:5353", "udp://[fe80::1%eth0]:5353"},
		{"UDP://[2001:db8::1]:5353", "udp://[2001:db8::1]:5353"},
		{"::ffff:192.0.2.1", "udp://192.0.2.1"},
		{"tcp://192.0.2.1", "tcp://192.0.2.1"},
		{"tls://192.0.2.1", "tls://192.0.2.1"},
		{"tls://192.0.2.1:53", "tls://192.0.2.1:53"},
		{"tls://9.9.9.9:853#DNS.quad9.net", "tls://9.9.9.9#dns.quad9.net"},
		{"tls://[2620:fe::fe]#dns.quad9.net", "tls://[2620:fe::fe]#dns.quad9.net"},
	}
	for _, tt := range tests {
		got, err := ParseEndpoint(tt.in)
		if err != nil {
			t.Errorf("ParseEndpoint(%q): %v", tt.in, err)
			continue
		}
		if got.String() != tt.want {
			t.Errorf("%q: %s, want %s", tt.in, got, tt.want)
		}
		if again, err := ParseEndpoint(got.String()); err != nil || again != got {
			t.Errorf("%q: read back as %v, %v", tt.in, again, err)
		}
	}
}

func TestParseEndpointRefuses(t *testing.T) {
	tests := []struct{ in, reason string }{
		{"", "must be an IP address"},
		{"dns.quad9.net", "must be an IP address"},
		{"tls://dns.quad9.net", "only be resolved by asking an upstream"},
		{"https://192.0.2.1/dns-query", "udp, tcp or tls"},
		{"https://dns.quad9.net/dns-query", "write tls://ADDRESS:853#dns.quad9.net"},
		{"https://DNS.quad9.net:5053/dns-query", "write tls://ADDRESS:853#dns.quad9.net"},
		{"https://192.0.2.1/dns-query", "write tls://192.0.2.1:853"},
		{"https://[2001:db8::1]:443/dns-query{?dns}", "write tls://[2001:db8::1]:853"},
		{"HTTPS:///dns-query", "write tls://ADDRESS:853#NAME"},
		{"h3://dns.example/dns-query", "write tls://ADDRESS:853#dns.example"},
		{"quic://dns.example:853", "write tls://ADDRESS:853#dns.example"},
		{"sdns://AQcAAAAAAAAABzguOC44Ljg", "write tls://ADDRESS:853#"},
		{"dot://192.0.2.1", "udp, tcp or tls"},
		{"tls://dns.quad9.net:853", "tls://192.0.2.1#dns.quad9.net"},
		{"tls://dns.quad9.net#dns.quad9.net", "tls://192.0.2.1#dns.quad9.net"},
		{"tls://9.9.9.9#dns.quad9.net:853", "tls://9.9.9.9:853#dns.quad9.net"},
		{"9.9.9.9@853", "9.9.9.9:853"},
		{"tls://9.9.9.9@853#dns.quad9.net", "9.9.9.9:853"},
		{"1.2.3", "must be an IP address"},
		{"1.2.3.4.5", "tls://192.0.2.1#dns.example"},
		{"udp://192.0.2.1:0", "port 0"},
		{"udp://192.0.2.1:99999", "must be an IP address"},
		{"udp://192.0.2.1/", "must be an IP address"},
		{"udp://0.0.0.0", "one host"},
		{"udp://[ff02::fb]", "one host"},
		{"udp://192.0.2.1#name", "only tls"},
		{"tls://192.0.2.1#", "not a host name"},
		{"tls://192.0.2.1#a b", "not a host name"},
		{"tls://192.0.2.1#a..b", "not a host name"},
		{strings.Repeat("1", 1000), "longer than"},
	}
	for _, tt := range tests {
		if _, err := ParseEndpoint(tt.in); err == nil || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%q: %v, want an error with %q", tt.in, err, tt.reason)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"udp://192.0.2.1", "tls://[::1%a]:1#b.c", "tcp://::1", "::ffff:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEndpoint(s)
		if err != nil {
			return
		}
		again, err := ParseEndpoint(e.String())
		if err != nil || again != e {
			t.Fatalf("%q: %v, then %v, %v", s, e, again, err)
		}
	})
}

func TestResolvConf(t *testing.T) {
	const file = `# made by hand
; so was this
search example.net
nameserver 192.0.2.1
nameserver	2001:db8::1   # comment
nameserver fe80::1%eth0
nameserver 192.0.2.1
options edns0
nameserver
 nameserver 127.0.0.53
`
	got, err := ResolvConf(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	want := []Endpoint{
		{Addr: netip.MustParseAddrPort("192.0.2.1:53")},
		{Addr: netip.MustParseAddrPort("[2001:db8::1]:53")},
		{Addr: netip.MustParseAddrPort("[fe80::1%eth0]:53")},
		{Addr: netip.MustParseAddrPort("127.0.0.53:53")},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

func TestResolvConfSkipsInvalidServers(t *testing.T) {
	got, err := ResolvConf(strings.NewReader("nameserver ns.example\nnameserver 0.0.0.0\nnameserver 192.0.2.1\n"))
	if len(got) != 1 || got[0].String() != "udp://192.0.2.1" {
		t.Errorf("endpoints %v", got)
	}
	if err == nil || !strings.Contains(err.Error(), "ns.example") || !strings.Contains(err.Error(), "0.0.0.0") {
		t.Errorf("error %v", err)
	}
	if _, err := ResolvConf(strings.NewReader(strings.Repeat("#\n", 1<<16))); err == nil {
		t.Error("a file that is too long was read without an error")
	}
}
