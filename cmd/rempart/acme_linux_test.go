package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// acmeAuthority is pebble, the ACME server with which Let's Encrypt tests clients. Its host is ca.example.
type acmeAuthority struct {
	ca       *authority // of the certificate of pebble's own listener
	upstream *dnstest.Upstream
	address  string
	config   string // path of the configuration
	env      []string
	overTLS  string // where pebble checks challenges over TLS
	overHTTP string // the same over HTTP
}

// newACMEAuthority prepares pebble, whose certificates are valid for a time. Every name has the address of loopback, for pebble and for the program.
func newACMEAuthority(t *testing.T, validity time.Duration) *acmeAuthority {
	t.Helper()
	dnstest.Need(t, "pebble")
	a := &acmeAuthority{ca: newAuthority(t), upstream: dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A 127.0.0.1")), address: dnstest.FreeAddr(t), overTLS: dnstest.FreeAddr(t), overHTTP: dnstest.FreeAddr(t)}
	a.ca.issue("pebble", &x509.Certificate{DNSNames: []string{"ca.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": a.address, "managementListenAddress": dnstest.FreeAddr(t), "certificate": a.ca.path("pebble.pem"), "privateKey": a.ca.path("pebble.key"),
		"httpPort": portNumber(t, a.overHTTP), "tlsPort": portNumber(t, a.overTLS), "certificateValidityPeriod": validity / time.Second,
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.config = filepath.Join(t.TempDir(), "pebble.json")
	write(t, a.config, string(text))
	a.env = []string{upstreams(a.upstream), "REMPART_ACME=DNS.example.org", "REMPART_ACME_EMAIL=dns@example.org", fmt.Sprintf("REMPART_ACME_CA=https://ca.example:%d/dir", portNumber(t, a.address)),
		"REMPART_ACME_CA_ROOT=" + a.ca.path("ca.pem"), "REMPART_DATA_DIR=" + t.TempDir()}
	return a
}

// run starts pebble and returns a function that stops it.
func (a *acmeAuthority) run(t *testing.T) (stop func()) {
	t.Helper()
	cmd := exec.Command("pebble", "-config", a.config, "-dnsserver", a.upstream.Addr.String())
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	peer := dnstest.StartPeer(t, cmd)
	answers := func() bool {
		conn, err := net.Dial("tcp", a.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	peer.Answers(t, answers)
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		dnstest.Eventually(t, "pebble ends", func() bool { return !answers() })
	}
}

// portNumber returns the port of an address.
func portNumber(t *testing.T, addr string) uint16 {
	t.Helper()
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return at.Port()
}

// issuedTo returns the certificate that a server presents for dns.example.org to a client at an address; nil if there is no connection.
func issuedTo(server, client string) *x509.Certificate {
	d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}, Timeout: time.Minute},
		Config: &tls.Config{ServerName: "dns.example.org", InsecureSkipVerify: true, NextProtos: []string{"h2", "dot"}}}
	conn, err := d.Dial("tcp", server)
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

// TestACMECertificateOverTLS gets a certificate by a challenge over TLS, which the authority checks from an address that may not ask. After a restart, the stored
// certificate is in use although the authority is gone.
func TestACMECertificateOverTLS(t *testing.T) {
	t.Parallel()
	a := newACMEAuthority(t, 90*24*time.Hour)
	stop := a.run(t)
	const client = "127.0.0.9"
	env := slices.Concat(a.env, []string{"REMPART_HTTPS_LISTEN=" + a.overTLS, "REMPART_PAGE_LISTEN=none", "REMPART_CLIENTS=" + client})
	p := start(t, env...)
	var first *x509.Certificate
	dnstest.Eventually(t, "a certificate was issued", func() bool { first = issuedTo(a.overTLS, client); return first != nil })
	if err := first.VerifyHostname("dns.example.org"); err != nil || !strings.HasPrefix(first.Issuer.CommonName, "Pebble") {
		t.Errorf("the certificate is issued by %q: %v", first.Issuer.CommonName, err)
	}
	if issuedTo(a.overTLS, "127.0.0.1") != nil {
		t.Error("a client that may not ask got a connection")
	}
	logs(t, p, "a certificate was issued and is in use")
	checkPrivate(t, filepath.Join(p.DataDir, "acme"))
	stop()
	if code := p.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if locks, err := filepath.Glob(filepath.Join(p.DataDir, "acme", "locks", "*")); err != nil || len(locks) > 0 {
		t.Errorf("left locked: %v, %v", locks, err)
	}
	for _, unwanted := range []string{"level=ERROR", "ACME: "} {
		if strings.Contains(p.Stderr(), unwanted) {
			t.Errorf("it logs %q:\n%s", unwanted, p.Stderr())
		}
	}
	again := start(t, env...)
	if c := issuedTo(a.overTLS, client); c == nil || !c.Equal(first) {
		t.Errorf("after a restart the certificate is %v\n%s", c, again.Stderr())
	}
}

// checkPrivate checks that only the owner can read the files of a folder.
func checkPrivate(t *testing.T, dir string) {
	t.Helper()
	keys := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && !strings.HasSuffix(path, ".lock") {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if strings.HasSuffix(path, ".key") {
			keys++
		}
		return err
	})
	if err != nil || keys != 2 {
		t.Errorf("%d keys in %s, want those of the account and of the certificate: %v", keys, dir, err)
	}
}

// TestACMECertificateOverHTTP gets a certificate by a challenge over HTTP, which the listener of the warning page answers. Clients then discover the transport,
// and client-setup prints the name.
func TestACMECertificateOverHTTP(t *testing.T) {
	t.Parallel()
	a := newACMEAuthority(t, 90*24*time.Hour)
	a.run(t)
	at := dnstest.FreeAddr(t)
	p := start(t, slices.Concat(a.env, []string{fmt.Sprintf("REMPART_TLS_LISTEN=0.0.0.0:%d", portNumber(t, at)), "REMPART_PAGE_LISTEN=" + a.overHTTP})...)
	dnstest.Eventually(t, "a certificate was issued", func() bool { return issuedTo(at, "127.0.0.1") != nil })
	dnstest.Eventually(t, "the transport is announced", func() bool { return len(discovered(t, p, "udp", "_dns.dns.example.org.")) == 1 })
	if _, metrics := get(t, p, "/metrics"); !strings.Contains(metrics, `rempart_certificate_expiry_timestamp_seconds{path="`+filepath.Join(p.DataDir, "acme")) ||
		!strings.Contains(metrics, `rempart_acme_failures_total{name="dns.example.org"} 0`) {
		t.Error("the metrics do not show the certificate")
	}
	env := []string{"REMPART_DATA_DIR=" + p.DataDir, "HOME=" + os.TempDir()}
	if stdout, stderr, code := operatorEnv(t, env, "client-setup", "systemd-resolved", "--address", "192.0.2.53"); code != 0 || !strings.Contains(stdout, "#dns.example.org") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// TestACMECertificateIsRenewed starts with a stored certificate that ends soon. It stays in use while its renewal fails, and is replaced when the authority is back.
func TestACMECertificateIsRenewed(t *testing.T) {
	t.Parallel()
	a := newACMEAuthority(t, 20*time.Minute) // certmagic renews in the last fifty minutes
	stop := a.run(t)
	env := slices.Concat(a.env, []string{"REMPART_HTTPS_LISTEN=" + a.overTLS, "REMPART_PAGE_LISTEN=none"})
	p := start(t, env...)
	logs(t, p, "a certificate was issued and is in use")
	first := issuedTo(a.overTLS, "127.0.0.1")
	p.Stop(t)
	stop()
	p = start(t, env...)
	logs(t, p, "the present certificate stays in use until it expires")
	if c := issuedTo(a.overTLS, "127.0.0.1"); first == nil || c == nil || !c.Equal(first) {
		t.Errorf("without the authority the certificate is %v", c)
	}
	if _, metrics := get(t, p, "/metrics"); !strings.Contains(metrics, `rempart_acme_failures_total{name="dns.example.org"} 1`) {
		t.Error("the metrics do not show the failure")
	}
	p.Stop(t)
	a.run(t)
	p = start(t, env...)
	logs(t, p, "the certificate was renewed")
	dnstest.Eventually(t, "the renewed certificate is in use", func() bool { c := issuedTo(a.overTLS, "127.0.0.1"); return c != nil && !c.Equal(first) })
}

// TestACMEAuthorityUnreachable starts while the authority cannot be reached: queries are answered, handshakes fail and the log says why. A signal requests the
// certificate again.
func TestACMEAuthorityUnreachable(t *testing.T) {
	t.Parallel()
	a := newACMEAuthority(t, 90*24*time.Hour)
	p := start(t, slices.Concat(a.env, []string{"REMPART_HTTPS_LISTEN=" + a.overTLS})...)
	if got := address(ask(t, p, "good.example")); got != "127.0.0.1" {
		t.Errorf("good.example: %s", got)
	}
	logs(t, p, "there is no certificate yet")
	logs(t, p, "check that the authority of REMPART_ACME_CA can be reached")
	if issuedTo(a.overTLS, "127.0.0.1") != nil {
		t.Error("a handshake succeeded without a certificate")
	}
	if _, metrics := get(t, p, "/metrics"); !strings.Contains(metrics, `rempart_acme_failures_total{name="dns.example.org"} 1`) {
		t.Error("the metrics do not show the failure")
	}
	a.run(t)
	p.Signal(t, syscall.SIGHUP)
	dnstest.Eventually(t, "a certificate was issued", func() bool { return issuedTo(a.overTLS, "127.0.0.1") != nil })
}

// TestACMEChallengeFails requests a certificate while the authority reaches neither challenge.
func TestACMEChallengeFails(t *testing.T) {
	t.Parallel()
	a := newACMEAuthority(t, 90*24*time.Hour)
	a.run(t)
	p := start(t, slices.Concat(a.env, []string{"REMPART_HTTPS_LISTEN=" + dnstest.FreeAddr(t)})...)
	logs(t, p, "check that the addresses of the name in the public DNS lead to this server")
	logs(t, p, "next_attempt=1m0s")
}
