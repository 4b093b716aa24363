package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// engine is an Unbound with the configuration of deploy/unbound, which resolves names in the zones of a test instead of those of the Internet.
type engine struct {
	addr    string
	conf    string // path of its configuration
	program *dnstest.Peer
}

// internet returns the zones of a test: the root, a signed zone with one name whose signature expired and one whose signature is forged, and "plain.example",
// which is not signed and in which every name has the address origin, with a TTL of one second below "short.plain.example".
func internet(t *testing.T) (root *dnstest.SignedZone, h dnstest.Handler) {
	t.Helper()
	root = dnstest.NewSignedZone(t, ".", "plain.example. 300 IN NS ns.invalid.")
	signed := dnstest.NewSignedZone(t, "signed.example.")
	for _, name := range []string{"www", "forged", "expired"} {
		signed.Add(t, name+".signed.example. 300 IN A "+origin)
	}
	signed.Spoil("forged.signed.example.", dnstest.Forged)
	signed.Spoil("expired.signed.example.", dnstest.Expired)
	root.Delegate(signed)
	plain := func(q *dnstest.Query) {
		switch name := dns.CanonicalName(q.Msg.Question[0].Name); {
		case q.Msg.Question[0].Qtype != dns.TypeA:
			m := q.Reply(dns.RcodeSuccess)
			m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "plain.example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 300}, Ns: "ns.invalid.", Mbox: "nobody.invalid.", Minttl: 300}}
			q.Send(m)
		case dns.IsSubDomain("short.plain.example.", name):
			dnstest.Answer("@ 1 IN A " + origin)(q)
		default:
			dnstest.Answer("@ 300 IN A " + origin)(q)
		}
	}
	return root, dnstest.ServeZones(plain, root, signed)
}

// newEngine starts Unbound with deploy/unbound/unbound.conf. Only its address, its folder, its user and the servers of the root zone differ.
func newEngine(t *testing.T, root *dnstest.SignedZone, servers *dnstest.Upstream) *engine {
	t.Helper()
	dnstest.Need(t, "unbound")
	e := &engine{addr: dnstest.FreeAddr(t)}
	dir := t.TempDir()
	e.conf = filepath.Join(dir, "unbound.conf")
	text := engineConfiguration(t)
	for old, replacement := range map[string]string{
		"127.0.0.1@5335":                              strings.Replace(e.addr, ":", "@", 1),
		"/var/lib/unbound/root.key":                   filepath.Join(dir, "root.key"),
		"/run/unbound.ctl":                            filepath.Join(dir, "control"),
		"username: \"unbound\"":                       "username: \"\"",
		"do-not-query-localhost: yes":                 "do-not-query-localhost: no",
		"directory: \"/etc/unbound\"\n":               fmt.Sprintf("directory: %q\n", dir),
		"root-hints: \"/usr/share/dns/root.hints\"\n": "", // the zone below has servers of its own
	} {
		if strings.Count(text, old) != 1 {
			t.Fatalf("deploy/unbound/unbound.conf contains %q %d times, want once", old, strings.Count(text, old))
		}
		text = strings.Replace(text, old, replacement, 1)
	}
	text += fmt.Sprintf("stub-zone:\n  name: \".\"\n  stub-addr: %s\n", strings.Replace(servers.Addr.String(), ":", "@", 1))
	write(t, e.conf, text)
	write(t, filepath.Join(dir, "root.key"), root.Key.String())
	e.start(t)
	return e
}

// engineConfiguration returns the content of deploy/unbound/unbound.conf.
func engineConfiguration(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "unbound", "unbound.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEngineConfigurationIsValid checks the file as it is shipped, with the lines for a provider and the copy of the root zone.
func TestEngineConfigurationIsValid(t *testing.T) {
	t.Parallel()
	dnstest.Need(t, "unbound-checkconf")
	dir := t.TempDir()
	key := filepath.Join(dir, "root.key")
	write(t, key, dnstest.NewSignedZone(t, ".").Key.String())
	shipped := strings.Replace(engineConfiguration(t), "/var/lib/unbound/root.key", key, 1)
	provider := regexp.MustCompile(`(?m)^    #ISP `).ReplaceAllString(shipped, "    ")
	provider = regexp.MustCompile(`(?m)^#(auth-zone:|    )`).ReplaceAllString(provider, "$1")
	for name, text := range map[string]string{"household": shipped, "provider": provider} {
		file := filepath.Join(dir, name)
		write(t, file, text)
		if out, err := exec.Command("unbound-checkconf", file).CombinedOutput(); err != nil {
			t.Errorf("unbound-checkconf, %s: %v\n%s", name, err, out)
		}
	}
	if !strings.Contains(provider, "\nauth-zone:\n    name") || strings.Contains(provider, "#ISP ") {
		t.Errorf("not all lines are in effect:\n%s", provider)
	}
}

// start starts Unbound and waits until it answers.
func (e *engine) start(t *testing.T) {
	t.Helper()
	e.program = dnstest.StartPeer(t, exec.Command("unbound", "-d", "-c", e.conf))
	ready, err := question("localhost").Pack()
	if err != nil {
		t.Fatal(err)
	}
	e.program.Answers(t, func() bool {
		_, err := dnstest.ExchangePacked("udp", e.addr, ready)
		return err == nil
	})
}

// validated is question with the AD bit, by which a client asks whether the answer was validated.
func validated(name string) *dns.Msg {
	m := question(name)
	m.AuthenticatedData = true
	return m
}

// TestEngineAnswersThroughRempart checks that Rempart passes on what the engine finds about DNSSEC, that it applies the list to targets as ever, and that the
// engine logs no name and no warning.
func TestEngineAnswersThroughRempart(t *testing.T) {
	t.Parallel()
	root, h := internet(t)
	servers := dnstest.NewUpstream(t, h)
	e := newEngine(t, root, servers)
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "bad.signed.example")
	p := start(t, "REMPART_UPSTREAMS=udp://"+e.addr, "REMPART_LISTS="+list)
	for _, tt := range []struct {
		name string
		want string
		ad   bool
		errs []uint16
	}{
		{"www.signed.example", origin, true, nil},
		{"missing.signed.example", "NOERROR", true, nil},
		{"www.plain.example", origin, false, nil},
		{"forged.signed.example", "SERVFAIL", false, []uint16{dns.ExtendedErrorCodeDNSBogus}},
		{"expired.signed.example", "SERVFAIL", false, []uint16{dns.ExtendedErrorCodeSignatureExpired}},
		{"bad.signed.example", page, false, []uint16{dns.ExtendedErrorCodeBlocked, dns.ExtendedErrorCodeForgedAnswer}},
	} {
		for _, network := range []string{"udp", "tcp"} { // from the engine, and from the cache
			m := dnstest.Exchange(t, network, p.DNS, validated(tt.name))
			if address(m) != tt.want || m.AuthenticatedData != tt.ad || !slices.Equal(errorsOf(m), tt.errs) {
				t.Errorf("%s over %s: %s, AD %v, extended errors %v; want %s, %v, %v", tt.name, network, address(m), m.AuthenticatedData, errorsOf(m), tt.want, tt.ad, tt.errs)
			}
		}
	}
	unchecked := question("forged.signed.example")
	unchecked.CheckingDisabled = true
	if m := dnstest.Exchange(t, "udp", p.DNS, unchecked); address(m) != origin || m.AuthenticatedData {
		t.Errorf("with CD: %v", m)
	}
	e.program.Stop()
	if said := e.program.Said(); regexp.MustCompile(`example|warning|error`).MatchString(said) {
		t.Errorf("the engine logged a name or a problem:\n%s", said)
	}
}

// TestEngineHasExpiredAnswers stops all name servers. A Rempart that was started since gets the expired answers of the engine.
func TestEngineHasExpiredAnswers(t *testing.T) {
	t.Parallel()
	root, h := internet(t)
	servers := dnstest.NewUpstream(t, h)
	e := newEngine(t, root, servers)
	const name = "www.short.plain.example"
	if m := ask(t, start(t, "REMPART_UPSTREAMS=udp://"+e.addr), name); address(m) != origin {
		t.Fatalf("answer: %v", m)
	}
	time.Sleep(2500 * time.Millisecond) // its TTL is over, in whole seconds
	servers.Handle(dnstest.Drop())
	p := start(t, "REMPART_UPSTREAMS=udp://"+e.addr)
	began := time.Now()
	m := ask(t, p, name)
	took := time.Since(began)
	t.Logf("after %v: %s, extended errors %v", took, address(m), errorsOf(m))
	if address(m) != origin || !slices.Contains(errorsOf(m), dns.ExtendedErrorCodeStaleAnswer) || took > 4*time.Second {
		t.Errorf("after %v: %v", took, m)
	}
	began = time.Now()
	m = ask(t, p, "new.plain.example")
	t.Logf("a new name after %v: %s, extended errors %v", time.Since(began), address(m), errorsOf(m))
}

// TestEngineRestarts stops the engine for some time while clients ask. Every query gets an answer: names in Rempart's cache, expired or not, their address at once; new
// names wait for the engine, for up to three seconds, and get their address.
func TestEngineRestarts(t *testing.T) {
	t.Parallel()
	pauses := []time.Duration{time.Second}
	if os.Getenv(longTests) != "" {
		pauses = append(pauses, 3*time.Second, 10*time.Second, 40*time.Second)
	}
	root, h := internet(t)
	e := newEngine(t, root, dnstest.NewUpstream(t, h))
	p := start(t, "REMPART_UPSTREAMS=udp://"+e.addr)
	fresh := startQuestioners(t, p, "plain.example", 4)
	cached := startQuestionersFor(t, p, 4, func(c, i int) string { return fmt.Sprintf("c%d-%d.plain.example", c, i%20) })
	expired := startQuestionersFor(t, p, 4, func(c, i int) string { return fmt.Sprintf("e%d-%d.short.plain.example", c, i%20) })
	for _, l := range []*questioners{fresh, cached, expired} {
		l.waitForGood(time.Now(), 200)
	}
	for _, pause := range pauses {
		down := time.Now()
		e.program.Stop()
		time.Sleep(pause)
		e.start(t)
		up := time.Now()
		after := fresh.waitForGood(up, 200)
		t.Logf("without the engine for %v: the first of 200 good answers to new names %v after it answers again", up.Sub(down), after)
		if after > 5*time.Second {
			t.Errorf("good answers to new names began %v after the engine answered again", after)
		}
		for kind, l := range map[string]*questioners{"new": fresh, "cached": cached, "expired": expired} {
			queries, good, longest := l.between(down, time.Now())
			t.Logf("%s names: %d queries, %d with an address, longest answer %v", kind, queries, good, longest)
			if good != queries && (l != fresh || pause <= 2*time.Second) {
				t.Errorf("%d of %d queries for %s names had no address", queries-good, queries, kind)
			}
		}
	}
}

// TestEngineAnswersSoonAfterOutage silences all name servers while clients ask for new names, as when the line is interrupted, and checks how soon new names are answered
// when the servers answer again.
func TestEngineAnswersSoonAfterOutage(t *testing.T) {
	t.Parallel()
	outage := 8 * time.Second
	if os.Getenv(longTests) != "" {
		outage = time.Minute
	}
	root, h := internet(t)
	servers := dnstest.NewUpstream(t, h)
	e := newEngine(t, root, servers)
	p := start(t, "REMPART_UPSTREAMS=udp://"+e.addr)
	if m := ask(t, p, "www.plain.example"); address(m) != origin {
		t.Fatalf("answer: %v", m)
	}
	servers.Handle(dnstest.Drop())
	var clients sync.WaitGroup
	end := time.Now().Add(outage)
	for c := range 8 {
		clients.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				ask(t, p, fmt.Sprintf("o%d-%d.plain.example", c, i))
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	time.Sleep(time.Until(end))
	servers.Handle(h)
	i := 0
	dnstest.Eventually(t, "a new name is answered", func() bool {
		i++
		return address(ask(t, p, fmt.Sprintf("back%d.plain.example", i))) == origin
	})
	after := time.Since(end)
	clients.Wait()
	t.Logf("new names are answered %v after an outage of %v", after, outage)
	if after > 10*time.Second {
		t.Errorf("new names are answered %v after the outage", after)
	}
}
