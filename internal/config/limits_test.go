package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// everyone returns the limit of all clients, followed by others.
func everyone(bytes, answers int64, others ...Limit) Limits {
	return append(Limits{{netip.MustParsePrefix("0.0.0.0/0"), bytes, answers}, {netip.MustParsePrefix("::/0"), bytes, answers}}, others...)
}

func limit(prefix string, bytes, answers int64) Limit {
	return Limit{netip.MustParsePrefix(prefix), bytes, answers}
}

// TestLimits checks limits for all clients and for the clients in a prefix.
func TestLimits(t *testing.T) {
	for text, want := range map[string]Limits{
		"256KiB":                          everyone(256<<10, 0),
		"none":                            everyone(0, 0),
		"none/s":                          everyone(0, 0),
		"1MiB,::ffff:192.0.2.64/122=2MiB": everyone(1<<20, 0, limit("192.0.2.64/26", 2<<20, 0)),
		"1MiB, 192.0.2.53 = none, 2001:db8::/32=16MiB":                               everyone(1<<20, 0, limit("192.0.2.53/32", 0, 0), limit("2001:db8::/32", 16<<20, 0)),
		"1MiB,192.0.2.53=500/s + 2MiB,2001:db8::/32=none+7/s,192.0.2.54=2MiB+none/s": everyone(1<<20, 0, limit("192.0.2.53/32", 2<<20, 500), limit("2001:db8::/32", 0, 7), limit("192.0.2.54/32", 2<<20, 0)),
	} {
		var got Limits
		if err := got.UnmarshalText([]byte(text)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for text, says := range map[string]string{
		"0": `"0" is no limit`, "1M,192.0.2.1=1M, 192.0.2.1/32=none": "192.0.2.1/32 has two limits", "192.0.2.1=1M": "one limit for everyone", "1M,2M": "one limit for everyone", "1M,x=2M": "is not a prefix", "1M,on-link=2M": "is not a prefix: write 192.0.2.0/28=16MiB", "1M,=2M": "one limit for everyone",
		"1M,::/0=fast": `"fast" is no limit`, "12 parsecs": "is no limit", strings.Repeat("1M,", 300): "more than 256",
		"0/s": `"0/s" is no limit: write a number of answers per second from 1`, "1.5/s": "is no limit", "-1/s": "is no limit", "2000000/s": "to 1000000", "1M+2M": "two limits of one kind",
		"1/s+2/s": "two limits of one kind", "1M+1/s+1M": "two limits of one kind", "1M+": `"" is no limit`, "20000/min": "is no limit",
	} {
		var got Limits
		if err := got.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

// TestLimitOfAnswersForEveryoneExceptsLocalAddresses checks that local addresses keep the limit of bytes, and that a prefix that contains one replaces its exception.
func TestLimitOfAnswersForEveryoneExceptsLocalAddresses(t *testing.T) {
	var got Limits
	if err := got.UnmarshalText([]byte("")); err != nil {
		t.Fatal(err)
	}
	local := []Limit{limit("127.0.0.0/8", 256<<10, 0), limit("10.0.0.0/8", 256<<10, 0), limit("172.16.0.0/12", 256<<10, 0), limit("192.168.0.0/16", 256<<10, 0),
		limit("169.254.0.0/16", 256<<10, 0), limit("::1/128", 256<<10, 0), limit("fc00::/7", 256<<10, 0), limit("fe80::/10", 256<<10, 0)}
	if want := everyone(256<<10, 20_000, local...); !slices.Equal(got, want) {
		t.Errorf("the default is %v, want %v", got, want)
	}
	if err := got.UnmarshalText([]byte("5/s,10.0.0.0/8=7/s,172.0.0.0/8=8/s,192.168.1.0/24=9/s,::/1=1/s")); err != nil {
		t.Fatal(err)
	}
	want := everyone(0, 5, limit("10.0.0.0/8", 0, 7), limit("172.0.0.0/8", 0, 8), limit("192.168.1.0/24", 0, 9), limit("::/1", 0, 1),
		limit("127.0.0.0/8", 0, 0), limit("192.168.0.0/16", 0, 0), limit("169.254.0.0/16", 0, 0), limit("fc00::/7", 0, 0), limit("fe80::/10", 0, 0))
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestLimitSettings checks the settings next to the limits: networks, action and ports.
func TestLimitSettings(t *testing.T) {
	c, err := load(map[string]string{"HOME": "/h"})
	if err != nil {
		t.Fatal(err)
	}
	if c.LimitNetworks != (LimitNetworks{24, 56}) || c.LimitsAction != TruncateAbove || len(c.IgnoredPorts) != 0 {
		t.Errorf("defaults: networks %v, action %q, ports %v", c.LimitNetworks, c.LimitsAction, c.IgnoredPorts)
	}
	c, err = load(map[string]string{"HOME": "/h", Prefix + "LIMITS_NETWORKS": "32, /64", Prefix + "LIMITS_ACTION": "observe", Prefix + "IGNORED_PORTS": "123, 1900,65535"})
	if err != nil {
		t.Fatal(err)
	}
	if c.LimitNetworks != (LimitNetworks{32, 64}) || c.LimitsAction != ObserveAbove || !slices.Equal(c.IgnoredPorts, Ports{123, 1900, 65535}) {
		t.Errorf("networks %v, action %q, ports %v", c.LimitNetworks, c.LimitsAction, c.IgnoredPorts)
	}
	for variable, value := range map[string]string{"LIMITS_NETWORKS": "24", "LIMITS_ACTION": "slip", "IGNORED_PORTS": "ntp"} {
		if _, err := load(map[string]string{"HOME": "/h", Prefix + variable: value}); err == nil || !strings.Contains(err.Error(), Prefix+variable) {
			t.Errorf("%s=%s: %v, want an error that names the variable", variable, value, err)
		}
	}
	for _, bad := range []string{"24,56,64", "4,56", "24,129", "33,56", "24,x"} {
		if err := new(LimitNetworks).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("networks %q are accepted", bad)
		}
	}
	if err := new(Ports).UnmarshalText([]byte("65536")); err == nil {
		t.Error("the port 65536 is accepted")
	}
}
