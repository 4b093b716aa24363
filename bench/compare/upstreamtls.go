package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"time"

	"rempart/internal/wire"
)

// upstreamName is the name in the upstream's certificate.
const upstreamName = "upstream.bench"

// writeCertificate writes a new key and its certificate to a file, and returns the hash of the public key.
func writeCertificate(path string) (pin string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: upstreamName}, DNSNames: []string{upstreamName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256(public)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return base64.StdEncoding.EncodeToString(hash[:]), os.WriteFile(path, text, 0o600)
}

// listenTLS listens for DNS over TLS, with the key and the certificate in a file.
func listenTLS(addr, certificate string) (net.Listener, error) {
	cert, err := tls.LoadX509KeyPair(certificate, certificate)
	if err != nil {
		return nil, err
	}
	return tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"dot"}})
}

// acceptTLS answers over connections until the listener is closed.
func acceptTLS(l net.Listener, h upstream) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go answerStream(conn, h)
	}
}

// answerStream answers the queries of one connection, those that arrive together with one write.
func answerStream(conn net.Conn, h upstream) {
	defer conn.Close()
	r, w := bufio.NewReaderSize(conn, 16<<10), bufio.NewWriterSize(conn, 16<<10)
	batch := make([]wire.Query, 1)
	q := &batch[0]
	q.Transport, q.Out = wire.TCP, make([]byte, 0, wire.MaxMessage)
	packet := make([]byte, wire.MaxMessage)
	var size [2]byte
	for {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		q.Packet = packet[:binary.BigEndian.Uint16(size[:])]
		if _, err := io.ReadFull(r, q.Packet); err != nil {
			return
		}
		h.Fast(batch)
		if q.Outcome == wire.Dropped {
			continue
		}
		binary.BigEndian.PutUint16(size[:], uint16(len(q.Out)))
		w.Write(size[:])
		w.Write(q.Out)
	}
}
