package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// families answers with six addresses of the family that the question asks for.
func families(q *dnstest.Query) {
	switch q.Msg.Question[0].Qtype {
	case dns.TypeA:
		dnstest.Answer("@ 300 IN A 192.0.2.1", "@ 300 IN A 192.0.2.2", "@ 300 IN A 192.0.2.3",
			"@ 300 IN A 192.0.2.4", "@ 300 IN A 192.0.2.5", "@ 300 IN A 192.0.2.6")(q)
	case dns.TypeAAAA:
		dnstest.Answer("@ 300 IN AAAA 2001:db8::1", "@ 300 IN AAAA 2001:db8::2", "@ 300 IN AAAA 2001:db8::3",
			"@ 300 IN AAAA 2001:db8::4", "@ 300 IN AAAA 2001:db8::5", "@ 300 IN AAAA 2001:db8::6")(q)
	}
}

func TestLookupReturnsBothFamilies(t *testing.T) {
	p := newPool(t, nil, overUDP(dnstest.NewUpstream(t, families)))
	got, err := p.lookup(t.Context(), "lists.example.org")
	want := Addresses{addrs("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3", "192.0.2.3", "2001:db8::4", "192.0.2.4"), 300 * time.Second}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestLookupLeavesOutUnspecifiedAddresses checks the answers of filters that block the name: a connection to such an address would reach this machine.
func TestLookupLeavesOutUnspecifiedAddresses(t *testing.T) {
	p := newPool(t, nil, overUDP(dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if q.Msg.Question[0].Qtype == dns.TypeAAAA {
			dnstest.Answer("@ 300 IN AAAA ::", "@ 300 IN AAAA ::ffff:0.0.0.0")(q)
			return
		}
		dnstest.Answer("@ 300 IN A 0.0.0.0")(q)
	})))
	if got, err := p.lookup(t.Context(), "dns.example.org"); err == nil {
		t.Errorf("addresses %v, want none", got.List)
	}
}

func TestInterleave(t *testing.T) {
	for _, tt := range []struct{ a, b, want []netip.Addr }{
		{nil, nil, nil},
		{addrs("::1"), nil, addrs("::1")},
		{nil, addrs("192.0.2.1", "192.0.2.2"), addrs("192.0.2.1", "192.0.2.2")},
		{addrs("::1", "::2", "::3"), addrs("192.0.2.1"), addrs("::1", "192.0.2.1", "::2", "::3")},
	} {
		if diff := cmp.Diff(tt.want, interleave(tt.a, tt.b), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%v and %v (-want +got):\n%s", tt.a, tt.b, diff)
		}
	}
}

func TestDialEachLeavesTimeForOtherAddresses(t *testing.T) {
	tests := []struct {
		name     string
		deadline time.Duration // 0: none
		dead     int           // of three addresses
		took     time.Duration
	}{
		{"all addresses answer", time.Second, 0, 0},
		{"one dead address", 3 * time.Second, 1, time.Second},
		{"two dead addresses", 3 * time.Second, 2, 2 * time.Second},
		{"two dead addresses, long deadline", time.Minute, 2, 2 * maxDial},
		{"two dead addresses, no deadline", 0, 2, 2 * maxDial},
		{"all addresses dead", 3 * time.Second, 3, 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				start, tried := time.Now(), 0
				conn, err := dialEach(ctx, addrs("192.0.2.1", "192.0.2.2", "192.0.2.3"), func(ctx context.Context, _ netip.Addr) (net.Conn, error) {
					if tried++; tried <= tt.dead {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					near, far := net.Pipe()
					far.Close()
					return near, nil
				})
				if conn != nil {
					conn.Close()
				}
				if all := tt.dead == 3; all != errors.Is(err, context.DeadlineExceeded) || all != (conn == nil) {
					t.Errorf("error %v", err)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

func TestDialContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if q.Msg.Question[0].Qtype == dns.TypeA {
			dnstest.Answer("@ 300 IN A 127.0.0.1")(q)
			return
		}
		dnstest.Answer("@ 300 IN AAAA ::1")(q) // no server listens on this address
	})
	p := newPool(t, nil, overUDP(u))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := p.DialContext(ctx, "tcp", "lists.example.org:"+port)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	empty := newPool(t, nil, overUDP(dnstest.NewUpstream(t, dnstest.Answer())))
	if conn, err := empty.DialContext(ctx, "tcp", "lists.example.org:"+port); err == nil {
		conn.Close()
		t.Error("connected to a host without an address, want an error")
	}
}
