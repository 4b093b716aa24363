package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"rempart/internal/dnstest"
)

// resolverAt answers every question for an address with answer, on port 53 of addr.
func resolverAt(t *testing.T, addr, answer string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(addr, "53"))
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			rr, err := dns.NewRR(q.Question[0].Name + " 1 IN A " + answer)
			if err != nil {
				panic(err)
			}
			m.Answer = []dns.RR{rr}
		}
		_ = w.WriteMsg(m) // the client may have closed its socket
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
}

// systemResolvers mounts a file over the system's file of resolvers. The returned function rewrites it.
func systemResolvers(t *testing.T) (rewrite func(lines ...string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	rewrite = func(lines ...string) { // in place: the mount is bound to the file, not to its name
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rewrite("# nothing yet")
	if err := unix.Mount(path, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		t.Skipf("no file can be mounted over /etc/resolv.conf here: %v", err)
	}
	return rewrite
}

// within calls got every 50 ms until it returns want, at most as often as fits into d. The time that a loaded machine adds to an answer or to a pause does not
// reduce the number of calls; the time of a query without an answer does.
func within(t *testing.T, d time.Duration, what, want string, got func() string) {
	t.Helper()
	const pause = 50 * time.Millisecond
	for spent := time.Duration(0); ; spent += pause {
		began := time.Now()
		now := got()
		if now == want {
			return
		}
		if now == unanswered {
			spent += time.Since(began)
		}
		if spent > d {
			t.Fatalf("%s: %s after %v, want %s", what, now, d, want)
		}
		time.Sleep(pause)
	}
}

// unanswered is the outcome of a query without an answer.
const unanswered = "nothing"

// outcome returns the address in the answer, or else its rcode; unanswered if no answer arrives.
func outcome(addr, name string) string {
	c := dns.Client{Timeout: 10 * time.Second}
	m, _, err := c.Exchange(question(name), addr)
	if err != nil {
		return unanswered
	}
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			return a.A.String()
		}
	}
	return dns.RcodeToString[m.Rcode]
}

// TestServerStartsWithoutNetwork checks a server that starts before the machine has an address or a resolver, for example after a power failure at home.
func TestServerStartsWithoutNetwork(t *testing.T) {
	if !dnstest.Isolated(t) {
		return
	}
	const addr = "10.53.0.1:5353"
	rewrite := systemResolvers(t)
	p := dnstest.StartProgram(t, exec.Command("rempart"), "REMPART_LISTEN="+addr, "REMPART_PAGE_LISTEN=10.53.0.1:8080", "REMPART_PAGE_IPV4="+page)
	for want, times := range map[string]int{"does not have the address": 2, "variable=REMPART_LISTEN": 1, "variable=REMPART_PAGE_LISTEN": 1, "msg=\"no resolver of the system can be used": 1} {
		dnstest.Eventually(t, fmt.Sprintf("the log says %q %d times", want, times), func() bool { return strings.Count(p.Stderr(), want) >= times })
		if n := strings.Count(p.Stderr(), want); n != times {
			t.Errorf("the log says %q %d times, want %d", want, n, times)
		}
	}
	dnstest.Command(t, "ip", "address", "add", "10.53.0.1/32", "dev", "lo")
	within(t, 2*time.Second, "a blocked name once the address is there", page, func() string { return outcome(addr, "phishing.test") })
	if got := outcome(addr, "good.example"); got != "SERVFAIL" {
		t.Errorf("a name without a resolver: %s", got)
	}
	if code, body := get(t, p, "/readyz"); code != 503 || !strings.Contains(body, "resolv.conf") {
		t.Errorf("/readyz: %d %s", code, body)
	}

	resolverAt(t, "127.0.1.1", "192.0.2.1")
	resolverAt(t, "127.0.1.2", "192.0.2.2")
	rewrite("nameserver 127.0.1.1")
	within(t, 5*time.Second, "a name once there is a resolver", "192.0.2.1", func() string { return outcome(addr, "one.example") })
	rewrite("nameserver 127.0.1.2")
	names := 0
	within(t, 5*time.Second, "a name after another lease", "192.0.2.2", func() string {
		names++
		return outcome(addr, strings.Repeat("x", names)+".example") // each query has a new name, so that no answer comes from the cache
	})
	rewrite("# the lease ran out")
	time.Sleep(3 * time.Second)
	if got := outcome(addr, "last.example"); got != "192.0.2.2" {
		t.Errorf("a name after the file was emptied: %s", got)
	}
	if code, body := get(t, p, "/readyz"); code != 200 {
		t.Errorf("/readyz: %d %s", code, body)
	}
}

// TestForwardsToResolversBehindStub checks that the server forwards to the resolvers behind systemd-resolved's stub if nothing answers on the stub's address.
func TestForwardsToResolversBehindStub(t *testing.T) {
	if !dnstest.Isolated(t) {
		return
	}
	systemResolvers(t)("nameserver 127.0.0.53")
	if err := unix.Mount("rempart-test", "/run", "tmpfs", 0, ""); err != nil {
		t.Skip(err)
	}
	behind := "/run/systemd/resolve/resolv.conf"
	if err := os.MkdirAll(filepath.Dir(behind), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, behind, "nameserver 127.0.1.1")
	resolverAt(t, "127.0.1.1", "192.0.2.1")
	p := start(t)
	within(t, 5*time.Second, "a name", "192.0.2.1", func() string { return outcome(p.DNS, "one.example") })
}

// TestUpstreamIsUsedOnceReachable checks that an upstream which cannot be reached for a while is used soon after it can be reached.
func TestUpstreamIsUsedOnceReachable(t *testing.T) {
	if !dnstest.Isolated(t) {
		return
	}
	p := start(t, "REMPART_UPSTREAMS=udp://10.53.0.9,tcp://10.53.0.9", "REMPART_LISTS=http://10.53.0.9:8099/list.txt")
	for i := range 20 { // until the upstream is not used any more, and is probed at increasing intervals
		if got := outcome(p.DNS, strings.Repeat("a", i+1)+".example"); got != "SERVFAIL" {
			t.Fatalf("without a network: %s", got)
		}
		time.Sleep(200 * time.Millisecond)
	}
	dnstest.Command(t, "ip", "address", "add", "10.53.0.9/32", "dev", "lo")
	resolverAt(t, "10.53.0.9", "192.0.2.1")
	l, err := net.Listen("tcp", "10.53.0.9:8099")
	if err != nil {
		t.Fatal(err)
	}
	publisher := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "listed.example\n") })}
	go func() { _ = publisher.Serve(l) }()
	t.Cleanup(func() { publisher.Close() })
	within(t, 2*time.Second, "a name that was asked before, once the upstream can be reached", "192.0.2.1", func() string {
		return outcome(p.DNS, strings.Repeat("a", 20)+".example")
	})
	names := 0
	within(t, 2*time.Second, "a name once the upstream can be reached", "192.0.2.1", func() string {
		names++
		return outcome(p.DNS, strings.Repeat("b", names)+".example")
	})
	within(t, 2*time.Second, "a listed name once its list can be fetched", page, func() string { return outcome(p.DNS, "listed.example") })
}
