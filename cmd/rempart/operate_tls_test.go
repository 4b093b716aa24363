package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist/feed"
	"rempart/cmd/rempart/setup"
	"rempart/internal/config"
	"rempart/internal/dnstest"
)

// authority is a private certificate authority whose certificates are files in a folder.
type authority struct {
	t           *testing.T
	dir         string
	certificate tls.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir(), certificate: dnstest.Authority(t, "ca")}
	a.write("ca", a.certificate)
	return a
}

// issue creates a certificate and its key, in NAME.pem and NAME.key.
func (a *authority) issue(name string, template *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	template.Subject.CommonName = name
	c := dnstest.Certificate(a.t, template, &a.certificate)
	a.write(name, c)
	return c.Leaf
}

func (a *authority) write(name string, c tls.Certificate) {
	dnstest.WriteCertificate(a.t, c, a.path(name+".pem"), a.path(name+".key"))
}

func (a *authority) path(file string) string { return filepath.Join(a.dir, file) }

// TestPushWithClientCertificate checks pushes with a client certificate instead of a token to a control with a certificate of a private authority, which an
// edge follows.
func TestPushWithClientCertificate(t *testing.T) {
	t.Parallel()
	ca, unauthorized := newAuthority(t), newAuthority(t)
	ca.issue("control", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	for _, a := range []*authority{ca, unauthorized} {
		a.issue("ada", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	control := startControl(t, "REMPART_PUSH_CERT="+ca.path("control.pem"), "REMPART_PUSH_KEY="+ca.path("control.key"), "REMPART_PUSH_CLIENT_CA="+ca.path("ca.pem"))
	if !strings.HasPrefix(control.API, "https://") {
		t.Fatalf("the API is at %s", control.API)
	}
	keys, trusting := []string{"REMPART_API=" + control.API, "REMPART_KEYS=" + keysOf(control)}, "REMPART_API_CA="+ca.path("ca.pem")
	if _, stderr, code := operatorEnv(t, keys, "token", "create", "ada", "--role", "publisher"); code != 2 || !strings.Contains(stderr, "REMPART_API_CA names") {
		t.Errorf("without REMPART_API_CA: exit code %d, want 2\n%s", code, stderr)
	}
	stdout, stderr, code := operatorEnv(t, append(keys, trusting), "token", "create", "ada", "--role", "publisher", "--certificate", ca.path("ada.pem"))
	if code != 0 || stdout != "" || !strings.Contains(stderr, "the certificate replaces the token") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	secret, _, code := operatorEnv(t, append(keys, trusting), "token", "create", "node", "--role", "node")
	if code != 0 {
		t.Fatal("the token was not created")
	}
	u := dnstest.NewUpstream(t, nil)
	edge := start(t, upstreams(u), "REMPART_CONTROL="+control.API+"/v1/journal", "REMPART_CONTROL_KEY="+rootOf(t, control),
		"REMPART_CONTROL_TOKEN="+strings.TrimSpace(secret), "REMPART_CONTROL_CA="+ca.path("ca.pem"))
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "evil.example")
	for name, tt := range map[string]struct {
		from *authority
		code int
		said string
	}{
		"no certificate":                   {nil, 2, "REMPART_API_CERT"},
		"certificate of another authority": {unauthorized, 2, ""},
		"valid certificate":                {ca, 0, ""},
	} {
		env := append([]string{trusting}, keys...)
		if tt.from != nil {
			env = append(env, "REMPART_API_CERT="+tt.from.path("ada.pem"), "REMPART_API_CERT_KEY="+tt.from.path("ada.key"))
		}
		if stdout, stderr, code := operatorEnv(t, env, "push", list, "--id", "tls", "--wait"); code != tt.code || !strings.Contains(stderr, tt.said) {
			t.Errorf("a certificate %s: exit code %d\n%s%s", name, code, stdout, stderr)
		}
	}
	if got := address(ask(t, edge, "evil.example")); got != page {
		t.Errorf("the edge: %s", got)
	}
}

// TestEdgeWithoutControlIsNotReady checks that an edge is not ready if it received nothing from control for too long.
func TestEdgeWithoutControlIsNotReady(t *testing.T) {
	t.Parallel()
	control := startControl(t)
	c := &config.Config{Process: config.Process{DataDir: t.TempDir()}}
	c.Control, c.ControlKey, c.ControlToken, c.Node = control.API+"/v1/journal", config.List{rootOf(t, control)}, newToken(t, control, "node", "node"), "node"
	lists, err := feed.New(feed.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	e, err := setup.FollowControl(c, setup.EdgeOptions{Log: slog.New(slog.DiscardHandler), Dial: new(net.Dialer).DialContext, Local: lists})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	if why := e.NotReady(0); !strings.Contains(why, "no set is in force") {
		t.Errorf("before the edge received a set: %q", why)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if err := e.Wait(ctx, 1); err != nil {
		t.Fatal(err)
	}
	for stale, said := range map[time.Duration]string{0: "", time.Hour: "", time.Nanosecond: "control sent nothing for"} {
		if why := e.NotReady(stale); (said == "") != (why == "") || !strings.Contains(why, said) {
			t.Errorf("NotReady(%v) = %q, want a text with %q", stale, why, said)
		}
	}
}
