package rpz

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// TestUnbound checks that Unbound can transfer and enforce the zone. Its address is allowed without a key, because Unbound does not support TSIG.
func TestUnbound(t *testing.T) {
	p := newProgram(t, "unbound")
	s := scenario(t, func(c *Config) {
		p.notifying("")(c)
		c.Keyless = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	}, func(t *testing.T, s *serving, u *dnstest.Upstream) secondary {
		conf := p.write(t, "unbound.conf", fmt.Sprintf(`server:
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  use-syslog: no
  local-zone: "test." transparent
  do-ip6: no
  do-not-query-localhost: no
  interface: %s
  module-config: "respip iterator"
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: %s
rpz:
  name: %s
  primary: %s
  allow-notify: 127.0.0.1
  zonefile: "zone"
`, p.dir, at(p.addr), at(u.Addr.String()), testZoneName, at(s.addr)))
		p.start(t, "unbound", "-d", "-c", conf)
		return secondary{program: p, answers: Resolver{Addr: p.addr, Page: testPage}}
	})
	followed(t, s)
}

// at returns an address in the notation of Unbound and Knot.
func at(addr string) string { return strings.Replace(addr, ":", "@", 1) }

// TestPowerDNS checks PowerDNS Recursor. It asks for changes often, because this version accepts no NOTIFY for policy zones.
func TestPowerDNS(t *testing.T) {
	p := newProgram(t, "pdns_recursor")
	s := scenario(t, nil, func(t *testing.T, s *serving, u *dnstest.Upstream) secondary {
		p.write(t, "rpz.lua", fmt.Sprintf("rpzMaster(%q, %q, {tsigname=%q, tsigalgo='hmac-sha256', tsigsecret=%q, refresh=1})\n",
			s.addr, testZoneName, testKeyName, testSecret))
		p.write(t, "recursor.conf", fmt.Sprintf(`local-address=127.0.0.1
local-port=%s
socket-dir=%s
lua-config-file=%s
forward-zones-recurse=.=%s
dnssec=off
security-poll-suffix=
disable-packetcache=yes
allow-from=127.0.0.0/8
dont-query=
threads=1
`, p.port(), p.dir, filepath.Join(p.dir, "rpz.lua"), u.Addr))
		p.start(t, "pdns_recursor", "--config-dir="+p.dir)
		return secondary{program: p, answers: Resolver{Addr: p.addr, Page: testPage}}
	})
	byDifferences(t, s)
}

// TestKnot checks Knot Resolver, which reads the zone from a file. It ignores the targets of CNAME records in a policy zone and answers as its own setting says.
func TestKnot(t *testing.T) {
	p := newProgram(t, "kresd")
	scenario(t, func(c *Config) {
		c.Zones[0].Action, c.Zones[0].Page = ActionNXDOMAIN, ""
	}, func(t *testing.T, s *serving, u *dnstest.Upstream) secondary {
		zone := filepath.Join(p.dir, "zone.rpz")
		put := func() {
			f, err := os.Create(zone + ".new")
			if err != nil {
				t.Fatal(err)
			}
			if err := s.WriteZone(f, testZoneName); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(zone+".new", zone); err != nil {
				t.Fatal(err)
			}
		}
		put()
		conf := p.write(t, "kresd.conf", fmt.Sprintf(`net.ipv6 = false
net.listen('127.0.0.1', %s, { kind = 'dns' })
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('priming')
modules.unload('detect_time_skew')
trust_anchors.remove('.')
cache.size = 16 * MB
local stub = policy.STUB(%q)
policy.add(function () return function (state, req) stub(state, req) end end) -- before the zone: what passes there ends the rules
policy.add(policy.rpz(policy.DENY, %q, true))
`, p.port(), at(u.Addr.String()), zone))
		p.start(t, "kresd", "-n", "-q", "-c", conf, p.dir)
		return secondary{program: p, answers: Resolver{Addr: p.addr, Zones: []string{"blocked"}}, namesOnly: true, after: put}
	})
}

// TestBINDOverTLS checks that BIND can transfer the zone over TLS (RFC 9103).
func TestBINDOverTLS(t *testing.T) {
	p := newProgram(t, "named")
	secure := testCertificate(t)
	ca := p.write(t, "ca.pem", string(dnstest.PEM(secure.Certificates[0])))
	s := scenario(t, func(c *Config) {
		p.notifying(testKeyName)(c)
		c.TLS = secure
	}, func(t *testing.T, s *serving, u *dnstest.Upstream) secondary {
		p.named(t, s.secure, "tls xot", u, fmt.Sprintf(`tls xot { ca-file %q; remote-hostname "rpz.test"; protocols { TLSv1.3; }; };`, ca))
		return secondary{program: p, answers: Resolver{Addr: p.addr, Page: testPage, Zones: []string{testZoneName}}}
	})
	followed(t, s)
}

// TestDig checks transfers by dig and kdig, over TCP and TLS.
func TestDig(t *testing.T) {
	view, _ := bigView(t, 20_000)
	s := serve(t, view, func(c *Config) { c.TLS = testCertificate(t) })
	all, _ := s.transfer(t, axfr())
	size := len(all)
	for _, tool := range []string{"dig", "kdig"} {
		for _, addr := range []string{s.addr, s.secure} {
			p := newProgram(t, tool)
			host, port, _ := net.SplitHostPort(addr)
			args := []string{"@" + host, "-p", port, "-y", "hmac-sha256:" + testKeyName + ":" + testSecret, testZoneName, "AXFR", "+tcp"}
			if addr == s.secure {
				args = append(args, "+tls")
			}
			cmd := exec.CommandContext(t.Context(), tool, args...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LC_ALL=C"}
			out, err := cmd.CombinedOutput()
			if want := fmt.Sprintf("%d records", size); err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s %v: %v, want %s in the output:\n%s", tool, args[5:], err, want, out[max(0, len(out)-1000):])
			}
		}
	}
}
