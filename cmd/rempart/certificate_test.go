package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// servedSerial returns the serial number of the certificate that a server presents; "" if there is no connection.
func servedSerial(addr string) string {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return ""
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func serverTemplate() *x509.Certificate {
	return &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

// move replaces files by others, as a tool that renews certificates does.
func move(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{".key", ".pem"} {
		if err := os.Rename(from+suffix, to+suffix); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRenewedCertificateIsUsed checks that control, without a signal, uses a renewed certificate, and keeps its certificate if the new files are unusable or
// expired.
func TestRenewedCertificateIsUsed(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	first := ca.issue("control", serverTemplate())
	expired := serverTemplate()
	expired.NotAfter = time.Now().Add(-time.Minute)
	ca.issue("expired", expired)
	renewed := ca.issue("renewed", serverTemplate())
	zones := dnstest.FreeAddr(t)
	control := startControl(t, "REMPART_PUSH_CERT="+ca.path("control.pem"), "REMPART_PUSH_KEY="+ca.path("control.key"), "REMPART_PUSH_CLIENT_CA="+ca.path("ca.pem"),
		"REMPART_RPZ_TLS_LISTEN="+zones, "REMPART_RPZ_PAGE=page.isp.example", "REMPART_RPZ_KEYLESS=127.0.0.0/8", "REMPART_METRICS_LISTEN=127.0.0.1:0")
	api := strings.TrimPrefix(control.API, "https://")
	serves := func(want *x509.Certificate) {
		t.Helper()
		for _, addr := range []string{api, zones} {
			dnstest.Eventually(t, addr+" presents the certificate", func() bool { return servedSerial(addr) == want.SerialNumber.String() })
		}
	}
	serves(first)
	logs(t, control, "the certificate expires soon")
	count := func() int { return strings.Count(control.Stderr(), "the changed file cannot be used") }

	write(t, ca.path("control.pem"), "junk")
	logs(t, control, "setting=REMPART_PUSH_CERT")
	control.Signal(t, syscall.SIGHUP)
	logs(t, control, "unusable=REMPART_PUSH_CERT")
	control.Signal(t, syscall.SIGHUP)
	dnstest.Eventually(t, "the second signal", func() bool { return strings.Count(control.Stderr(), "unusable=REMPART_PUSH_CERT") == 2 })
	if n := count(); n != 1 || !strings.Contains(control.Stderr(), ca.path("control.pem")) {
		t.Errorf("logged %d times, want once, with the path:\n%s", n, control.Stderr())
	}
	serves(first)
	if _, metrics := get(t, control, "/metrics"); !strings.Contains(metrics, `rempart_certificate_unusable{setting="REMPART_PUSH_CERT"} 1`) ||
		!strings.Contains(metrics, `rempart_certificate_expiry_timestamp_seconds{path="`+ca.path("control.pem")+`",setting="REMPART_PUSH_CERT"} `) {
		t.Error("the metrics do not show the failure")
	}

	move(t, ca.path("expired"), ca.path("control"))
	logs(t, control, "the certificate expired on")
	serves(first)
	move(t, ca.path("renewed"), ca.path("control"))
	serves(renewed)
	write(t, ca.path("ca.pem"), "junk")
	logs(t, control, "holds no PEM certificate")
	if n := count(); n != 3 {
		t.Errorf("logged %d times, want 3:\n%s", n, control.Stderr())
	}
}

// TestReplacedAuthorityIsRead checks that a server reads REMPART_CONTROL_CA again, so that it can follow a control whose certificate comes from another
// authority.
func TestReplacedAuthorityIsRead(t *testing.T) {
	t.Parallel()
	before, after := newAuthority(t), newAuthority(t)
	before.issue("control", serverTemplate())
	after.issue("control", serverTemplate())
	control := startControl(t, "REMPART_PUSH_CERT="+before.path("control.pem"), "REMPART_PUSH_KEY="+before.path("control.key"))
	env := func(authority string) []string {
		return []string{"REMPART_API=" + control.API, "REMPART_KEYS=" + keysOf(control), "REMPART_API_CA=" + authority}
	}
	token := func(name, role string) string {
		stdout, stderr, code := operatorEnv(t, env(before.path("ca.pem")), "token", "create", name, "--role", role)
		if code != 0 {
			t.Fatalf("creating a token: exit code %d: %s", code, stderr)
		}
		return strings.TrimSpace(stdout)
	}
	publisher, node := token("ada", "publisher"), token("node", "node")
	authorities := filepath.Join(t.TempDir(), "ca.pem")
	copyTo(t, before.path("ca.pem"), authorities)
	u := dnstest.NewUpstream(t, nil)
	edge := start(t, upstreams(u), "REMPART_CONTROL="+control.API+"/v1/journal", "REMPART_CONTROL_KEY="+rootOf(t, control), "REMPART_CONTROL_TOKEN="+node, "REMPART_CONTROL_CA="+authorities)
	write(t, authorities, "junk")
	logs(t, edge, "setting=REMPART_CONTROL_CA")
	copyTo(t, after.path("ca.pem"), authorities)
	logs(t, edge, "a changed file is in use")
	copyTo(t, after.path("control.key"), before.path("control.key"))
	copyTo(t, after.path("control.pem"), before.path("control.pem"))
	logs(t, control, "a changed file is in use")
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "evil.example")
	if stdout, stderr, code := operatorEnv(t, append(env(after.path("ca.pem")), "REMPART_API_TOKEN="+publisher), "push", list); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	dnstest.Eventually(t, "evil.example is blocked", func() bool { return address(ask(t, edge, "evil.example")) == page })
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestReloadIsLogged checks that control logs after SIGHUP what changed, and that it uses changed files of its guards.
func TestReloadIsLogged(t *testing.T) {
	t.Parallel()
	essential := filepath.Join(t.TempDir(), "essential.txt")
	write(t, essential, "ours.example")
	authorities := filepath.Join(t.TempDir(), "authorities.toml")
	write(t, authorities)
	control := startControl(t, "REMPART_ESSENTIAL="+essential, "REMPART_AUTHORITIES="+authorities, "REMPART_PORTAL_LISTEN="+dnstest.FreeAddr(t))
	control.Signal(t, syscall.SIGHUP)
	logs(t, control, "changed=nothing")
	logs(t, control, "REMPART_AUTHORITIES") // a file of the portal
	key := must(t, control, "", "keys", "new", "anna.key", "anna")
	must(t, control, "", "keys", "grant", key, "--role", "author")
	control.Signal(t, syscall.SIGHUP)
	logs(t, control, `changed="key ring"`)
	logs(t, control, "key_ring=2")

	publisher := newToken(t, control, "ada", "publisher")
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "theirs.example")
	stdout, _, code := operator(t, control, publisher, "push", list, "--dry-run")
	if code != 0 {
		t.Errorf("before: exit code %d\n%s", code, stdout)
	}
	write(t, essential, "ours.example", "theirs.example")
	logs(t, control, "a changed file is in use")
	if stdout, _, code := operator(t, control, publisher, "push", list, "--dry-run"); code != 1 || !strings.Contains(stdout, "refused") {
		t.Errorf("after: exit code %d\n%s", code, stdout)
	}
}

// TestRotatedServerTokenIsUsed checks that a server uses a rotated token from REMPART_CONTROL_TOKEN_FILE without a restart.
func TestRotatedServerTokenIsUsed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector")
	}
	t.Parallel()
	control := startControl(t)
	ada, u := newToken(t, control, "ada", "publisher"), dnstest.NewUpstream(t, nil)
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, newToken(t, control, "web", "node"))
	edge := start(t, upstreams(u), "REMPART_CONTROL="+control.API+"/v1/journal", "REMPART_CONTROL_KEY="+rootOf(t, control), "REMPART_CONTROL_TOKEN_FILE="+token, "REMPART_NODE=web")
	write(t, token, must(t, control, "", "token", "rotate", "web"))
	logs(t, edge, "a changed file is in use")
	dnstest.Eventually(t, "the server reports", func() bool {
		stdout, _, _ := operator(t, control, ada, "nodes")
		return strings.Contains(stdout, "web")
	})
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "evil.example")
	must(t, control, ada, "push", list, "--wait")
	if got := address(ask(t, edge, "evil.example")); got != page {
		t.Errorf("evil.example: %s, want the page's address", got)
	}
}
