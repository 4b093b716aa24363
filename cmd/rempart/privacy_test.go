package main

import (
	"crypto/tls"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// TestClientAddressIsNeverWritten sends every kind of request of a client from one address, and checks that nothing that the program writes contains the
// address or the names that the client queried.
func TestClientAddressIsNeverWritten(t *testing.T) {
	t.Parallel()
	const client = "127.0.0.99"
	const benign = "nobodys-business"
	local := net.ParseIP(client)
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		switch name := strings.ToLower(q.Msg.Question[0].Name); {
		case strings.HasPrefix(name, "servfail."):
			q.Send(q.Reply(dns.RcodeServerFailure))
		case strings.HasPrefix(name, "broken."):
			q.SendRaw([]byte{0, 1, 2, 3})
			q.Close()
		case strings.HasPrefix(name, "forged."):
			dnstest.Spoof(dnstest.Answer("@ 300 IN A " + origin))(q)
		default:
			dnstest.Answer("@ 300 IN A " + origin)(q)
		}
	})
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "bad.example")
	env, secrets := continuing(t, list)
	refused, portal := dnstest.FreeAddr(t), dnstest.FreeAddr(t)
	s := startEncrypted(t, append(env, upstreams(u), "REMPART_PAGE_HTTPS_LISTEN="+refused, "REMPART_PORTAL_LISTEN="+portal)...)
	p := s.Program

	udp := &net.Dialer{LocalAddr: &net.UDPAddr{IP: local}, Timeout: time.Minute}
	tcp := &net.Dialer{LocalAddr: &net.TCPAddr{IP: local}, Timeout: time.Minute}
	for _, d := range []struct {
		network string
		dialer  *net.Dialer
	}{{"udp", udp}, {"tcp", tcp}} {
		c := &dns.Client{Net: d.network, Dialer: d.dialer, Timeout: time.Minute}
		for _, name := range []string{"", "servfail.", "broken.", "forged."} {
			if name == "broken." && d.network == "tcp" {
				continue // the server closes the connection after five seconds
			}
			m := question(name + benign + "-" + d.network + ".example")
			m.Extra[0].(*dns.OPT).Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, Address: local}}
			if _, _, err := c.Exchange(m, p.DNS); err != nil {
				t.Errorf("query for %s over %s: %v", name, d.network, err)
			}
		}
		for _, name := range []string{"bad.example", "phishing.test", "x.onion"} {
			if _, _, err := c.Exchange(question(name), p.DNS); err != nil {
				t.Errorf("query for %s: %v", name, err)
			}
		}
		conn, err := d.dialer.Dial(d.network, p.DNS)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("\x00\x10no query at all."))
		conn.Close()
	}
	const continued = benign + ".bad.example" // blocked by the entry of the name above
	for _, step := range []struct{ name, want string }{
		{continued, page}, {goName(t, secrets, "127.0.0.98", continued), page}, {continued, page}, {goName(t, secrets, client, continued), page}, {continued, origin},
	} {
		if got := askFrom(t, p, client, step.name); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
	askEncrypted(t, s, local, benign)
	var read strings.Builder
	web := &http.Client{Transport: &http.Transport{DialContext: tcp.DialContext, DisableKeepAlives: true}, Timeout: time.Minute}
	for _, url := range []string{"http://" + p.Page + "/" + benign, "http://" + p.Metrics + "/metrics", "http://" + p.Metrics + "/readyz"} {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", client)
		if strings.Contains(url, p.Page) {
			req.Host = benign + ".example"
		}
		resp, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		read.Write(body)
	}
	searching := &http.Client{Transport: &http.Transport{DialContext: tcp.DialContext, TLSClientConfig: s.settings(), ForceAttemptHTTP2: true}, Timeout: time.Minute}
	for _, path := range []string{"/?name=" + benign + ".example", "/?name=bad.example", "/connection", "/devices", "/rempart.mobileconfig", "/privacy", "/statistics.csv"} {
		resp, err := searching.Get("https://" + portal + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d, %v", path, resp.StatusCode, err)
		}
		read.WriteString(strings.ReplaceAll(string(body), benign, "")) // the reader's own search
	}
	overTLS, err := tls.DialWithDialer(tcp, "tcp", refused, &tls.Config{ServerName: benign + ".example", InsecureSkipVerify: true})
	if err == nil {
		overTLS.Close()
		t.Error("a TLS connection to the page was not refused")
	}
	for _, at := range []string{p.Page, p.Metrics, refused, portal} { // errors that an HTTP server would log
		conn, err := tcp.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("\x16\x03\x01 no HTTP either\r\n\r\n"))
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}
	for _, q := range u.Seen() { // an upstream may see the question, never the client
		for _, rr := range q.Msg.Extra {
			if strings.Contains(rr.String(), client) {
				t.Errorf("an upstream received data of the client: %v", rr)
			}
		}
	}
	shown, errs, _ := operatorEnv(t, []string{"REMPART_DATA_DIR=" + p.DataDir, "HOME=" + t.TempDir()}, "upstreams")
	asJSON, _, _ := operatorEnv(t, []string{"REMPART_DATA_DIR=" + p.DataDir, "HOME=" + t.TempDir()}, "upstreams", "--json")
	if !strings.Contains(shown, "zone .: ") || !strings.Contains(asJSON, `"zone":"."`) {
		t.Errorf("rempart upstreams: %s%s%s", shown, asJSON, errs)
	}
	if code := p.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}

	sinks := map[string]string{"standard output": p.Stdout(), "standard error": p.Stderr(), "an HTTP answer": read.String(), "rempart upstreams": shown + asJSON}
	err = filepath.WalkDir(p.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		sinks[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sinks) < 7 {
		t.Errorf("only %d outputs were searched", len(sinks))
	}
	for where, text := range sinks {
		for _, secret := range []string{client, string(local.To4()), benign} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %s", secret, where)
			}
		}
	}
}

// askEncrypted asks over the encrypted transports from an address, and sends data that is neither TLS nor QUIC.
func askEncrypted(t *testing.T, s *encryptedServer, from net.IP, benign string) {
	t.Helper()
	tcp := &net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: time.Minute}
	over := &http.Transport{DialContext: tcp.DialContext, TLSClientConfig: s.settings(), ForceAttemptHTTP2: true}
	defer over.CloseIdleConnections()
	packets, err := net.ListenUDP("udp4", &net.UDPAddr{IP: from})
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	for _, name := range []string{benign + "-encrypted.example", "bad.example"} {
		m := question(name)
		m.Id = 0
		packed, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		client := &dns.Client{Net: "tcp-tls", Dialer: tcp, TLSConfig: s.settings("dot"), Timeout: time.Minute}
		if _, _, err := client.Exchange(m, s.tls); err != nil {
			t.Errorf("query for %s over TLS: %v", name, err)
		}
		askHTTPS(t, over, http.MethodPost, "https://"+s.https+"/dns-query", packed)
		askQUICFrom(t, packets, s.quic, s.settings("doq"), packed)
	}
	for _, at := range []string{s.tls, s.https} {
		conn, err := tcp.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("\x16\x03\x01\x00\x03no TLS"))
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}
	for _, at := range []string{s.https, s.quic} {
		to, err := net.ResolveUDPAddr("udp4", at)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = packets.WriteToUDP(append([]byte("\xc0\x00\x00\x00\x01"), make([]byte, 1300)...), to)
	}
}
