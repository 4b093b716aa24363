package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

func TestServe(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "0.0.0.0 bad.example", "||worse.example^")
	p := start(t, upstreams(u), "REMPART_LISTS="+list, "REMPART_ORGANISATION=A Test")

	greeting := p.Stdout()
	for _, said := range []string{
		p.DNS, "http://" + p.Page + "/", "http://" + p.Metrics + "/metrics", "udp://" + u.Addr.String(),
		list + ": 2 entries", "built in: malware.test, phishing.test", "by a set of 4 names",
	} {
		if !strings.Contains(greeting, said) {
			t.Errorf("the greeting does not say %q:\n%s", said, greeting)
		}
	}
	host, port, _ := net.SplitHostPort(p.DNS)
	if want := fmt.Sprintf("dig @%s -p %s phishing.test", host, port); !strings.Contains(greeting, want) {
		t.Errorf("the greeting has no command to try, %q:\n%s", want, greeting)
	}

	for _, network := range []string{"udp", "tcp"} {
		for _, tt := range []struct {
			name, want string
			errs       []uint16
		}{
			{"good.example", origin, nil},
			{"bad.example", page, []uint16{15, 4}},
			{"www.bad.example", origin, nil}, // a hosts file lists exact names
			{"www.worse.example", page, []uint16{15, 4}},
			{"phishing.test", page, []uint16{15, 4}},
			{"www.malware.test", page, []uint16{15, 4}},
			{"other.test", "NXDOMAIN", nil},
			{"localhost", "127.0.0.1", nil},
		} {
			m := dnstest.Exchange(t, network, p.DNS, question(tt.name))
			if got := address(m); got != tt.want {
				t.Errorf("%s over %s: %s, want %s", tt.name, network, got, tt.want)
			}
			if diff := cmp.Diff(tt.errs, errorsOf(m)); diff != "" {
				t.Errorf("%s over %s: extended errors (-want +got):\n%s", tt.name, network, diff)
			}
		}
	}
	for path, want := range map[string]string{"/livez": "alive\n", "/readyz": "ready\n"} {
		if code, body := get(t, p, path); code != http.StatusOK || body != want {
			t.Errorf("GET %s: status %d, body %q; want 200 and %q", path, code, body, want)
		}
	}
	_, metrics := get(t, p, "/metrics")
	for _, line := range []string{
		`rempart_queries_total{rcode="NOERROR",transport="tcp",verdict="block"} 4`, "rempart_set_names 4", "rempart_observe_mode 0",
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("/metrics has no line %q", line)
		}
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+p.Page+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "www.worse.example"
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("the warning page: status %s", resp.Status)
	}
}

// load sends queries from several sockets, one after the other on each socket, until stop. A missing answer fails the test. load returns the number of answers.
func load(t *testing.T, p *dnstest.Program, stop *atomic.Bool) (answered func() int) {
	t.Helper()
	const sockets, least = 4, 1000
	var wait sync.WaitGroup
	var total atomic.Int64
	for i := range sockets {
		wait.Go(func() {
			network := "udp"
			if i == 0 {
				network = "tcp"
			}
			c, err := dns.Dial(network, p.DNS)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for n := 0; n < least || !stop.Load(); n++ {
				name := []string{"good.example", "bad.example", fmt.Sprintf("n%d.good.example", n%100)}[n%3]
				m := question(name)
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				if err := c.WriteMsg(m); err != nil {
					t.Error(err)
					return
				}
				r, err := c.ReadMsg()
				if err != nil || r.Id != m.Id || address(r) != origin && address(r) != page {
					t.Errorf("query %d over %s: %v, %v", n, network, r, err)
					return
				}
				total.Add(1)
			}
		})
	}
	return func() int { wait.Wait(); return int(total.Load()) }
}

// TestNoQueryIsLostWhileListIsReplaced checks that no query is lost while a list is replaced by a rename, and that the new verdict is applied.
func TestNoQueryIsLostWhileListIsReplaced(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "bad.example")
	p := start(t, upstreams(u), "REMPART_LISTS="+list)
	if got := address(ask(t, p, "new.example")); got != origin {
		t.Fatalf("before: %s", got)
	}
	var stop atomic.Bool
	answered := load(t, p, &stop)
	write(t, list, "bad.example", "new.example")
	dnstest.Eventually(t, "the new name is blocked, though its answer was cached", func() bool {
		return t.Failed() || address(ask(t, p, "new.example")) == page
	})
	write(t, list, "new.example")
	dnstest.Eventually(t, "the name taken out passes", func() bool {
		return t.Failed() || address(ask(t, p, "bad.example")) == origin
	})
	stop.Store(true)
	t.Logf("%d queries answered meanwhile", answered())
}

// TestSIGHUPReloadsLists checks that SIGHUP makes the program read a list whose change it cannot detect.
func TestSIGHUPReloadsLists(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	var content atomic.Value
	content.Store("bad.example\n")
	publisher := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, content.Load())
	}))
	t.Cleanup(publisher.Close) // after the program has ended
	p := start(t, upstreams(u), "REMPART_LISTS="+publisher.URL+"/list.txt")
	if got := address(ask(t, p, "bad.example")); got != page {
		t.Errorf("at the start: %s", got)
	}
	content.Store("new.example\n")
	p.Signal(t, syscall.SIGHUP)
	dnstest.Eventually(t, "the new name is blocked", func() bool { return address(ask(t, p, "new.example")) == page })
	if got := address(ask(t, p, "bad.example")); got != origin {
		t.Errorf("the removed name: %s", got)
	}
}

// TestWaitingQueriesAreAnsweredAtTermination checks that queries which wait for the upstream are answered before the program ends.
func TestWaitingQueriesAreAnsweredAtTermination(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, dnstest.Delay(300*time.Millisecond, dnstest.Answer("@ 300 IN A "+origin)))
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := start(t, upstreams(u))
		seen := func(name string) bool {
			for _, q := range u.Seen() {
				if strings.EqualFold(q.Msg.Question[0].Name, name) {
					return true
				}
			}
			return false
		}
		var waiting sync.WaitGroup
		for _, network := range []string{"udp", "tcp"} {
			name := fmt.Sprintf("%s.%d.example.", network, sig)
			waiting.Go(func() {
				packed, err := question(name).Pack()
				if err != nil {
					t.Error(err)
					return
				}
				answer, err := dnstest.ExchangePacked(network, p.DNS, packed)
				m := new(dns.Msg)
				if err == nil {
					err = m.Unpack(answer)
				}
				if err != nil || address(m) != origin {
					t.Errorf("%v: over %s: %v, %v", sig, network, m, err)
				}
			})
			dnstest.Eventually(t, "the query is upstream", func() bool { return seen(name) })
		}
		p.Signal(t, sig)
		if code := p.Wait(t); code != 0 {
			t.Errorf("%v: exit code %d", sig, code)
		}
		waiting.Wait()
		if !strings.Contains(p.Stderr(), "stopped after all pending work was finished") {
			t.Errorf("%v: the end was not logged", sig)
		}
	}
}
