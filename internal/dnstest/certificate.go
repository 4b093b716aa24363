package dnstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"net"
	"os"
	"testing"
	"time"
)

// Certificate issues a certificate with a new ECDSA key. The certificate by signs it; if by is nil, it is self-signed.
//
// Certificate sets the fields that the template leaves empty: the serial number, the subject (the first DNS name), and a validity from two hours ago until 24
// hours from now. The key usage is always digitalSignature, and for an authority (IsCA) also keyCertSign.
func Certificate(t testing.TB, template *x509.Certificate, by *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("dnstest: making a key: %v", err)
	}
	return CertificateOf(t, key, template, by)
}

// CertificateOf is Certificate for a key of the caller.
func CertificateOf(t testing.TB, key crypto.Signer, template *x509.Certificate, by *tls.Certificate) tls.Certificate {
	t.Helper()
	c := *template
	if c.Subject.CommonName == "" && len(c.DNSNames) > 0 {
		c.Subject.CommonName = c.DNSNames[0]
	}
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-2 * time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	c.BasicConstraintsValid, c.KeyUsage = true, x509.KeyUsageDigitalSignature
	if c.IsCA {
		c.KeyUsage |= x509.KeyUsageCertSign
	}
	parent, signer := &c, crypto.PrivateKey(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, parent, key.Public(), signer)
	if err != nil {
		t.Fatalf("dnstest: making a certificate: %v", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("dnstest: reading a certificate: %v", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Authority returns the certificate of a new certificate authority, for Certificate.
func Authority(t testing.TB, name string) tls.Certificate {
	t.Helper()
	return Certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true}, nil)
}

// SelfSigned returns a self-signed certificate for a server at 127.0.0.1 with a name. Clients can use it as their authority.
func SelfSigned(t testing.TB, name string) tls.Certificate {
	t.Helper()
	template := loopback(name)
	template.IsCA = true
	return Certificate(t, template, nil)
}

// loopback returns the template of a certificate for a server at 127.0.0.1 with a name.
func loopback(name string) *x509.Certificate {
	return &x509.Certificate{DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

// Trusting returns a pool of one certificate.
func Trusting(c tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.Leaf)
	return pool
}

// PEM returns a certificate without its key, as the content of a file.
func PEM(c tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
}

// WriteCertificate writes a certificate and its key to two files.
func WriteCertificate(t testing.TB, c tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatalf("dnstest: encoding a key: %v", err)
	}
	for file, content := range map[string][]byte{certFile: PEM(c), keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// keyHash returns the SHA-256 hash of a certificate's public key, in base64.
func keyHash(c tls.Certificate) string {
	hash := sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(hash[:])
}
