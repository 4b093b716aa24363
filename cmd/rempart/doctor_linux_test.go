package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/cmd/rempart/doctor"
	"rempart/internal/dnstest"
	"rempart/resolver/listen"
)

// diagnosis returns the findings of "rempart doctor" about a program, by check.
func diagnosis(t *testing.T, p *dnstest.Program) map[string][]doctor.Finding {
	t.Helper()
	out, errs, _ := operatorEnv(t, []string{"REMPART_DATA_DIR=" + p.DataDir, "HOME=" + t.TempDir()}, "doctor", "--json")
	all := map[string][]doctor.Finding{}
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var f doctor.Finding
		if err := dec.Decode(&f); err != nil {
			t.Fatalf("%v\n%s%s", err, out, errs)
		}
		all[f.Check] = append(all[f.Check], f)
	}
	return all
}

// TestDoctor checks what the doctor says of a running program with all transports.
func TestDoctor(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, dnstest.Alter(dnstest.Answer(". 300 IN SOA a.root. b.root. 1 2 3 4 5"), func(m *dns.Msg) { m.AuthenticatedData = true }))
	s := startEncrypted(t, upstreams(u))
	found := diagnosis(t, s.Program)
	for check, want := range map[string]doctor.Level{
		"settings": doctor.OK, "server": doctor.OK, "state": doctor.OK, "answers": doctor.OK, "lists": doctor.Warning, "upstreams": doctor.OK, "dnssec": doctor.OK,
		"page": doctor.OK, "certificate": doctor.Warning, "data folder": doctor.OK,
	} {
		if len(found[check]) == 0 || found[check][0].Level != want {
			t.Errorf("%s: %+v, want %s", check, found[check], want)
		}
	}
	for _, f := range found["certificate"] {
		if f.Do == "" {
			t.Errorf("a certificate that expires tomorrow: %+v", f)
		}
	}
}

// TestDoctorFindsAnotherServer checks that the doctor notices that another server answers at an address of the program.
func TestDoctorFindsAnotherServer(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	p := start(t, upstreams(u), "REMPART_LISTEN=0.0.0.0:0")
	// A socket on the address itself gets the queries that the wildcard would get.
	other, err := listen.Packet(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), netip.MustParseAddrPort(p.DNS).Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := other.ReadFrom(buf)
			if err != nil {
				return
			}
			buf[2] |= 0x80
			_, _ = other.WriteTo(buf[:n], from)
		}
	}()
	found := diagnosis(t, p)["answers"]
	if len(found) != 1 || found[0].Level != doctor.Problem || !strings.Contains(found[0].Text, "another server answers") {
		t.Errorf("findings %+v", found)
	}
}
