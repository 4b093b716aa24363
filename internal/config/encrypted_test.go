package config

import (
	"strings"
	"testing"
)

// TestEncryptedSettings checks the settings of the encrypted transports against each other.
func TestEncryptedSettings(t *testing.T) {
	both := map[string]string{"CERT": "a.pem,b.pem", "KEY": "a.key,b.key"}
	for _, tt := range []struct {
		name     string
		settings map[string]string
		want     string // a part of the error; "" for none
	}{
		{"all transports", map[string]string{"TLS_LISTEN": ":853", "HTTPS_LISTEN": ":443", "QUIC_LISTEN": ":853"}, ""},
		{"a missing key", map[string]string{"KEY": "a.key"}, "one path for each of the 2"},
		{"no certificate", map[string]string{"TLS_LISTEN": ":853", "CERT": "", "KEY": ""}, "encrypted transports need them"},
		{"ACME", map[string]string{"CERT": "", "KEY": "", "ACME": "DNS.Example.org., b.example.org", "TLS_LISTEN": ":853"}, ""},
		{"ACME and a certificate", map[string]string{"ACME": "dns.example.org", "TLS_LISTEN": ":853"}, "leave one of them empty"},
		{"ACME without a listener", map[string]string{"CERT": "", "KEY": "", "ACME": "dns.example.org"}, "no listener uses the certificates"},
		{"ACME without a challenge", map[string]string{"CERT": "", "KEY": "", "ACME": "dns.example.org", "QUIC_LISTEN": ":853", "PAGE_LISTEN": "none"}, "REMPART_HTTPS_LISTEN=:443 or REMPART_PAGE_LISTEN=:80"},
		{"ACME for an address", map[string]string{"CERT": "", "KEY": "", "ACME": "192.0.2.1", "TLS_LISTEN": ":853"}, "is an IP address"},
		{"ACME for a wildcard", map[string]string{"CERT": "", "KEY": "", "ACME": "*.example.org", "TLS_LISTEN": ":853"}, "is a wildcard"},
		{"ACME for a URL", map[string]string{"CERT": "", "KEY": "", "ACME": "https://dns.example.org", "TLS_LISTEN": ":853"}, "is not a host name"},
		{"ACME for one label", map[string]string{"CERT": "", "KEY": "", "ACME": "dns", "TLS_LISTEN": ":853"}, "is not a host name"},
		{"ACME for a name twice", map[string]string{"CERT": "", "KEY": "", "ACME": "dns.example.org,DNS.example.org", "TLS_LISTEN": ":853"}, "is named twice"},
		{"an authority over HTTP", map[string]string{"ACME_CA": "http://ca.example/directory"}, "the https URL of the directory"},
		{"no e-mail address", map[string]string{"ACME_EMAIL": "mailto:dns@isp.example"}, "an e-mail address"},
		{"TLS where DNS listens", map[string]string{"LISTEN": ":53", "TLS_LISTEN": ":53"}, "is in use by REMPART_LISTEN"},
		{"QUIC where DNS listens", map[string]string{"LISTEN": ":53", "QUIC_LISTEN": ":53"}, "is in use by REMPART_LISTEN"},
		{"QUIC where HTTP/3 listens", map[string]string{"HTTPS_LISTEN": ":443", "QUIC_LISTEN": ":443"}, "is in use by REMPART_HTTPS_LISTEN"},
		{"HTTPS where TLS listens", map[string]string{"HTTPS_LISTEN": ":853", "TLS_LISTEN": ":853"}, "is in use by REMPART_TLS_LISTEN"},
		{"HTTPS where the page is", map[string]string{"HTTPS_LISTEN": "127.0.0.1:8080"}, "is in use by REMPART_PAGE_LISTEN"},
		{"HTTPS refused where DNS over HTTPS is", map[string]string{"HTTPS_LISTEN": "192.0.2.1:443", "PAGE_HTTPS_LISTEN": "192.0.2.1:443"}, "is in use by REMPART_HTTPS_LISTEN"},
		{"HTTPS refused where DNS over HTTPS is everywhere", map[string]string{"HTTPS_LISTEN": ":443", "PAGE_HTTPS_LISTEN": "192.0.2.1:443"}, "REMPART_HTTPS_LISTEN is 0.0.0.0:443, which covers 192.0.2.1:443"},
		{"HTTPS refused everywhere", map[string]string{"HTTPS_LISTEN": "[2001:db8::1]:443", "PAGE_HTTPS_LISTEN": ":443"}, "REMPART_HTTPS_LISTEN is [2001:db8::1]:443, which covers [::]:443 or is covered by it"},
		{"HTTPS refused where QUIC is", map[string]string{"QUIC_LISTEN": "192.0.2.1:443", "PAGE_HTTPS_LISTEN": "192.0.2.1:443"}, "is in use by REMPART_QUIC_LISTEN"},
		{"HTTPS refused on another address", map[string]string{"HTTPS_LISTEN": "192.0.2.1:443,[2001:db8::1]:443", "PAGE_HTTPS_LISTEN": "192.0.2.2:443,[2001:db8::2]:443"}, ""},
		{"port 0 is a port of its own", map[string]string{"HTTPS_LISTEN": "127.0.0.1:0", "QUIC_LISTEN": "127.0.0.1:0"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			environ := map[string]string{"HOME": "/"}
			for _, from := range []map[string]string{both, tt.settings} {
				for name, value := range from {
					environ[Prefix+name] = value
				}
			}
			_, err := LoadFrom(environ)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("the error is %v, want one with %q", err, tt.want)
			}
		})
	}
}
