package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/upstream"
)

// silentBelow is the handler of upstreams that answer no question below a zone.
func silentBelow(zone []byte) func(context.Context, upstream.Question) (*dns.Msg, error) {
	return func(ctx context.Context, q upstream.Question) (*dns.Msg, error) {
		if wire.InZone(q.Name, zone) {
			<-ctx.Done()
			return nil, errDown
		}
		return usual(ctx, q)
	}
}

// TestSilentZoneFailsAtOnce asks for many names below one zone whose servers are silent: other names get answers, and further names of the zone fail at once.
func TestSilentZoneFailsAtOnce(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(silentBelow(dnstest.WireName(t, "silent.example")))
		var asking sync.WaitGroup
		for i := range 2 * upstream.MaxInFlight {
			asking.Go(func() { b.ask(query(t, fmt.Sprintf("x%d.silent.example", i), "A")) })
		}
		time.Sleep(time.Second)
		for i := range 20 {
			other := fmt.Sprintf("www%d.other.example", i)
			b.want("another zone", query(t, other, "A"), "NOERROR | "+other+". 300 IN A 192.0.2.1")
		}
		b.want("one more of the zone", query(t, "y.silent.example", "A", "+edns"), "SERVFAIL | opt | Network Error")
		asking.Wait()
	})
}

// TestClientOfSilentZonesDoesNotBlockOthers makes one client ask for names in many zones with silent servers: other clients get answers.
func TestClientOfSilentZonesDoesNotBlockOthers(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(silentBelow(dnstest.WireName(t, "silent")))
		var asking sync.WaitGroup
		for i := range 2 * upstream.MaxInFlight {
			asking.Go(func() {
				b.askFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), query(t, fmt.Sprintf("www.zone%d.silent", i), "A"))
			})
		}
		time.Sleep(time.Second)
		for i := range 20 {
			other := fmt.Sprintf("www%d.other.example", i)
			b.want("another client", query(t, other, "A"), "NOERROR | "+other+". 300 IN A 192.0.2.1")
		}
		asking.Wait()
	})
}

func TestZonesOf(t *testing.T) {
	for text, want := range map[string][2]string{
		"": {".", "."}, "example": {"example", "example"}, "a.example": {"a.example", "a.example"},
		"y.a.example": {"y.a.example", "a.example"}, "x.y.a.example": {"y.a.example", "a.example"}, "w.x.y.a.example": {"y.a.example", "a.example"},
	} {
		three, two := zonesOf(dnstest.WireName(t, text))
		if got := [2]string{wire.Text(three), wire.Text(two)}; got != want {
			t.Errorf("zonesOf(%s) = %v, want %v", text, got, want)
		}
	}
}
