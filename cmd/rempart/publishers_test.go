package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"rempart/internal/dnstest"
)

// TestListIsFetchedFromForwardedZone checks that a list is fetched from a host that only the resolver of a forwarded zone knows.
func TestListIsFetchedFromForwardedZone(t *testing.T) {
	t.Parallel()
	publisher := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "bad.example") }))
	t.Cleanup(publisher.Close)
	main := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if strings.HasSuffix(q.Msg.Question[0].Name, "corp-a.example.") {
			t.Errorf("the upstreams received a query for %s", q.Msg.Question[0].Name)
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

// TestListIsFetchedThroughProxy checks that lists are fetched through the proxy in HTTP_PROXY or http_proxy, unless NO_PROXY or no_proxy names the host.
func TestListIsFetchedThroughProxy(t *testing.T) {
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
		t.Error("the proxy received a request for a host in no_proxy")
	}
	p.Stop(t)
	p = start(t, upstreams(u), "REMPART_LISTS=http://lists.nowhere.example/l.txt", "HTTP_PROXY=gopher://user:hunter2@proxy.example")
	dnstest.Eventually(t, "a bad proxy is reported", func() bool { return strings.Contains(p.Stderr(), "the variable HTTP_PROXY is not the URL of a proxy") })
	if strings.Contains(p.Stderr(), "hunter2") {
		t.Error("the log contains the password")
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
