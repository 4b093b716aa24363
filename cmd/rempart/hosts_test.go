package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// statusFor requests a URL with the given Host field and returns the status.
func statusFor(t *testing.T, url, host string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // Host is tested
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// TestForeignHostIsRefused checks that the API and the metrics refuse requests of a web page whose name resolves to a loopback address (DNS rebinding).
func TestForeignHostIsRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.issue("control", &x509.Certificate{DNSNames: []string{"control.example", "*.pool.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	metrics := dnstest.FreeAddr(t)
	plain := startControl(t, "REMPART_PUSH_HOSTS=proxy.example", "REMPART_METRICS_LISTEN="+metrics)
	secure := startControl(t, "REMPART_PUSH_CERT="+ca.path("control.pem"), "REMPART_PUSH_KEY="+ca.path("control.key"))
	edge := start(t, upstreams(dnstest.NewUpstream(t, nil)))
	port := func(url string) string { return url[strings.LastIndexByte(url, ':'):] }
	for _, c := range []struct {
		url, host string
		want      int
	}{
		{plain.API + "/openapi.json", "evil.example" + port(plain.API), 421},
		{plain.API + "/v1/nodes", "evil.example", 421},
		{plain.API + "/v1/journal/head", "evil.example", 421},
		{plain.API + "/openapi.json", "", 200},
		{plain.API + "/openapi.json", "localhost" + port(plain.API), 200},
		{plain.API + "/openapi.json", "Proxy.example", 200},
		{plain.API + "/openapi.json", "192.0.2.1:443", 200},
		{secure.API + "/openapi.json", "evil.example", 421},
		{secure.API + "/openapi.json", "proxy.example", 421},
		{secure.API + "/openapi.json", "control.example" + port(secure.API), 200},
		{secure.API + "/openapi.json", "a.pool.example", 200},
		{"http://" + metrics + "/metrics", "evil.example" + port(metrics), 421},
		{"http://" + metrics + "/metrics", metrics, 200},
		{"http://" + edge.Metrics + "/metrics", "evil.example", 421},
		{"http://" + edge.Metrics + "/readyz", "evil.example", 421},
		{"http://" + edge.Metrics + "/metrics", edge.Metrics, 200},
		{"http://" + edge.Metrics + "/metrics", "localhost" + port(edge.Metrics), 200},
	} {
		if got := statusFor(t, c.url, c.host); got != c.want {
			t.Errorf("%s with Host %q: %d, want %d", c.url, c.host, got, c.want)
		}
	}
}

// TestPublicMetricsAcceptAnyHost checks that a listener for other machines accepts any name in the Host field.
func TestPublicMetricsAcceptAnyHost(t *testing.T) {
	t.Parallel()
	_, port, _ := net.SplitHostPort(dnstest.FreeAddr(t))
	start(t, upstreams(dnstest.NewUpstream(t, nil)), "REMPART_METRICS_LISTEN=0.0.0.0:"+port)
	if got := statusFor(t, "http://127.0.0.1:"+port+"/metrics", "edge1.example"); got != http.StatusOK {
		t.Errorf("/metrics with another name as Host: status %d, want 200", got)
	}
}
