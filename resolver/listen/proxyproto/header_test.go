package proxyproto

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"rempart/resolver/listen/fake"
)

func TestProxyHeader(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("192.0.2.1:1234"), netip.MustParseAddrPort("[2001:db8::1]:53")
	to4, to6 := netip.MustParseAddrPort("198.51.100.2:853"), netip.MustParseAddrPort("[2001:db8::2]:853")
	unknown := fake.ProxyHeader(v4, to4, "")
	unknown[13] = 0
	unix := fake.ProxyHeader(v4, to4, strings.Repeat("x", 204))
	unix[13] = 0x31
	for _, tt := range []struct {
		name   string
		header []byte
		client netip.AddrPort
		local  netip.AddrPort
		ok     bool
	}{
		{"IPv4", fake.ProxyHeader(v4, to4, ""), v4, to4, true},
		{"IPv6", fake.ProxyHeader(v6, to6, ""), v6, to6, true},
		{"with fields", fake.ProxyHeader(v4, to4, "\x01\x00\x02h2"), v4, to4, true},
		{"of the proxy itself", fake.ProxyHeader(netip.AddrPort{}, netip.AddrPort{}, ""), netip.AddrPort{}, netip.AddrPort{}, true},
		{"unknown", unknown, netip.AddrPort{}, netip.AddrPort{}, true},
		{"Unix sockets", unix, netip.AddrPort{}, netip.AddrPort{}, true},
		{"version 1", []byte("PROXY TCP4 192.0.2.1 198.51.100.2 1234 853\r\n"), netip.AddrPort{}, netip.AddrPort{}, false},
		{"too long", fake.ProxyHeader(v4, to4, strings.Repeat("x", 600)), netip.AddrPort{}, netip.AddrPort{}, false},
		{"too short for its family", append([]byte(fake.ProxySignature), commandProxy, 0x11, 0, 3, 1, 2, 3), netip.AddrPort{}, netip.AddrPort{}, false},
		{"another version", append([]byte(fake.ProxySignature), 0x31, 0x11, 0, 0), netip.AddrPort{}, netip.AddrPort{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{bytes.NewReader(append(tt.header, "behind"...)), iotest.OneByteReader(bytes.NewReader(append(tt.header, "behind"...)))} {
				h, err := ReadFrom(r)
				if (err == nil) != tt.ok || tt.ok && (h.Client != tt.client || h.Local != tt.local || h.Size != len(tt.header)) {
					t.Errorf("%+v, %v", h, err)
				}
				if rest, _ := io.ReadAll(r); tt.ok && string(rest) != "behind" {
					t.Errorf("%q is left behind the header", rest)
				}
			}
			if _, err := ReadFrom(bytes.NewReader(tt.header[:len(tt.header)-1])); err == nil {
				t.Error("a part of the header was accepted")
			}
		})
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add(fake.ProxyHeader(netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2"), "x"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		if h, err := Read(buf); err == nil && (h.Size > len(buf) || h.Client.IsValid() != h.Local.IsValid()) {
			t.Errorf("%+v", h)
		}
	})
}
