package clientsetup

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// readProfile prints the parts of a profile that a device uses, as JSON.
const readProfile = `import json, plistlib, sys
with open(sys.argv[1], "rb") as f:
    p = plistlib.load(f)
c = p["PayloadContent"][0]
print(json.dumps({"type": p["PayloadType"], "organisation": p["PayloadOrganization"], "scope": p["PayloadScope"], "uuids": [p["PayloadUUID"], c["PayloadUUID"]],
                  "inner": c["PayloadType"], "dns": c["DNSSettings"]}))
`

// profile is the output of readProfile.
type profile struct {
	Type, Organisation, Scope, Inner string
	UUIDs                            []string `json:"uuids"`
	DNS                              struct {
		DNSProtocol, ServerURL, ServerName string
		ServerAddresses                    []string
	} `json:"dns"`
}

// TestProfile reads profiles with Python's plistlib.
func TestProfile(t *testing.T) {
	seen := map[string]bool{}
	for _, tt := range []struct {
		section          string
		change           func(*Service)
		protocol, server string
	}{
		{"apple", nil, "HTTPS", "https://dns.example/dns-query"},
		{"apple", func(s *Service) { s.HTTPSPort, s.Addrs, s.Name = 8443, nil, "other.example" }, "HTTPS", "https://other.example:8443/dns-query"},
		{"apple-tls", nil, "TLS", "dns.example"},
	} {
		var p profile
		if err := json.Unmarshal([]byte(output(t, "python3", "-c", readProfile, file(t, "p", text(t, tt.section, tt.change)))), &p); err != nil {
			t.Fatal(err)
		}
		if p.Type != "Configuration" || p.Scope != "System" || p.Inner != "com.apple.dnsSettings.managed" || p.Organisation != `A & B <"DNS">` {
			t.Errorf("%+v", p)
		}
		if p.DNS.DNSProtocol != tt.protocol || p.DNS.ServerURL+p.DNS.ServerName != tt.server || len(p.DNS.ServerAddresses) != len(usual(tt.change).Addrs) {
			t.Errorf("%s: %+v", tt.section, p.DNS)
		}
		for _, id := range p.UUIDs {
			if seen[id] || len(id) != 36 || id[14] != '8' {
				t.Errorf("%s: the UUID %s is not of version 8, or used twice", tt.section, id)
			}
			seen[id] = true
		}
	}
}

// leafTemplate is the certificate of a server.
func leafTemplate() *x509.Certificate {
	return &x509.Certificate{DNSNames: []string{"dns.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

// TestSignedProfileIsVerifiedByOpenSSL signs with each kind of key that servers use, as a device that knows the root authority only checks it.
func TestSignedProfileIsVerifiedByOpenSSL(t *testing.T) {
	root := dnstest.Authority(t, "root authority")
	middle := dnstest.Certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "middle authority"}, IsCA: true}, &root)
	ecdsaKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	trusted := file(t, "root.pem", string(dnstest.PEM(root)))
	content := text(t, "apple", nil)
	for name, key := range map[string]crypto.Signer{"ECDSA": ecdsaKey, "RSA": rsaKey} {
		t.Run(name, func(t *testing.T) {
			leaf := dnstest.CertificateOf(t, key, leafTemplate(), &middle)
			signed, err := Sign([]byte(content), []*x509.Certificate{leaf.Leaf, middle.Leaf}, key)
			if err != nil {
				t.Fatal(err)
			}
			path := file(t, "signed", string(signed))
			verified := path + ".verified"
			output(t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", path, "-CAfile", trusted, "-purpose", "any", "-out", verified)
			if got, err := os.ReadFile(verified); err != nil || string(got) != content {
				t.Errorf("openssl read another content (%v):\n%s", err, got)
			}
			if printed := output(t, "openssl", "cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", path); !strings.Contains(printed, "algorithm: sha256") || strings.Contains(printed, "sha1 ") {
				t.Errorf("it is not signed with SHA-256:\n%s", printed)
			}
		})
	}
}

// TestKeyThatCannotSignIsReported uses a kind of key that the signature format of profiles does not know.
func TestKeyThatCannotSignIsReported(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := dnstest.CertificateOf(t, key, leafTemplate(), nil)
	if _, err := Sign([]byte("x"), []*x509.Certificate{leaf.Leaf}, key); err == nil {
		t.Error("an Ed25519 key signed a profile without an error")
	}
}
