//go:build !race

package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"rempart/blocklist"
	"rempart/internal/wire"
	"rempart/resolver"
	"rempart/resolver/cache"
	"rempart/resolver/listen"
	"rempart/resolver/upstream"
	"rempart/resolver/upstream/transport"
)

// record is the answer of upstreamOf: an address for the name in the question.
var record = []byte("\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02\x01")

// upstreamOf answers every query with one address, and allocates nothing.
func upstreamOf(t testing.TB) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			end := wire.HeaderLen + wire.NameLen(buf[wire.HeaderLen:n]) + 4
			opt := string(buf[end:n]) // small: on the stack
			out := append(append(buf[:end], record...), opt...)
			out[2] |= 0x80
			binary.BigEndian.PutUint16(out[6:], 1)
			if _, err := conn.WriteToUDPAddrPort(out, from); err != nil {
				return
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// forwarder starts a server that forwards to an upstream, and returns the address of the server.
func forwarder(t testing.TB, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	pool, err := upstream.New(upstream.Config{Endpoints: []transport.Endpoint{{Addr: to}}})
	if err != nil {
		t.Fatal(err)
	}
	view, err := View([]string{"listed.example"})
	if err != nil {
		t.Fatal(err)
	}
	store, err := cache.New(64 << 20)
	if err != nil {
		t.Fatal(err)
	}
	r, err := resolver.New(resolver.Config{Set: blocklist.NewSet(view), Cache: store, Upstreams: pool})
	if err != nil {
		t.Fatal(err)
	}
	s, err := listen.New(listen.Config{
		Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Workers: 1, NewHandler: func() listen.Handler { return r.NewWorker() },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- s.Run(ctx) }()
	poolCtx, end := context.WithCancel(context.Background())
	go func() { ended <- pool.Run(poolCtx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		r.Close()
		end()
		<-ended
	})
	return s.Addrs()[0]
}

// TestForwardedQueryAllocations checks that a forwarded query makes at most four heap allocations, its cached answer included.
func TestForwardedQueryAllocations(t *testing.T) {
	const (
		queries = 4000
		most    = 4
	)
	at := forwarder(t, upstreamOf(t))
	var names []string
	for i := range 2 * queries {
		names = append(names, fmt.Sprintf("n%d.example.com", i))
	}
	packets, err := Queries(names, true)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 2048)
	const window = 32
	send := func(packets [][]byte) {
		for i := 0; i < len(packets); i += window {
			for _, p := range packets[i : i+window] {
				if _, err := c.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			for range window {
				n, err := c.Read(buf)
				if err != nil || n < 12 || wire.Rcode(buf[:n]) != 0 {
					t.Fatalf("answer %x, error %v, want NOERROR", buf[:n], err)
				}
			}
		}
	}
	send(packets[:queries])
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	send(packets[queries:])
	runtime.ReadMemStats(&after)
	perQuery := float64(after.Mallocs-before.Mallocs) / queries
	t.Logf("%.2f allocations per forwarded query", perQuery)
	if perQuery > most {
		t.Errorf("%.2f allocations per forwarded query, want at most %d", perQuery, most)
	}
}
