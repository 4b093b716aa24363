package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// testServer is a NATS server in the test's process to which control and nodes connect over TCP.
type testServer struct {
	t    *testing.T
	opts server.Options
	s    *server.Server
}

// newServer starts a server that is stopped at the end of the test. secure is nil for plain text.
func newServer(t *testing.T, secure *tls.Config) *testServer {
	t.Helper()
	n := &testServer{t: t, opts: server.Options{ServerName: "s0", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, MaxPayload: maxPayload,
		JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, TLS: secure != nil, TLSConfig: secure, DisableJetStreamBanner: true}}
	n.start()
	t.Cleanup(n.stop)
	return n
}

// start starts the server. After stop, it uses the same port and store.
func (n *testServer) start() {
	n.t.Helper()
	opts := n.opts
	s, err := server.NewServer(&opts)
	if err != nil {
		n.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		n.t.Fatal("the NATS server did not start")
	}
	n.s, n.opts.Port = s, s.Addr().(*net.TCPAddr).Port
}

func (n *testServer) stop() {
	n.s.Shutdown()
	n.s.WaitForShutdown()
}

func (n *testServer) addr() string { return net.JoinHostPort(n.opts.Host, strconv.Itoa(n.opts.Port)) }

// config returns the configuration of control on the server.
func (n *testServer) config() Config {
	return Config{URL: "nats://" + n.addr(), Replicas: 1, Log: testLog(n.t)}
}

// node connects a node to an address.
func node(t *testing.T, addr string) *Reader {
	t.Helper()
	r, err := Connect(t.Context(), NodeConfig{URL: "nats://" + addr, Name: "node", Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// TestConnectBeforeServerRuns checks that Connect succeeds before the server runs, and that the node connects later.
func TestConnectBeforeServerRuns(t *testing.T) {
	n := newServer(t, nil)
	appendOK(t, open(t, n.config()), 0, "change", payload(1))
	n.stop()
	r := node(t, n.addr())
	if _, err := r.Last(t.Context(), ""); !errors.Is(err, errNotConnected) {
		t.Errorf("Last: %v", err)
	}
	if _, err := Connect(t.Context(), NodeConfig{URL: "nats://rempart.invalid:4222", Name: "node", Log: testLog(t)}); err != nil {
		t.Errorf("a server without an address: %v", err)
	}
	n.start()
	collect(t, r, 0, 1)
}

// TestTLS checks that a node connects with TLS and refuses a server's certificate from an unknown authority.
func TestTLS(t *testing.T) {
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	defer web.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, web.Certificate())
	n := newServer(t, &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12})
	c := n.config()
	c.URL, c.RootCAs = "tls://"+n.addr(), rootsOf(ca)
	appendOK(t, open(t, c), 0, "change", payload(1))
	r, err := Connect(t.Context(), NodeConfig{URL: c.URL, Name: "node", RootCAs: rootsOf(ca), Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	collect(t, r, 0, 1)
	if nc, err := nats.Connect(c.URL); err == nil {
		nc.Close()
		t.Error("a certificate of an unknown authority was accepted")
	}
	if _, err := Connect(t.Context(), NodeConfig{URL: c.URL, Name: "node", RootCAs: rootsOf(filepath.Join(t.TempDir(), "none.pem"))}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file of certificates that does not exist: %v", err)
	}
	if _, err := Connect(context.Background(), NodeConfig{URL: c.URL}); err == nil {
		t.Error("Connect without a name returned no error")
	}
}

// rootsOf returns a function that reads authorities from a file at each connection.
func rootsOf(path string) func() (*x509.CertPool, error) {
	return func() (*x509.CertPool, error) {
		data, err := os.ReadFile(path)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(data)
		return pool, err
	}
}

func writePEM(t *testing.T, path string, cert *x509.Certificate) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}
