package listen

import (
	"net"
	"net/netip"
	"runtime"
	"testing"

	"rempart/resolver/listen/fake"

	"golang.org/x/net/ipv4"
)

// TestFloodFromManyNetworks sends queries from 65,536 networks at once, above their limit, through one worker. Honest networks lose no answer, and the heap does not
// grow. The networks are halves of /24, because only 127.0.0.0/8 can be asked from.
func TestFloodFromManyNetworks(t *testing.T) {
	if testing.Short() {
		t.Skip("it sends hundreds of thousands of queries")
	}
	const (
		networks = 1 << 16
		rounds   = 2
		burst    = 64 // networks of the flood between two honest ones
	)
	config := everyone(1024, 1)
	config.IPv4Bits = 25
	s, _ := serve(t, &fake.Handler{}, Config{Workers: 1, Limits: config}, nil)
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addrOf(s)))
	sender, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	go func() { // reads the answers to the flood
		for buf := make([]byte, 2048); ; {
			if _, _, err := sender.ReadFrom(buf); err != nil {
				return
			}
		}
	}()
	from, packet, before := ipv4.NewPacketConn(sender), fake.Query(t, 1, "a.example"), heap()
	honest := 0
	for range rounds {
		for i := range networks {
			source := net.IPv4(127, byte(i>>8), byte(i), 2)
			for range 2 { // the second one is above the limit
				if _, err := from.WriteTo(packet, &ipv4.ControlMessage{Src: source}, to); err != nil {
					t.Fatal(err)
				}
			}
			if i%burst != 0 {
				continue
			}
			c := dialFrom(t, netip.AddrFrom4([4]byte{127, byte(honest >> 8), byte(honest), 200}).String(), addrOf(s))
			if m := ask(t, c, uint16(i), "honest.example"); m.Truncated {
				t.Fatal("an honest network lost an answer")
			}
			c.Close()
			honest++
		}
	}
	if n := metric(t, s, "rempart_udp_answers_limited_total", "answers", "truncated"); n < networks*rounds/2 {
		t.Errorf("%v answers to the flood were limited, want most of %d", n, networks*rounds)
	}
	grown := heap() - before
	if grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	t.Logf("%d honest networks were answered; the heap grew by %d bytes", honest, grown)
}

// heap returns the bytes of the heap that are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
