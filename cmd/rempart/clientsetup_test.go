package main

import (
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// publicTemplate is a certificate of a server for clients that ask by its name or its address.
func publicTemplate() *x509.Certificate {
	return &x509.Certificate{
		DNSNames: []string{"dns.example"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 53)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// TestClientSetup prints settings for clients from the environment, where no server runs.
func TestClientSetup(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.issue("dns", publicTemplate())
	ca.issue("nameless", serverTemplate())
	base := []string{"HOME=" + t.TempDir(), "REMPART_CERT=" + ca.path("dns.pem"), "REMPART_KEY=" + ca.path("dns.key")}
	with := func(env []string, more ...string) []string { return slices.Concat(env, more) }
	both := with(base, "REMPART_TLS_LISTEN=:853", "REMPART_HTTPS_LISTEN=:443,:8443")
	for _, tt := range []struct {
		name string
		env  []string
		args string
		code int
		said []string // in the output, or in the error output
	}{
		{"all", both, "", 0, []string{"# android: Android 9", "\n\ndns.example\n", "rempart client-setup apple > rempart.mobileconfig", "server=192.0.2.53", "# dnsmasq: ", "not available: it needs unencrypted DNS"}},
		{"one without a heading", both, "android", 0, []string{"dns.example\n"}},
		{"some", both, "firefox chrome", 0, []string{"# firefox: ", "# chrome: ", `"https://dns.example/dns-query"`}},
		{"another address", both, "unbound --address 198.51.100.1,2001:db8::1", 0, []string{"198.51.100.1@853#dns.example", "2001:db8::1@853#dns.example"}},
		{"another port", with(base, "REMPART_HTTPS_LISTEN=127.0.0.1:8443"), "chrome", 0, []string{"https://dns.example:8443/dns-query"}},
		{"unsigned", both, "apple --unsigned", 0, []string{"<key>ServerURL</key><string>https://dns.example/dns-query</string>"}},
		{"without the key", with(both, "REMPART_KEY=/missing.key"), "apple", 0, []string{"<plist", "the profile is not signed, and devices will say so", "/missing.key"}},
		{"QR code of a page", both, "qr --url https://isp.example/profile", 0, []string{"The code contains: https://isp.example/profile"}},

		{"names of ACME", []string{"HOME=" + t.TempDir(), "REMPART_ACME=dns.example,b.example", "REMPART_HTTPS_LISTEN=:443"}, "apple", 0, []string{"https://dns.example/dns-query", "the profile is not signed"}},

		{"no encrypted transport", base, "", 2, []string{"no encrypted transport is configured (by the environment)", "REMPART_TLS_LISTEN=:853", "REMPART_HTTPS_LISTEN=:443"}},
		{"a missing transport", with(base, "REMPART_TLS_LISTEN=:853"), "firefox", 2, []string{"firefox: it needs DNS over HTTPS: set REMPART_HTTPS_LISTEN=:443"}},
		{"a misspelt client", both, "andriod", 2, []string{`no settings for "andriod": did you mean android?`}},
		{"an unknown client", both, "toaster", 2, []string{"write one of android, apple,"}},
		{"a bad address", both, "unbound --address dns.example", 2, []string{"--address dns.example: not an IP address"}},
		{"a bad URL", both, "qr --url isp.example", 2, []string{"--url isp.example: not a URL"}},
		{"a certificate without a name", with(both, "REMPART_CERT="+ca.path("nameless.pem")), "", 2, []string{"nameless.pem", "no DNS name"}},
		{"no certificate", with(both, "REMPART_CERT="+ca.path("dns.key")), "", 2, []string{"dns.key holds no PEM certificate"}},
	} {
		stdout, stderr, code := operatorEnv(t, tt.env, append([]string{"client-setup"}, strings.Fields(tt.args)...)...)
		if code != tt.code {
			t.Errorf("%s: exit code %d, want %d\n%s%s", tt.name, code, tt.code, stdout, stderr)
		}
		for _, want := range tt.said {
			if !strings.Contains(stdout+stderr, want) {
				t.Errorf("%s: it does not say %q:\n%s%s", tt.name, want, stdout, stderr)
			}
		}
	}
	if stdout, _, _ := operatorEnv(t, both, "client-setup", "android"); stdout != "dns.example\n" {
		t.Errorf("the settings of one client are %q", stdout)
	}
	stdout, stderr, _ := operatorEnv(t, both, "client-setup", "apple-tls")
	if !strings.HasPrefix(stdout, "\x30") || stderr != "" || strings.HasPrefix(stdout, "<") {
		t.Errorf("the profile is not signed: %.40q\n%s", stdout, stderr)
	}
}

// TestClientSetupOfRunningServer prints settings from the server that runs here.
func TestClientSetupOfRunningServer(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.issue("dns", publicTemplate())
	at := dnstest.FreeAddr(t)
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, upstreams(dnstest.NewUpstream(t, nil)), "REMPART_HTTPS_LISTEN="+at, "REMPART_CERT="+ca.path("dns.pem"), "REMPART_KEY="+ca.path("dns.key"))
	stdout, stderr, code := operatorEnv(t, []string{"REMPART_DATA_DIR=" + p.DataDir, "HOME=" + os.TempDir()}, "client-setup", "chrome")
	if code != 0 || !strings.Contains(stdout, "https://dns.example:"+port+"/dns-query") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// TestResolversUseTheirSettings runs Unbound and stubby with the printed settings, as forwarders to a server that they reach over TLS only. The settings are
// completed by the authority of the test and by the address at which the program answers.
func TestResolversUseTheirSettings(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.issue("dns", publicTemplate())
	_, port, err := net.SplitHostPort(dnstest.FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, upstreams(dnstest.NewUpstream(t, nil)), "REMPART_TLS_LISTEN=127.0.0.1:"+port, "REMPART_CERT="+ca.path("dns.pem"), "REMPART_KEY="+ca.path("dns.key"))
	settings := func(client string) string {
		stdout, stderr, code := operatorEnv(t, []string{"REMPART_DATA_DIR=" + p.DataDir, "HOME=" + os.TempDir()}, "client-setup", client, "--address", "127.0.0.1")
		if code != 0 {
			t.Fatalf("%s: %s", client, stderr)
		}
		return stdout
	}
	for _, tt := range []struct {
		program  string
		settings func(at string, port string) string
		args     []string
	}{
		{"unbound", func(at, port string) string {
			return strings.Replace(settings("unbound"), `"/etc/ssl/certs/ca-certificates.crt"`, `"`+ca.path("ca.pem")+`"`, 1) +
				"server:\n    interface: " + at + "\n    port: " + port + "\n    do-not-query-localhost: no\n    use-syslog: no\n    chroot: \"\"\n    username: \"\"\n    pidfile: \"\"\n"
		}, []string{"-d", "-c"}},
		{"stubby", func(at, port string) string {
			return strings.Replace(settings("stubby"), "  - 127.0.0.1\n  - 0::1\n", "  - "+at+"@"+port+"\n", 1) + "tls_ca_file: \"" + ca.path("ca.pem") + "\"\n"
		}, []string{"-C"}},
	} {
		t.Run(tt.program, func(t *testing.T) {
			dnstest.Need(t, tt.program)
			at := dnstest.FreeAddr(t)
			host, port, err := net.SplitHostPort(at)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), tt.program+".yml") // stubby reads YAML by the ending
			write(t, file, tt.settings(host, port))
			peer := dnstest.StartPeer(t, exec.Command(tt.program, append(tt.args, file)...))
			client := dns.Client{Timeout: 2 * time.Second}
			peer.Answers(t, func() bool {
				a, _, err := client.Exchange(question("good.example"), at)
				return err == nil && address(a) == origin
			})
			if a, _, err := client.Exchange(question("phishing.test"), at); err != nil || tt.program == "stubby" && address(a) != page { // Unbound answers .test itself
				t.Errorf("a blocked name: %v, %v", a, err)
			}
		})
	}
}
