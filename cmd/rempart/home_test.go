package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// TestHomeSettings checks the answers to names that the settings of a home network affect, with these settings, with the defaults and without canary names.
func TestHomeSettings(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A 192.168.1.1"))
	const local = "192.168.1.1"
	household := start(t, upstreams(u), "REMPART_CANARY=firefox,icloud", "REMPART_SINGLE_LABELS=keep", "REMPART_REBINDING=refuse",
		"REMPART_REBINDING_ALLOW=plex.direct", "REMPART_FORWARD=corp.example="+strings.TrimPrefix(upstreams(u), "REMPART_UPSTREAMS="))
	defaults := start(t, upstreams(u))
	none := start(t, upstreams(u), "REMPART_CANARY=none")
	for _, tt := range []struct{ name, household, defaults, none string }{
		{"use-application-dns.net", "NXDOMAIN", "NXDOMAIN", local},
		{"mask.icloud.com", "NXDOMAIN", local, local},
		{"mask-h2.icloud.com", "NXDOMAIN", local, local},
		{"nas", "NXDOMAIN", local, local},
		{"cdn.attacker.example", "", local, local},
		{"x.plex.direct", local, local, local},
		{"nas.corp.example", local, local, local},
		{"localhost", "127.0.0.1", "127.0.0.1", "127.0.0.1"},
	} {
		for p, want := range map[*dnstest.Program]string{household: tt.household, defaults: tt.defaults, none: tt.none} {
			if m := ask(t, p, tt.name); want == "" && (m.Rcode != 0 || len(m.Answer) > 0) || want != "" && address(m) != want {
				t.Errorf("%s: want %q, got\n%v", tt.name, want, m)
			}
		}
	}
}

// TestRefusedClientIsLoggedOnce checks that queries from an address that REMPART_CLIENTS does not contain are refused, and logged once without the address.
func TestRefusedClientIsLoggedOnce(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	p := start(t, upstreams(u), "REMPART_CLIENTS=192.0.2.0/24")
	for range 3 {
		if m := ask(t, p, "www.example.org"); address(m) != "REFUSED" {
			t.Errorf("answered %v", m)
		}
	}
	dnstest.Eventually(t, "a line about the refusal", func() bool { return strings.Contains(p.Stderr(), "REMPART_CLIENTS") })
	p.Stop(t)
	if said := p.Stderr(); strings.Count(said, "REMPART_CLIENTS") != 1 || !strings.Contains(said, "kind=loopback") || strings.Contains(said, "127.0.0.1") {
		t.Errorf("the log:\n%s", said)
	}
}

// TestUnitAllowsNetlink checks that the systemd unit allows netlink, through which on-link reads the interfaces.
func TestUnitAllowsNetlink(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join("..", "..", "deploy", "systemd", "rempart.service"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(unit), "AF_NETLINK") {
		t.Error("deploy/systemd/rempart.service does not allow AF_NETLINK")
	}
}
