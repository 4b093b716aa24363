package main

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/grant"
)

const probeName = "probe.rempart.internal"

// continuing returns the settings by which people continue to every blocked name, and the secrets of their links, which the program shares with the test.
func continuing(t *testing.T, list string) (env []string, secrets *grant.Secrets) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "links")
	write(t, path, "# shared by all servers", "e5e973e5a6b2a43f48e7dc849e37bfcf")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if secrets, err = grant.Parse(text); err != nil {
		t.Fatal(err)
	}
	return []string{"REMPART_LISTS=" + list, "REMPART_CONTINUE_CATEGORIES=malicious", "REMPART_CONTINUE_KEY_FILE=" + path}, secrets
}

// goName returns the name by which a client continues to a name.
func goName(t *testing.T, secrets *grant.Secrets, client, name string) string {
	t.Helper()
	wire, err := blocklist.AppendName(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	return secrets.Token(wire, netip.MustParseAddr(client), time.Now().Unix()) + "." + name + ".go." + probeName
}

// askFrom asks for A of a name from an address.
func askFrom(t *testing.T, p *dnstest.Program, client, name string) string {
	t.Helper()
	c := &dns.Client{Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(client)}}, Timeout: time.Minute}
	m, _, err := c.Exchange(question(name), p.DNS)
	if err != nil {
		t.Fatal(err)
	}
	return address(m)
}

// TestContinueOverEachTransport checks that a link sets a grant over each transport, for the client only, and that a server that shares the secret accepts it, too.
func TestContinueOverEachTransport(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A "+origin))
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "bad.example")
	env, secrets := continuing(t, list)
	s := startEncrypted(t, append(env, upstreams(u))...)
	for transport, exchange := range s.clients {
		name := strings.ReplaceAll(transport, "/", "") + ".bad.example"
		send := func(name string) string {
			m := question(name)
			m.Id = 0
			packed, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			answer := new(dns.Msg)
			if err := answer.Unpack(exchange(t, packed)); err != nil {
				t.Fatal(err)
			}
			return address(answer)
		}
		if got := send(name); got != page {
			t.Errorf("%s, before: %s, want the page", transport, got)
		}
		if got := send(goName(t, secrets, "127.0.0.1", name)); got != page {
			t.Errorf("%s, the link: %s, want the page", transport, got)
		}
		if got := send(name); got != origin {
			t.Errorf("%s, afterwards: %s, want the name's own address", transport, got)
		}
		if got := askFrom(t, s.Program, "127.0.0.2", name); got != page {
			t.Errorf("%s, another client: %s, want the page", transport, got)
		}
	}
	if got := askFrom(t, s.Program, "127.0.0.1", "bad.example"); got != page {
		t.Errorf("the name above: %s, want the page", got)
	}
	other := start(t, append(env, upstreams(u))...)
	askFrom(t, other, "127.0.0.1", goName(t, secrets, "127.0.0.1", "bad.example"))
	if got := askFrom(t, other, "127.0.0.1", "bad.example"); got != origin {
		t.Errorf("at another server: %s, want the name's own address", got)
	}
	for _, q := range u.Seen() {
		asked := q.Msg.Question[0]
		if asked.Qclass == dns.ClassCHAOS { // whether the upstream is this server
			continue
		}
		if name := strings.ToLower(asked.Name); strings.Contains(name, "rempart") && !strings.HasSuffix(name, ".rempart.example.") {
			t.Errorf("an upstream was asked for %s", name)
		}
	}
	_, metrics := get(t, s.Program, "/metrics")
	for _, line := range []string{"rempart_continue_grants_total 7", "rempart_continue_answers_total 7", `rempart_continue_refused_total{reason="foreign"} 0`} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("/metrics has no line %q", line)
		}
	}
}

// TestRestartForgetsGrants checks that a grant ends with the process.
func TestRestartForgetsGrants(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A "+origin))
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "bad.example")
	env, secrets := continuing(t, list)
	env = append(env, upstreams(u), "REMPART_DATA_DIR="+t.TempDir())
	p := start(t, env...)
	askFrom(t, p, "127.0.0.1", goName(t, secrets, "127.0.0.1", "bad.example"))
	if got := askFrom(t, p, "127.0.0.1", "bad.example"); got != origin {
		t.Errorf("with a grant: %s, want the name's own address", got)
	}
	p.Stop(t)
	if got := askFrom(t, start(t, env...), "127.0.0.1", "bad.example"); got != page {
		t.Errorf("after a restart: %s, want the page", got)
	}
}

// TestNobodyContinuesByDefault checks that links have no effect without settings, and that the probe zone leads to the page.
func TestNobodyContinuesByDefault(t *testing.T) {
	t.Parallel()
	p := start(t, upstreams(dnstest.NewUpstream(t, nil)))
	for _, name := range []string{goName(t, grant.Random(), "127.0.0.1", "phishing.test"), "phishing.test", "x." + probeName} {
		if got := address(ask(t, p, name)); got != page {
			t.Errorf("%s: %s, want the page", name, got)
		}
	}
	if _, metrics := get(t, p, "/metrics"); strings.Contains(metrics, "rempart_continue") {
		t.Error("grants are counted although nobody may continue")
	}
}

var (
	onwardLink = regexp.MustCompile(`href="(http://[^"]*\.ask\.[^"]*)"`)
	onwardForm = regexp.MustCompile(`<form action="([^"]*)"`)
)

// pageAt returns what the page's server serves to a client for a URL, whatever address its host has.
func pageAt(t *testing.T, p *dnstest.Program, client, address string) (status int, body string) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}, Timeout: time.Minute}
	return fetch(t, &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, p.Page)
	}}}, address)
}

// TestReaderContinuesFromThePage goes the way of a reader: the warning page, the confirmation, and the site.
func TestReaderContinuesFromThePage(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A "+origin))
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "bad.example")
	p := start(t, upstreams(u), "REMPART_LISTS="+list, "REMPART_CONTINUE_CATEGORIES=malicious", "REMPART_PAGE_LISTEN=127.0.0.1:0")
	status, body := pageAt(t, p, "127.0.0.1", "http://www.bad.example/?lang=en")
	link := onwardLink.FindStringSubmatch(body)
	if status != http.StatusForbidden || link == nil {
		t.Fatalf("warning page: %d %s", status, body)
	}
	if got := askFrom(t, p, "127.0.0.1", strings.TrimSuffix(strings.TrimPrefix(link[1], "http://"), "/")); got != page {
		t.Errorf("the name of the confirmation: %s, want the page", got)
	}
	status, body = pageAt(t, p, "127.0.0.1", link[1]+"?lang=en")
	form := onwardForm.FindStringSubmatch(body)
	if status != http.StatusForbidden || form == nil {
		t.Fatalf("confirmation: %d %s", status, body)
	}
	host := strings.TrimSuffix(strings.TrimPrefix(form[1], "http://"), "/")
	if got := askFrom(t, p, "127.0.0.1", "www.bad.example"); got != page {
		t.Errorf("before the reader confirms: %s, want the page", got)
	}
	askFrom(t, p, "127.0.0.1", host)
	if status, body := pageAt(t, p, "127.0.0.1", form[1]+"?lang=en"); status != http.StatusOK || !strings.Contains(body, "url=http://www.bad.example/") {
		t.Errorf("after the confirmation: %d %s", status, body)
	}
	for client, want := range map[string]string{"127.0.0.1": origin, "127.0.0.2": page} {
		if got := askFrom(t, p, client, "www.bad.example"); got != want {
			t.Errorf("afterwards, %s gets %s, want %s", client, got, want)
		}
	}
	if status, _ := pageAt(t, p, "127.0.0.2", form[1]); status != http.StatusForbidden {
		t.Errorf("another client with the same URL: status %d", status)
	}
	for host, want := range map[string]string{"x.plain." + probeName: page, "x.ipv4." + probeName: page, "x.tls." + probeName: "NOERROR", "x.ipv6." + probeName: "NOERROR", "x.other." + probeName: "NOERROR"} {
		if got := askFrom(t, p, "127.0.0.1", host); got != want {
			t.Errorf("check %s: %s, want %s", host, got, want)
		}
	}
}
