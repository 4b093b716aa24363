package transport

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Two hashes of keys.
const (
	pinA = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	pinB = "CAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
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
		{"udp://192.0.2.1/", "udp://192.0.2.1"},
		{"udp://Resolver.example:5353", "udp://resolver.example:5353"},
		{"tls://dns.quad9.net", "tls://dns.quad9.net"},
		{"tls://dns.quad9.net:853", "tls://dns.quad9.net"},
		{"tls://dns.quad9.net:8853#other.example", "tls://dns.quad9.net:8853#other.example"},
		{"tls://dns.quad9.net#dns.quad9.net", "tls://dns.quad9.net"},
		{"tls://dns.quad9.net@9.9.9.9", "tls://dns.quad9.net@9.9.9.9"},
		{"tls://dns.quad9.net:8853@[2620:fe::fe]", "tls://dns.quad9.net:8853@2620:fe::fe"},
		{"https://dns.quad9.net/dns-query", "https://dns.quad9.net/dns-query"},
		{"https://DNS.quad9.net:5053/dns-query{?dns}", "https://dns.quad9.net:5053/dns-query"},
		{"https://dns.example", "https://dns.example/dns-query"},
		{"https://dns.example/", "https://dns.example/dns-query"},
		{"https://dns.example/a/B?c=d@2001:db8::1", "https://dns.example/a/B?c=d@2001:db8::1"},
		{"https://[2001:db8::1]:443/dns-query", "https://[2001:db8::1]/dns-query"},
		{"HTTPS://192.0.2.1/q#dns.example", "https://192.0.2.1/q#dns.example"},
		{"quic://dns.example:853", "quic://dns.example"},
		{"quic://192.0.2.1:8853", "quic://192.0.2.1:8853"},
		{"udp://192.0.2.1#weight=3", "udp://192.0.2.1#weight=3"},
		{"tls://192.0.2.1#&weight=100", "tls://192.0.2.1#weight=100"},
		{"tls://192.0.2.1#dns.example&pin-sha256=" + pinB + "&pin-sha256=" + pinA + "&pin-sha256=" + pinA, "tls://192.0.2.1#dns.example&pin-sha256=" + pinA + "&pin-sha256=" + pinB},
		{"quic://dns.example@192.0.2.1#pin-sha256=" + pinA + "&weight=2", "quic://dns.example@192.0.2.1#pin-sha256=" + pinA + "&weight=2"},
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
		{"", "neither an IP address"},
		{"dns.quad9.net", "write tls://dns.quad9.net"},
		{"dns.quad9.net:53", "write tls://dns.quad9.net"},
		{"HTTPS:///dns-query", "neither an IP address"},
		{"h3://dns.example/dns-query", "write https://dns.example/dns-query"},
		{"doq://dns.example:853", "write quic://dns.example:853"},
		{"dot://192.0.2.1", "write tls://192.0.2.1"},
		{"http://dns.example/dns-query", "write https://"},
		{"sdns://AQcAAAAAAAAABzguOC44Ljg", "DNS stamp"},
		{"ftp://192.0.2.1", "udp, tcp, tls, https or quic"},
		{"tls://9.9.9.9#dns.quad9.net:853", "tls://9.9.9.9:853#dns.quad9.net"},
		{"9.9.9.9@853", "9.9.9.9:853"},
		{"tls://9.9.9.9@853#dns.quad9.net", "9.9.9.9:853"},
		{"tls://9.9.9.9@9.9.9.9", "an address already"},
		{"tls://dns.example@ns.example", "an IP address must follow after @"},
		{"https://dns.example@192.0.2.1/dns-query", "at the end of the URL"},
		{"tls://dns.example@0.0.0.0", "one host"},
		{"tls://dns.example:0", "is not a port"},
		{"tls://dns.example:99999", "is not a port"},
		{"tls://user:secret@192.0.2.1", "a password are not possible"},
		{"tls//192.0.2.1", "followed by ://"},
		{"tls:/192.0.2.1", "followed by ://"},
		{"udp:192.0.2.1", "followed by ://"},
		{"192.0.2.1;192.0.2.2", "separated by commas"},
		{`"udp://192.0.2.1"`, "quotation marks"},
		{"1.2.3", "neither an IP address"},
		{"udp://1.2.3", "neither an IP address"},
		{"1.2.3.4.5", "neither an IP address"},
		{"udp://192.0.2.1:0", "port 0"},
		{"udp://192.0.2.1:99999", "neither an IP address"},
		{"tls://192.0.2.1/dns-query", "only https has one"},
		{"https://dns.example/{a}", "may not contain"},
		{"https://dns.example/a%zz", "two hexadecimal digits"},
		{"udp://0.0.0.0", "one host"},
		{"udp://[ff02::fb]", "one host"},
		{"udp://192.0.2.1#name", "only tls, https and quic"},
		{"udp://192.0.2.1#pin-sha256=" + pinA, "only tls, https and quic"},
		{"tls://192.0.2.1#pin-sha256=AAAA", "44 characters"},
		{"tls://192.0.2.1#weight=0", "from 1 to 100"},
		{"tls://192.0.2.1#weight=101", "from 1 to 100"},
		{"tls://192.0.2.1#a&b", "not known after #"},
		{"tls://192.0.2.1#", "not a host name"},
		{"tls://192.0.2.1#a b", "a space"},
		{"tls://düs.example", "not ASCII"},
		{"tls://192.0.2.1#a..b", "not a host name"},
		{strings.Repeat("1", 2000), "longer than"},
	}
	for _, tt := range tests {
		if _, err := ParseEndpoint(tt.in); err == nil || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%q: %v, want an error with %q", tt.in, err, tt.reason)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"udp://192.0.2.1", "tls://[::1%a]:1#b.c", "tcp://::1", "::ffff:1.2.3.4", "https://a.b/c?d@::1#e&weight=2", "quic://a#&pin-sha256=" + pinA} {
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
