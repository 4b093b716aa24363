package setup

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rempart/internal/config"
)

func TestNetworkOfInterfaceAddress(t *testing.T) {
	for _, tt := range []struct {
		address string
		want    string // "" if it is ignored
	}{
		{"192.168.1.2/24", "192.168.1.0/24"}, {"10.1.2.3/8", "10.0.0.0/8"}, {"172.16.5.1/12", "172.16.0.0/12"},
		{"100.64.3.4/10", "100.64.0.0/10"}, {"100.100.3.4/32", "100.100.3.4/32"}, {"169.254.7.7/16", "169.254.0.0/16"},
		{"127.0.0.1/8", "127.0.0.0/8"}, {"::1/128", "::1/128"}, {"fe80::1/64", "fe80::/64"}, {"fd12:3456::1/48", "fd12:3456::/48"},
		{"2001:db8:1:2::1/64", "2001:db8:1:2::/64"}, {"2001:db8:1::1/48", "2001:db8:1::/48"}, {"2001:db8::7/128", "2001:db8::7/128"},
		{"203.0.113.5/24", "203.0.113.0/24"}, {"203.0.113.5/29", "203.0.113.0/29"},
		{"203.0.113.5/23", ""}, {"203.0.113.5/20", ""}, {"192.168.1.2/8", ""}, {"10.0.0.1/7", ""}, {"100.64.0.1/9", ""},
		{"203.0.113.5/0", ""}, {"10.0.0.1/0", ""}, {"2001:db8::1/47", ""}, {"2001:db8::1/32", ""}, {"2001:db8::1/0", ""}, {"fd00::1/6", ""},
	} {
		ip, network, err := net.ParseCIDR(tt.address)
		if err != nil {
			t.Fatal(err)
		}
		network.IP = ip
		got := ""
		if p, ok := networkOf(network); ok {
			got = p.String()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.address, got, tt.want)
		}
	}
	if _, ok := networkOf(&net.UnixAddr{}); ok {
		t.Error("an address that is not an Internet address was accepted")
	}
}

func TestClientsFollowInterfaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fixed, first, second := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:1::/64"), netip.MustParsePrefix("2001:db8:2::/64")
		type look struct {
			networks []netip.Prefix
			err      error
		}
		looks := make(chan look, 1) // the next results; the last one is repeated when the channel is empty
		last := look{networks: []netip.Prefix{first}}
		var set []netip.Prefix
		times := 0
		refused := make(chan string, 4)
		var said bytes.Buffer
		k := &ClientWatcher{
			configured: config.Clients{Prefixes: config.Prefixes{fixed}, OnLink: true},
			networks: func() ([]netip.Prefix, error) {
				select {
				case last = <-looks:
				default:
				}
				return last.networks, last.err
			},
			set:     func(p []netip.Prefix) { set = p; times++ },
			refused: refused, log: slog.New(slog.NewTextHandler(&said, nil)),
		}
		k.look()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- k.Run(ctx) }()
		wait := func() { time.Sleep(onLinkEvery + time.Second); synctest.Wait() }
		check := func(n int, want ...netip.Prefix) {
			t.Helper()
			if !slices.Equal(set, want) || times != n {
				t.Errorf("set to %v, %d times; want %v, %d times", set, times, want, n)
			}
		}
		wait()
		check(1, fixed, first)
		looks <- look{networks: []netip.Prefix{second}}
		wait()
		check(2, fixed, second)
		looks <- look{err: errors.New("no netlink")}
		wait()
		wait()
		check(2, fixed, second)
		looks <- look{networks: []netip.Prefix{}}
		wait()
		check(3, fixed)
		refused <- "global IPv6"
		synctest.Wait()
		refused <- "global IPv4"
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for text, n := range map[string]int{"no netlink": 1, `kind="global IPv6"`: 1, `kind="global IPv4"`: 1, "networks changed": 2, "REMPART_CLIENTS": 5} {
			if got := strings.Count(said.String(), text); got != n {
				t.Errorf("%q was logged %d times, want %d:\n%s", text, got, n, &said)
			}
		}
		if strings.Contains(said.String(), "2001:db8") {
			t.Errorf("an address was logged:\n%s", &said)
		}
	})
}

// TestClientsWithoutOnLinkDoNotChange checks that without on-link the networks of the machine do not change REMPART_CLIENTS.
func TestClientsWithoutOnLinkDoNotChange(t *testing.T) {
	k := &ClientWatcher{
		networks: func() ([]netip.Prefix, error) { t.Error("the interfaces were read"); return nil, nil },
		set:      func([]netip.Prefix) { t.Error("clients were set") },
	}
	k.look()
}

func TestNetworksOnLink(t *testing.T) {
	found, err := networksOnLink()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(found, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr("127.0.0.1")) }) {
		t.Errorf("%v does not hold the loopback interface", found)
	}
}
