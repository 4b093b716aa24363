package dnstest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// named is a BIND server on loopback.
type named struct {
	addr       string // UDP and TCP
	statistics string // host and port of its statistics over HTTP
}

// named starts BIND with a root zone in which every name has the address originAddr, and with options added, and waits until BIND answers.
func (p *peers) named(t *testing.T, options string) *named {
	t.Helper()
	n := &named{addr: FreeAddr(t), statistics: FreeAddr(t)}
	_, port, _ := strings.Cut(n.addr, ":")
	_, statisticsPort, _ := strings.Cut(n.statistics, ":")
	zone := filepath.Join(p.dir, "root.zone")
	text := fmt.Sprintf(`options {
  directory %q;
  pid-file none;
  listen-on port %s { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion yes;
  dnssec-validation no;
  notify no;
%s};
controls { };
statistics-channels { inet 127.0.0.1 port %s allow { 127.0.0.1; }; };
zone "." { type primary; file %q; };
`, p.dir, port, options, statisticsPort, zone)
	file := filepath.Join(p.dir, "named.conf")
	for name, content := range map[string]string{
		file: text,
		zone: "$TTL 60\n@ SOA ns.invalid. nobody.invalid. 1 3600 1200 604800 60\n@ NS ns.invalid.\nns.invalid. A 192.0.2.53\n*.good.example. A " + originAddr + "\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program := StartPeer(t, exec.Command("named", "-g", "-n", "1", "-c", file))
	ready, err := new(dns.Msg).SetQuestion("ns.invalid.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	program.Answers(t, func() bool {
		_, err := ExchangePacked("udp", n.addr, ready)
		return err == nil
	})
	return n
}

// counter returns one of the counters of BIND's name server statistics.
func (n *named) counter(t *testing.T, name string) int {
	t.Helper()
	r, err := http.Get("http://" + n.statistics + "/json/v1/server")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var all struct {
		NSStats map[string]int `json:"nsstats"`
	}
	if err := json.NewDecoder(r.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all.NSStats[name]
}

// testNamedCookies forwards to BIND, which echoes DNS cookies: Rempart must send it the server cookie that it returned.
func testNamedCookies(t *testing.T, p *peers) {
	for name, options := range map[string]string{"default": "", "server cookie required": "  require-server-cookie yes;\n"} {
		t.Run(name, func(t *testing.T) {
			p := &peers{binary: p.binary, dir: t.TempDir()}
			n := p.named(t, options)
			r := p.rempart(t, "REMPART_UPSTREAMS=udp://"+n.addr)
			asked := 0
			ask := func() {
				t.Helper()
				asked++
				m := Exchange(t, "udp", r.DNS, new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.good.example.", asked), dns.TypeA))
				if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != originAddr {
					t.Fatalf("answer:\n%v", m)
				}
			}
			ask()
			Eventually(t, "BIND receives one of its own cookies", func() bool {
				ask()
				return n.counter(t, "CookieMatch") > 0
			})
			const questions = 50
			tcp, matched := n.counter(t, "QryTCP"), n.counter(t, "CookieMatch")
			for range questions {
				ask()
			}
			if got := n.counter(t, "CookieMatch") - matched; got < questions {
				t.Errorf("BIND received %d of its own cookies in %d questions", got, questions)
			}
			if got := n.counter(t, "QryTCP") - tcp; got > 0 {
				t.Errorf("BIND was asked %d times over TCP, want none", got)
			}
			if got := n.counter(t, "CookieBadSize") + n.counter(t, "CookieNoMatch") + n.counter(t, "CookieBadTime"); got > 0 {
				t.Errorf("BIND found %d cookies to be wrong", got)
			}
		})
	}
}
