package main

import (
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// TestNextProcessContinues checks that a process answers the queries that its predecessor received and could not answer, queries that arrived while no process
// ran, and questions that its predecessor had cached, without asking the upstream again.
func TestNextProcessContinues(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		t.Run(listen, func(t *testing.T) {
			t.Parallel()
			nextProcessContinues(t, listen)
		})
	}
}

func nextProcessContinues(t *testing.T, listen string) {
	var releases atomic.Bool // the upstream answers slow.example
	answer := dnstest.Answer("@ 300 IN A " + origin)
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if !strings.EqualFold(q.Msg.Question[0].Name, "slow.example.") || releases.Load() {
			answer(q)
		}
	})
	asked := func(name string) (n int) {
		for _, q := range u.Seen() {
			if strings.EqualFold(q.Msg.Question[0].Name, dns.Fqdn(name)) {
				n++
			}
		}
		return n
	}
	s := dnstest.NewSupervisor(t, upstreams(u), "REMPART_LISTEN="+listen)
	at := s.Program.DNS
	if port, ok := strings.CutPrefix(at, "0.0.0.0"); ok {
		at = "127.0.0.1" + port
	}
	ask := func(name string) string { return address(dnstest.Exchange(t, "udp", at, question(name))) }
	if got := ask("cached.example"); got != origin {
		t.Fatalf("cached.example: %s", got)
	}
	before := asked("cached.example")
	waiting := send(t, at, "slow.example")
	dnstest.Eventually(t, "the upstream is asked", func() bool { return asked("slow.example") > 0 })
	if code := s.Program.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	releases.Store(true)
	between := send(t, at, "between.example")
	s.Start(t)
	for name, c := range map[string]net.Conn{"slow.example": waiting, "between.example": between} {
		if got := address(receive(t, c)); got != origin {
			t.Errorf("%s: %s, want %s", name, got, origin)
		}
	}
	dnstest.Eventually(t, "the cached answers are read", func() bool { return strings.Contains(s.Program.Stderr(), "answers=") })
	if got := ask("cached.example"); got != origin || asked("cached.example") != before {
		t.Errorf("cached.example: %s, and the upstream was asked %d times, want %d", got, asked("cached.example"), before)
	}
	for _, name := range s.Stored() {
		if strings.Contains(name, handoverQuery) || strings.Contains(name, handoverCache) {
			t.Errorf("%q stays in the store", name)
		}
	}
}

// TestSocketsThatAreNotUsedAreRemoved checks that a process removes sockets of addresses that its settings no longer name.
func TestSocketsThatAreNotUsedAreRemoved(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	s := dnstest.NewSupervisor(t, upstreams(u), "REMPART_LISTEN=127.0.0.1:0,[::1]:0")
	before := s.Stored()
	s.Restart(t, "REMPART_LISTEN=127.0.0.1:0")
	dnstest.Eventually(t, "the sockets of ::1 are removed", func() bool {
		return !slices.ContainsFunc(s.Stored(), func(name string) bool { return strings.Contains(name, "__1") })
	})
	if !slices.ContainsFunc(before, func(name string) bool { return strings.Contains(name, "__1") }) {
		t.Errorf("the sockets of ::1 were never stored: %q", before)
	}
}

// TestAddressesChange checks that a process can use other addresses of the same port than its predecessor, whose sockets are kept.
func TestAddressesChange(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	one := dnstest.FreeAddr(t)
	all := "0.0.0.0" + strings.TrimPrefix(one, "127.0.0.1")
	s := dnstest.NewSupervisor(t, upstreams(u), "REMPART_LISTEN="+one)
	for _, listen := range []string{all, one, all + "," + strings.Replace(all, "0.0.0.0", "[::]", 1)} {
		s.Restart(t, "REMPART_LISTEN="+listen)
		for _, network := range []string{"udp", "tcp"} {
			if got := address(dnstest.Exchange(t, network, one, question("good.example"))); got != origin {
				t.Errorf("%s over %s: %s", listen, network, got)
			}
		}
	}
}

// send sends a query over UDP, and returns the socket on which the answer arrives.
func send(t *testing.T, to, name string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	packed, err := question(name).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(packed); err != nil {
		t.Fatal(err)
	}
	return c
}

// receive returns the answer that arrives on a socket.
func receive(t *testing.T, c net.Conn) *dns.Msg {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, dns.MaxMsgSize)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	return m
}
