package fake

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// Dial opens a connection for the time of a test.
func Dial(t testing.TB, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(Deadline)); err != nil {
		t.Fatal(err)
	}
	return c
}

// Query packs a question for A of name with an ID.
func Query(t testing.TB, id uint16, name string) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name+".", dns.TypeA)
	m.Id = id
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// Unpack decodes an answer.
func Unpack(t testing.TB, packed []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(packed); err != nil {
		t.Fatalf("the answer does not unpack: %v", err)
	}
	return m
}

// Eventually waits until ok returns true.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Deadline); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// WriteFrames sends messages, each behind its length.
func WriteFrames(t testing.TB, c net.Conn, messages ...[]byte) {
	t.Helper()
	if _, err := c.Write(dnstest.Framed(messages...)); err != nil {
		t.Fatal(err)
	}
}

// ReadFrame reads one message and decodes it.
func ReadFrame(t testing.TB, c net.Conn) *dns.Msg {
	t.Helper()
	packed, err := dnstest.ReadFrame(c)
	if err != nil {
		t.Fatalf("waiting for an answer: %v", err)
	}
	return Unpack(t, packed)
}

// Closed waits until the server closes the connection. Data from the server is an error.
func Closed(t testing.TB, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	if n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection was not closed: %d bytes, %v", n, err)
	}
}

// FloodHandshakes makes 50 clients connect to a server for DNS over TLS again and again, until end. Wait on flood before the test ends.
func FloodHandshakes(addr string, client *tls.Config) (end time.Time, flood *sync.WaitGroup) {
	end, flood = time.Now().Add(500*time.Millisecond), new(sync.WaitGroup)
	for range 50 {
		flood.Go(func() {
			for time.Now().Before(end) {
				if c, err := tls.Dial("tcp", addr, client); err == nil {
					c.Close()
				}
			}
		})
	}
	return end, flood
}
