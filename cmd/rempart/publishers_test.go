package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"rempart/internal/dnstest"
)

// recorder is a contextDialer that refuses, and says for what it was asked.
type recorder struct{ called string }

func (r recorder) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	return nil, errors.New(r.called + " asked for " + address)
}

// TestPublishersAreFound looks hosts up where queries for them would go, after the hosts file.
func TestPublishersAreFound(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	hosts := filepath.Join(t.TempDir(), "hosts")
	write(t, hosts, "# hosts", "127.0.0.1 localhost", "127.0.0.1\tlists.here.example  Lists # ours", "0.0.0.0 blocked.example", "nonsense lists.far.example")
	p := &publishers{hosts: hosts, main: recorder{"main"}, zones: []zoneDialer{
		{"\x06corp-a\x07example\x00", recorder{"corp-a"}}, {"\x03sub\x06corp-a\x07example\x00", recorder{"sub"}},
	}}
	for host, want := range map[string]string{
		"lists.here.example": "", "LISTS.here.example.": "", "lists": "", "127.0.0.1": "",
		"lists.corp-a.example": "corp-a", "corp-a.example.": "corp-a", "x.SUB.corp-a.example": "sub", "xcorp-a.example": "main",
		"lists.far.example": "main", "blocked.example": "main",
	} {
		conn, err := p.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			conn.Close()
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want+" asked for")) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
	p.hosts = filepath.Join(t.TempDir(), "none")
	if _, err := p.DialContext(t.Context(), "tcp", "lists.here.example:1"); err == nil || !strings.HasPrefix(err.Error(), "main") {
		t.Errorf("without a hosts file: %v", err)
	}
	if _, err := os.Stat(hostsFile); err == nil && len((&publishers{hosts: hostsFile}).inHostsFile("localhost")) == 0 {
		t.Log("this machine's hosts file does not name localhost")
	}
}

// TestListInForwardedZone fetches a list from a host that only the resolver of its zone knows.
func TestListInForwardedZone(t *testing.T) {
	t.Parallel()
	publisher := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "bad.example") }))
	t.Cleanup(publisher.Close)
	main := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if strings.HasSuffix(q.Msg.Question[0].Name, "corp-a.example.") {
			t.Errorf("the upstreams are asked for %s", q.Msg.Question[0].Name)
		}
		q.Send(q.Reply(3))
	})
	inner := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A 127.0.0.1"))
	p := start(t, upstreams(main), "REMPART_FORWARD=corp-a.example=udp://"+inner.Addr.String(),
		"REMPART_LISTS=http://lists.corp-a.example:"+portOf(publisher.URL)+"/l.txt")
	dnstest.Eventually(t, "the list is in force", func() bool { return address(ask(t, p, "bad.example")) == page })
	control := startControl(t, "REMPART_UPSTREAMS=udp://"+main.Addr.String(), "REMPART_FORWARD=corp-a.example=udp://"+inner.Addr.String(),
		"REMPART_LISTS=http://lists.corp-a.example:"+portOf(publisher.URL)+"/l.txt")
	dnstest.Eventually(t, "control has the list", func() bool { return strings.Contains(control.Stderr(), "list loaded") })
}

// TestListThroughProxy fetches lists through the proxy of the environment, in either case of its variables, unless NO_PROXY names the host.
func TestListThroughProxy(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		fmt.Fprintln(w, "bad.example")
	}))
	t.Cleanup(proxy.Close)
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) { q.Send(q.Reply(3)) })
	via := strings.Replace(proxy.URL, "http://", "http://user:hunter2@", 1)
	for _, variable := range []string{"HTTP_PROXY", "http_proxy"} {
		p := start(t, upstreams(u), "REMPART_LISTS=http://lists.nowhere.example/l.txt", variable+"="+via)
		dnstest.Eventually(t, "the list is in force by "+variable, func() bool { return address(ask(t, p, "bad.example")) == page })
		p.Stop(t)
	}
	before := asked.Load()
	p := start(t, upstreams(u), "REMPART_LISTS=http://lists.nowhere.example/l.txt", "http_proxy="+via, "no_proxy=nowhere.example")
	dnstest.Eventually(t, "the direct attempt fails", func() bool { return strings.Contains(p.Stderr(), "list cannot be fetched or read") })
	if asked.Load() != before {
		t.Error("the proxy is asked for what NO_PROXY names")
	}
	p.Stop(t)
	p = start(t, upstreams(u), "REMPART_LISTS=http://lists.nowhere.example/l.txt", "HTTP_PROXY=gopher://user:hunter2@proxy.example")
	dnstest.Eventually(t, "a bad proxy is reported", func() bool { return strings.Contains(p.Stderr(), "the variable HTTP_PROXY is no URL of a proxy") })
	if strings.Contains(p.Stderr(), "hunter2") {
		t.Error("the log holds the password")
	}
}

// portOf returns the port of a URL on loopback.
func portOf(url string) string {
	addr, err := netip.ParseAddrPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(addr.Port())
}
