package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDefaults(t *testing.T) {
	c, err := load(map[string]string{"HOME": "/home/someone"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Listen, (Addrs{netip.MustParseAddrPort("127.0.0.1:5300")}); !cmp.Equal(got, want, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) {
		t.Errorf("Listen is %v, want 127.0.0.1:5300", got)
	}
	if c.CacheBytes != 64<<20 || c.BlockTTL != 30*time.Second || c.Mode == Observe || len(c.Clients.Prefixes) != 8 || !c.Clients.OnLink || c.PopularBound != 10000 || c.DataDir != "/home/someone/.local/state/rempart" {
		t.Errorf("wrong defaults: %+v", c)
	}
}

func TestErrorNamesVariableValueAndValidValue(t *testing.T) {
	for _, tt := range []struct{ variable, value, right string }{
		{"LISTEN", "localhost", "127.0.0.1:5300"},
		{"LISTEN", ":http", ":53"},
		{"LISTEN", "none", "at least one address"},
		{"BLOCK_TTL", "soon", "30s"},
		{"BLOCK_TTL", "2h", "1h"},
		{"BLOCK_TTL", "0s", "1s"},
		{"REFRESH", "0s", "1m"},
		{"CACHE_BYTES", "0", "1MiB"},
		{"CACHE_BYTES", "lots", "64MiB"},
		{"CACHE_BYTES", "1k", "64MiB"},
		{"CACHE_BYTES", "1000", "1MiB"},
		{"CLIENTS", "everyone", "192.168.0.0/16"},
		{"CLIENTS", "onlink", "on-link"},
		{"CLIENTS", ",", "at least"},
		{"CANARY", "chrome", "firefox"},
		{"CANARY", "none,firefox", "stands alone"},
		{"SINGLE_LABELS", "drop", "keep"},
		{"REBINDING", "block", "refuse"},
		{"FORWARD", "home.arpa", "home.arpa=udp://"},
		{"MODE", "watch", "observe"},
		{"BLOCK_ANSWER", "drop", "nxdomain"},
		{"PAGE_HTTPS", "drop", "alert"},
		{"PAGE_HTTPS_LISTEN", "203.0.113.80", ":53"},
		{"PAGE_IPV4", "::1", "192.0.2.1"},
		{"PAGE_IPV6", "127.0.0.1", "2001:db8::1"},
		{"PAGE_IPV4", "page.example", "IP address"},
		{"REFRESH", "1s", "1m"},
		{"REFRESH", "8d", "from 1m to 7d"},
		{"REFRESH", "soon", "like 30s, 90m, 12h, 7d or 2w"},
		{"CACHE_BYTES", "64X", "like 67108864, 64M, 64MiB or 64MB"},
		{"STRUCTURED_OPTION", "70000", "65535"},
		{"CONTACT", "me", "mailto:"},
		{"FILTERING_DATABASE", "https://db.example/", "like lumen"},
		{"POPULAR_BOUND", "0", "from 1 to"},
		{"POPULAR_BOUND", "-5", "from 1 to"},
		{"POPULAR_BOUND", "all", "10000"},
		{"POPULAR_BOUND", "6000000", "5000000"},
		{"PROBE", "probe", "two labels"},
		{"PROBE", "192.0.2.1", "like probe.isp.example"},
		{"PROBE", "a b.example", "two labels"},
		{"CONTINUE", "59s", "from 1m to 24h"},
		{"CONTINUE", "25h", "from 1m to 24h"},
		{"CONTINUE_ORDERS", "400d", "366d"},
	} {
		_, err := load(map[string]string{"HOME": "/h", Prefix + tt.variable: tt.value})
		if err == nil {
			t.Errorf("%s=%s was accepted", tt.variable, tt.value)
			continue
		}
		for _, part := range []string{Prefix + tt.variable, tt.value, tt.right} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s=%q: the error %q does not contain %q", tt.variable, tt.value, err, part)
			}
		}
	}
}

func TestAllInvalidValuesAreReportedTogether(t *testing.T) {
	_, err := load(map[string]string{"HOME": "/h", "REMPART_MODE": "x", "REMPART_LISTEN": "y"})
	if err == nil || !strings.Contains(err.Error(), "REMPART_MODE") || !strings.Contains(err.Error(), "REMPART_LISTEN") {
		t.Errorf("error %v", err)
	}
}

func TestValidValuesAreRead(t *testing.T) {
	c, err := load(map[string]string{
		"REMPART_LISTEN": ":53, [::1]:5300", "REMPART_LISTS": " a , b,", "REMPART_FORWARD": "home.arpa=udp://192.168.1.1",
		"REMPART_CACHE_BYTES": "2 GB", "REMPART_PAGE_IPV6": "none", "REMPART_METRICS_LISTEN": "none", "REMPART_DATA_DIR": "d",
		"REMPART_CLIENTS": "192.0.2.7, 2001:db8::1/32", "REMPART_PROBE": "Probe.ISP.example.",
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listen) != 3 || !cmp.Equal(c.Lists, List{"a", "b"}) || c.CacheBytes != 2e9 || c.PageIPv6.IsValid() || c.MetricsListen != nil ||
		!cmp.Equal(c.Forward, Forwards{{"home.arpa", "udp://192.168.1.1"}}) || c.DataDir != "d" ||
		c.Probe != "probe.isp.example" || c.Clients.Prefixes[0].String() != "192.0.2.7/32" || c.Clients.Prefixes[1].String() != "2001:db8::/32" {
		t.Errorf("settings %+v differ from the environment", c)
	}
}

// TestContinueNeedsPage checks that people can continue only where blocked names lead to the page.
func TestContinueNeedsPage(t *testing.T) {
	for _, setting := range []string{"CONTINUE_CATEGORIES=scam", "CONTINUE_ORDERS=7d"} {
		name, value, _ := strings.Cut(setting, "=")
		_, err := load(map[string]string{"HOME": "/h", Prefix + name: value, Prefix + "BLOCK_ANSWER": "nxdomain"})
		if err == nil || !strings.Contains(err.Error(), "REMPART_BLOCK_ANSWER=") {
			t.Errorf("%s with another answer: %v", setting, err)
		}
		if _, err := load(map[string]string{"HOME": "/h", Prefix + name: value}); err != nil {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

// TestDurationsAndSizes checks each notation of durations and sizes.
func TestDurationsAndSizes(t *testing.T) {
	c, err := load(map[string]string{"HOME": "/h", Prefix + "REFRESH": "1d", Prefix + "CONTROL_STALE": "1w", Prefix + "CACHE_BYTES": "128M", Prefix + "BLOCK_TTL": "1m30s"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Refresh != 24*time.Hour || c.ControlStale != 7*24*time.Hour || c.CacheBytes != 128<<20 || c.BlockTTL != 90*time.Second {
		t.Errorf("refresh %v, stale %v, cache %d bytes, block TTL %v; want 24h, 168h, 128 MiB, 90s", c.Refresh, c.ControlStale, c.CacheBytes, c.BlockTTL)
	}
}

func TestClientsAndCanaryValues(t *testing.T) {
	for _, tt := range []struct {
		clients, canary string
		prefixes        int
		onLink          bool
		want            Canary
	}{
		{"", "", 8, true, Canary{Firefox: true}},
		{"192.0.2.0/24", "none", 1, false, Canary{}},
		{"192.0.2.0/24, on-link", "icloud", 1, true, Canary{ICloud: true}},
		{"on-link", "firefox, icloud", 0, true, Canary{Firefox: true, ICloud: true}},
	} {
		environ := map[string]string{"HOME": "/h", "REMPART_CANARY": tt.canary}
		if tt.clients != "" {
			environ["REMPART_CLIENTS"] = tt.clients
		}
		c, err := load(environ)
		if err != nil {
			t.Errorf("loading %+v: %v", tt, err)
			continue
		}
		if len(c.Clients.Prefixes) != tt.prefixes || c.Clients.OnLink != tt.onLink || c.Canary != tt.want {
			t.Errorf("loading %+v: clients %+v, canary %+v", tt, c.Clients, c.Canary)
		}
	}
}
