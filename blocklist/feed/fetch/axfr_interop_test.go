package fetch

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist/feed/format"
	"rempart/internal/dnstest"
)

// startNamed starts BIND on loopback, as primary of the policy zone zone holds, which the test's key may
// transfer and update. Its output is logged if the test fails. startNamed returns its host:port.
func startNamed(t *testing.T, zone string) string {
	t.Helper()
	dnstest.Need(t, "named")
	dir := t.TempDir()
	addr := dnstest.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	conf := fmt.Sprintf(`key "transfer.example" { algorithm hmac-sha256; secret %q; };
options {
	directory %q; pid-file none; session-keyfile %q; lock-file none;
	listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; notify no; allow-transfer { key "transfer.example"; };
};
controls { };
zone "rpz.example" { type primary; file "zone"; allow-update { key "transfer.example"; }; };
`, testSecret, dir, filepath.Join(dir, "session.key"), port)
	for name, text := range map[string]string{"named.conf": conf, "zone": zone} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	named := dnstest.StartPeer(t, exec.Command("named", "-g", "-n", "1", "-c", filepath.Join(dir, "named.conf")))
	named.Answers(t, func() bool {
		m, err := dns.Exchange(new(dns.Msg).SetQuestion(testZone, dns.TypeSOA), addr)
		return err == nil && m.Rcode == dns.RcodeSuccess
	})
	return addr
}

// nsupdate sends a dynamic update (RFC 2136).
func nsupdate(t *testing.T, addr string, remove, insert []string) {
	t.Helper()
	m := new(dns.Msg).SetUpdate(testZone)
	for _, text := range remove {
		m.Remove([]dns.RR{rrOf(t, text)})
	}
	for _, text := range insert {
		m.Insert([]dns.RR{rrOf(t, text)})
	}
	m.SetTsig("transfer.example.", dns.HmacSHA256, 300, time.Now().Unix())
	c := dns.Client{Timeout: time.Minute, Net: "tcp", TsigSecret: map[string]string{"transfer.example.": testSecret}}
	got, _, err := c.Exchange(m, addr)
	if err != nil || got.Rcode != dns.RcodeSuccess {
		t.Fatalf("update: %v\n%v", err, got)
	}
}

// TestTransferFromBIND checks the transfer of a policy zone of many messages, and of the updates to it.
func TestTransferFromBIND(t *testing.T) {
	const size = 20_000
	var zone strings.Builder
	zone.WriteString("$TTL 300\n@ IN SOA ns.rpz.example. admin.rpz.example. 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n")
	want := names{}
	for i := range size {
		name := fmt.Sprintf("n%d.example", i)
		fmt.Fprintf(&zone, "%s CNAME .\n*.%s CNAME .\n", name, name)
		want[name] = 3
	}
	zone.WriteString(`a\.b.example CNAME .` + "\n" + `note TXT "a ; b" "c\"d\010e"` + "\n" + "24.0.2.0.192.rpz-ip CNAME .\n")
	addr := startNamed(t, zone.String())
	f := newFetching(t, Origin{URL: "axfr://" + addr + "/rpz.example", Format: format.RPZ, TSIG: testTSIG})

	f.mustFetch(false)
	f.listed(want)
	if f.validators.Serial != "1" {
		t.Errorf("serial %s", f.validators.Serial)
	}
	f.mustFetch(true)

	nsupdate(t, addr, []string{"n0.example CNAME .", "*.n0.example CNAME ."}, []string{"new.example CNAME .", "kept.example CNAME rpz-passthru."})
	nsupdate(t, addr, []string{"new.example CNAME ."}, []string{"newer.example CNAME ."})
	if serial, err := f.client.serial(t.Context(), mustPrimary(t, f.from)); err != nil || serial != 3 {
		t.Fatalf("serial %d, %v", serial, err)
	}
	// The update must be sent as a difference: the function fails on a whole zone.
	p := mustPrimary(t, f.from)
	if got, err := f.client.incremental(t.Context(), p, 1, f.before, f.path); err != nil || got.Validators.Serial != "3" {
		t.Fatalf("IXFR: %+v, %v", got, err)
	}
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	f.mustFetch(false)
	delete(want, "n0.example")
	want["newer.example"] = 1
	f.listed(want)

	// A transfer of the whole zone must give the same content.
	incremental := f.body()
	f.validators = Validators{}
	f.mustFetch(false)
	if sortedLines(incremental) != sortedLines(f.body()) {
		t.Error("the zone after the difference is not the zone of the primary")
	}

	f.from.TSIG = ""
	f.validators = Validators{}
	f.mustFail("REFUSED")
	f.from.TSIG = "hmac-sha256:transfer.example:" + "b3RoZXJvdGhlcm90aGVyb3RoZXI="
	f.mustFail("BADSIG")
	f.from.TSIG = "hmac-sha256:other.example:" + testSecret
	f.mustFail("BADKEY")
	f.from.TSIG = testTSIG
	f.from.URL = "axfr://" + addr + "/other.example"
	f.mustFail("does not hold it")
}

func mustPrimary(t *testing.T, o Origin) primary {
	t.Helper()
	_, u, err := o.protocol()
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPrimary(u, o.TSIG)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sortedLines(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
