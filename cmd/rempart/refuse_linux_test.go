package main

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// TestHTTPSToPageIsRefused checks the answers of the page's port 443 in each way: a refusal at once, and never a certificate. Nothing listens on UDP port 443.
func TestHTTPSToPageIsRefused(t *testing.T) {
	if !dnstest.Isolated(t) {
		return
	}
	const own, own6, closed = "203.0.113.80", "2001:db8::80", "203.0.113.82"
	for _, addr := range []string{own + "/32", closed + "/32"} {
		dnstest.Command(t, "ip", "address", "add", addr, "dev", "lo")
	}
	dnstest.Command(t, "ip", "address", "add", own6+"/128", "dev", "lo", "nodad")
	systemResolvers(t)("nameserver 127.0.1.1")
	unrecognizedName := func(err error) bool { return err.Error() == "remote error: tls: unrecognized name" } // crypto/tls does not export the type
	isReset := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
	isRefused := func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
	for way, isExpected := range map[string]func(error) bool{"alert": unrecognizedName, "reset": isReset} {
		t.Run(way, func(t *testing.T) {
			p := start(t, "REMPART_PAGE_HTTPS_LISTEN="+own+":443,["+own6+"]:443", "REMPART_PAGE_HTTPS="+way)
			if want := "https:// connections are refused at once on " + own + ":443, [" + own6 + "]:443\n"; !strings.Contains(p.Stdout(), want) {
				t.Errorf("the greeting does not contain %q:\n%s", want, p.Stdout())
			}
			for _, host := range []string{own, own6, closed} {
				isExpected := isExpected
				if host == closed {
					isExpected = isRefused
				}
				for _, name := range []string{"phishing.test", "good.example", ""} {
					began := time.Now()
					if err := handshake(host, name); !isExpected(err) {
						t.Errorf("%s for %q: %v", host, name, err)
					}
					if d := time.Since(began); d > 2*time.Second {
						t.Errorf("%s for %q: refused after %v", host, name, d)
					}
				}
				if err := datagram(host); !isRefused(err) {
					t.Errorf("%s over UDP: %v", host, err)
				}
			}
			_, metrics := get(t, p, "/metrics")
			for _, line := range []string{`{verdict="block"} 2`, `{verdict="pass"} 2`, `{verdict="none"} 2`, `{verdict="unread"} 0`} {
				if !strings.Contains(metrics, "\nrempart_page_https_refused_total"+line+"\n") {
					t.Errorf("the metrics do not contain %s", line)
				}
			}
		})
	}
}

// handshake returns the error of a TLS handshake with port 443 of a host, for a name; or one that says that there was a certificate.
func handshake(host, name string) error {
	settings := &tls.Config{ServerName: name, InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return errors.New("a certificate was sent") }}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", net.JoinHostPort(host, "443"), settings)
	if err != nil {
		return err
	}
	c.Close()
	return errors.New("the handshake succeeded")
}

// datagram returns the error that the kernel reports for a datagram to port 443 of a host: ECONNREFUSED after an ICMP message (port unreachable).
func datagram(host string) error {
	c, err := net.Dial("udp", net.JoinHostPort(host, "443"))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("not QUIC")); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = c.Read(make([]byte, 100))
	return err
}
