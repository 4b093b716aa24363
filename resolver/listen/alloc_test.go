//go:build linux && !race

package listen

import (
	"io"
	"net"
	"net/netip"
	"testing"
)

// TestBatchAllocatesNothing checks that receiving, answering and sending a batch allocates no memory.
func TestBatchAllocatesNothing(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		s, err := New(Config{
			Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}, Workers: 1, Limits: everyone(1<<20, 1<<20),
			NewHandler: func() Handler { return &fakeHandler{} },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		const batch = 10
		w := s.workers[0]
		c := dial(t, "udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.Addrs()[0].Port()).String()).(*net.UDPConn)
		packet, buf := query(t, 1, "a.example"), make([]byte, 4096)
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
				answer(&w.queries[i])
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

// TestStreamAllocatesNothing checks that queries over an open connection allocate no memory.
func TestStreamAllocatesNothing(t *testing.T) {
	s, _ := serve(t, &fakeHandler{}, Config{Workers: 1}, nil)
	c := dial(t, "tcp", addrOf(s))
	frames := framed(query(t, 1, "a.example"), query(t, 2, "b.example"))
	answers := make([]byte, len(frames)+2*len("\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x7f\x00\x00\x01"))
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := c.Write(frames); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, answers); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for two queries, want none", allocs)
	}
}
