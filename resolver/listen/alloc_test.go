//go:build linux && !race

package listen

import (
	"net"
	"net/netip"
	"testing"

	"rempart/resolver/listen/fake"
)

// TestBatchAllocatesNothing checks that receiving, answering and sending a batch allocates no memory.
func TestBatchAllocatesNothing(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		s, err := New(Config{
			Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}, Workers: 1, Limits: everyone(1<<20, 1<<20),
			NewHandler: func() Handler { return &fake.Handler{} },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		const batch = 10
		w := s.workers[0]
		c := fake.Dial(t, "udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.Addrs()[0].Port()).String()).(*net.UDPConn)
		packet, buf := fake.Query(t, 1, "a.example"), make([]byte, 4096)
		allocs := testing.AllocsPerRun(100, func() {
			for range batch {
				if _, err := c.Write(packet); err != nil {
					t.Error(err)
				}
			}
			n, err := w.receiveBatch()
			if err != nil || n != batch {
				t.Errorf("received a batch of %d queries (%v), want all", n, err)
			}
			for i := range w.queries[:n] {
				w.queries[i].Parse(0)
				fake.Answer(&w.queries[i])
			}
			w.answer(w.queries[:n])
			for range batch {
				if _, err := c.Read(buf); err != nil {
					t.Error(err)
				}
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations per batch, want none", addr, allocs)
		}
	}
}
