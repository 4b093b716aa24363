package dnstest

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
)

// TestFreeAddr takes many addresses: all are different, each can be opened over UDP and TCP more than once, and is free again after the end of its test.
func TestFreeAddr(t *testing.T) {
	seen := map[string]bool{}
	for range 500 {
		addr := FreeAddr(t)
		if seen[addr] {
			t.Fatalf("%s was returned twice", addr)
		}
		seen[addr] = true
		for range 2 {
			if err := unused(addr); err != nil {
				t.Error(err)
			}
		}
	}
	if runtime.GOOS != "linux" {
		return
	}
	var port int
	t.Run("test that reserves addresses", func(t *testing.T) {
		port = int(netip.MustParseAddrPort(FreeAddr(t)).Port())
		if held, err := reserve(port); err == nil {
			held.Close()
			t.Errorf("port %d is not reserved", port)
		}
	})
	held, err := reserve(port)
	if err != nil {
		t.Fatalf("port %d is still reserved after the end of its test: %v", port, err)
	}
	held.Close()
}

// TestUnusedDetectsPortInUse checks that unused returns an error for a port that is in use over UDP or TCP, on one address or on all addresses.
func TestUnusedDetectsPortInUse(t *testing.T) {
	for _, on := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		stream, err := net.Listen("tcp4", on)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		packet, err := net.ListenPacket("udp4", on)
		if err != nil {
			t.Fatal(err)
		}
		defer packet.Close()
		for _, taken := range []string{stream.Addr().String(), packet.LocalAddr().String()} {
			addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), netip.MustParseAddrPort(taken).Port()).String()
			if err := unused(addr); err == nil {
				t.Errorf("%s is in use, but unused returned no error", taken)
			}
		}
	}
}
