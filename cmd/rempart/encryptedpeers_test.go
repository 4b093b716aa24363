package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// output runs a program for at most a minute and returns its output.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	dnstest.Need(t, name)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestClientsOverEncryptedTransports asks with programs of other projects.
func TestClientsOverEncryptedTransports(t *testing.T) {
	t.Parallel()
	s := startEncrypted(t, upstreams(dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A "+origin))), "REMPART_PAGE_IPV4=127.0.0.1")
	ca := s.ca.path("ca.pem")
	if status, _, _ := operatorEnv(t, []string{"REMPART_DATA_DIR=" + s.DataDir, "HOME=" + t.TempDir()}, "status"); !strings.Contains(status, "tls://"+s.tls+", https://"+s.https+", quic://"+s.quic) {
		t.Errorf("rempart status does not name the encrypted transports:\n%s", status)
	}
	for _, tt := range []struct {
		name, addr string
		flags      []string
	}{
		{"TLS", s.tls, []string{"+tls"}}, {"HTTPS, POST", s.https, []string{"+https"}}, {"HTTPS, GET", s.https, []string{"+https-get"}}, {"QUIC", s.quic, []string{"+quic"}},
	} {
		t.Run("kdig over "+tt.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"@127.0.0.1", "-p", portOf(tt.addr), "+short", "+tls-ca=" + ca, "+tls-hostname=dns.example", "phishing.test", "A"}, tt.flags...)
			if out := output(t, "kdig", args...); strings.TrimSpace(out) != "127.0.0.1" {
				t.Errorf("unexpected answer: %q", out)
			}
		})
	}
	t.Run("curl", func(t *testing.T) {
		t.Parallel()
		out := output(t, "curl", "-s", "--cacert", ca, "--doh-url", "https://dns.example:"+portOf(s.https)+"/dns-query", "--resolve", "dns.example:"+portOf(s.https)+":127.0.0.1",
			"--max-time", "30", "http://phishing.test:"+portOf(s.Page)+"/")
		if !strings.Contains(out, "phishing.test") {
			t.Errorf("this is not the warning page: %.300q", out)
		}
	})
	t.Run("dnspython", func(t *testing.T) {
		t.Parallel()
		dnstest.Need(t, "/usr/bin/python3") // the one with the modules of the system
		script := `
import ssl, sys, dns.message, dns.query
ctx = ssl.create_default_context(cafile=sys.argv[1])
q = dns.message.make_query("phishing.test", "A", use_edns=0, options=[])
r = dns.query.tls(q, "127.0.0.1", port=int(sys.argv[2]), server_hostname="dns.example", ssl_context=ctx, timeout=30)
print(r.answer[0][0], dns.query.udp(q, "127.0.0.1", port=int(sys.argv[3]), timeout=30).answer[0][0])
`
		if out := output(t, "/usr/bin/python3", "-c", script, ca, portOf(s.tls), portOf(s.DNS)); strings.TrimSpace(out) != "127.0.0.1 127.0.0.1" {
			t.Errorf("unexpected answer: %q", out)
		}
	})
	t.Run("Node", func(t *testing.T) {
		t.Parallel()
		script := `
const http2 = require('node:http2'), fs = require('node:fs'), {Resolver} = require('node:dns').promises
const [ca, https, plain] = process.argv.slice(1)
const resolver = new Resolver(); resolver.setServers(['127.0.0.1:' + plain])
const query = Buffer.from('00000100000100000000000008706869736869' + '6e670474657374' + '0000010001', 'hex')
const session = http2.connect('https://127.0.0.1:' + https, {ca: fs.readFileSync(ca), servername: 'dns.example'})
const request = session.request({':method': 'POST', ':path': '/dns-query', 'content-type': 'application/dns-message'})
const parts = []
request.on('data', d => parts.push(d)).on('end', async () => {
  const answer = Buffer.concat(parts)
  console.log((await resolver.resolve4('phishing.test'))[0], [...answer.subarray(-4)].join('.'))
  session.close()
}).end(query)
`
		if out := output(t, "node", "-e", script, ca, portOf(s.https), portOf(s.DNS)); strings.TrimSpace(out) != "127.0.0.1 127.0.0.1" {
			t.Errorf("unexpected answer: %q", out)
		}
	})
	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&tls.Dialer{Config: s.settings("dot")}).DialContext(ctx, "tcp", s.tls)
		}}
		if addrs, err := r.LookupNetIP(context.Background(), "ip4", "phishing.test"); err != nil || addrs[0].String() != "127.0.0.1" {
			t.Errorf("%v, %v", addrs, err)
		}
	})
}

// readText returns the content of a file.
func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestProxiesInFront puts dnsdist, HAProxy and nginx in front, which name the client: one client may ask, another may not.
func TestProxiesInFront(t *testing.T) {
	t.Parallel()
	const proxy, served, other = "127.0.0.2", "127.0.0.98", "127.0.0.99"
	backend := dnstest.FreeAddr(t)
	s := startEncrypted(t, upstreams(dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A "+origin))), "REMPART_PROXIES="+proxy, "REMPART_CLIENTS="+served, "REMPART_DOH_BACKEND_LISTEN="+backend)
	s.ca.issue("proxy", publicTemplate())
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		write(t, path, content)
		return path
	}
	// rcode asks from an address by kdig.
	rcode := func(t *testing.T, from, addr string, flags ...string) (string, bool) {
		args := append([]string{"@127.0.0.1", "-p", portOf(addr), "-b", from, "+retry=0", "+time=3", "phishing.test", "A"}, flags...)
		out, err := exec.Command("kdig", args...).CombinedOutput()
		_, status, ok := strings.Cut(string(out), "QUERY; status: ")
		status, _, _ = strings.Cut(status, ";")
		return status, err == nil && ok
	}
	expect := func(t *testing.T, peer *dnstest.Peer, addr string, refused string, flags ...string) {
		t.Helper()
		dnstest.Need(t, "kdig")
		peer.Answers(t, func() bool { got, ok := rcode(t, served, addr, flags...); return ok && got == "NOERROR" })
		if got, ok := rcode(t, other, addr, flags...); got != refused || ok != (refused != "") {
			t.Errorf("another client got %q over %v, want %q", got, flags, refused)
		}
	}
	t.Run("dnsdist", func(t *testing.T) {
		t.Parallel()
		dnstest.Need(t, "dnsdist")
		at := dnstest.FreeAddr(t)
		config := file("dnsdist.conf", fmt.Sprintf(`
setLocal(%q)
setACL("127.0.0.0/8")
newServer({address=%q, useProxyProtocol=true, source=%q, healthCheckMode="up"})
getServer(0):setUp()
`, at, s.DNS, proxy))
		peer := dnstest.StartPeer(t, exec.Command("dnsdist", "-C", config, "--supervised", "--disable-syslog"))
		expect(t, peer, at, "REFUSED")
		expect(t, peer, at, "REFUSED", "+tcp")
	})
	t.Run("HAProxy", func(t *testing.T) {
		t.Parallel()
		dnstest.Need(t, "haproxy")
		plain, secure, web := dnstest.FreeAddr(t), dnstest.FreeAddr(t), dnstest.FreeAddr(t)
		both := file("both.pem", readText(t, s.ca.path("proxy.pem"))+readText(t, s.ca.path("proxy.key")))
		config := file("haproxy.cfg", fmt.Sprintf(`
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen plain
  bind %s
  server rempart %s send-proxy-v2 source %s
listen secure
  bind %s
  server rempart %s send-proxy-v2 source %s
listen web
  mode http
  bind %s ssl crt %s alpn h2
  option forwardfor
  http-request del-header forwarded
  server rempart %s proto h2 source %s
`, plain, s.DNS, proxy, secure, s.tls, proxy, web, both, backend, proxy))
		peer := dnstest.StartPeer(t, exec.Command("haproxy", "-db", "-f", config))
		expect(t, peer, plain, "REFUSED", "+tcp")
		expect(t, peer, web, "REFUSED", "+https")
		expect(t, peer, secure, "", "+tls") // no handshake for a client that may not ask
	})
	t.Run("nginx", func(t *testing.T) {
		t.Parallel()
		dnstest.Need(t, "nginx")
		at := dnstest.FreeAddr(t)
		config := file("nginx.conf", fmt.Sprintf(`
daemon off;
pid %[1]s/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  server {
    listen %[2]s ssl http2;
    ssl_certificate %[3]s;
    ssl_certificate_key %[4]s;
    location / {
      proxy_pass http://%[5]s;
      proxy_bind %[6]s;
      proxy_set_header X-Forwarded-For $remote_addr;
    }
  }
}
`, dir, at, s.ca.path("proxy.pem"), s.ca.path("proxy.key"), backend, proxy))
		peer := dnstest.StartPeer(t, exec.Command("nginx", "-c", config, "-g", "user root;"))
		expect(t, peer, at, "REFUSED", "+https")
		expect(t, peer, at, "REFUSED", "+https-get")
	})
	c := &dns.Client{Timeout: time.Second}
	if _, _, err := c.Exchange(question("phishing.test"), s.DNS); err != nil {
		t.Errorf("a client that is no proxy gets no answer without a proxy: %v", err)
	}
}
