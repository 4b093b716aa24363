package refuse

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

// testView blocks blocked.test and allows allowed.test.
func testView(t *testing.T) *blocklist.View {
	t.Helper()
	b := blocklist.NewBuilder()
	for text, decision := range map[string]blocklist.Decision{"blocked.test": blocklist.Block, "allowed.test": blocklist.Allow} {
		name, err := blocklist.AppendName(nil, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(blocklist.Listing{Name: name, Scope: blocklist.Subtree, Category: blocklist.Phishing, Decision: decision}); err != nil {
			t.Fatal(err)
		}
	}
	var buf bytes.Buffer
	if err := blocklist.Compile(&buf, blocklist.Info{Version: 1}, b.Input(blocklist.Source{Name: "test"})); err != nil {
		t.Fatal(err)
	}
	s, err := blocklist.Open(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return blocklist.NewView(s, nil)
}

// startServer returns a running Server and its address.
func startServer(t *testing.T, way Way, conns int) (*Server, string) {
	t.Helper()
	view := testView(t)
	s, err := New(Config{Way: way, View: func() *blocklist.View { return view }, Conns: conns})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dnstest.Running(t, func(ctx context.Context) error { return s.Serve(ctx, l) })
	return s, l.Addr().String()
}

// recorder is a connection to nobody that records what is written to it.
type recorder struct {
	net.Conn
	written bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) { return r.written.Write(p) }
func (r *recorder) Read([]byte) (int, error)    { return 0, io.EOF }

// hello returns the record with a ClientHello that asks for a name, or for none if name is empty.
func hello(name string) []byte {
	var r recorder
	_ = tls.Client(&r, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
	return r.written.Bytes()
}

// helloFor returns a ClientHello with a server name that crypto/tls does not send, such as an address.
func helloFor(name string) []byte {
	stand := strings.Repeat("a", len(name))
	return bytes.Replace(hello(stand), []byte(stand), []byte(name), 1)
}

// fragmented returns the content of a record in records of at most size bytes.
func fragmented(record []byte, size int) (records []byte) {
	for content := record[5:]; len(content) > 0; {
		n := min(size, len(content))
		records = append(append(records, 22, 3, 1, byte(n>>8), byte(n)), content[:n]...)
		content = content[n:]
	}
	return records
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// refusal returns how the server ends a connection.
func refusal(c net.Conn) string {
	got, err := io.ReadAll(c)
	switch {
	case errors.Is(err, syscall.ECONNRESET) && len(got) == 0:
		return "reset"
	case bytes.Equal(got, []byte("\x15\x03\x01\x00\x02\x02\x70")) && (err == nil || errors.Is(err, syscall.ECONNRESET)):
		return "alert"
	case err != nil:
		return err.Error()
	}
	return "data " + string(got)
}

// count returns the connections of each outcome that are not 0.
func (s *Server) count() string {
	var text []string
	for i, name := range [outcomes]string{"pass", "allow", "block", "none", "unread"} {
		for range s.counts[i].Load() {
			text = append(text, name)
		}
	}
	return strings.Join(text, " ")
}

// TestConnectionsAreRefused checks the refusal of connections, and the outcome by which each is counted.
func TestConnectionsAreRefused(t *testing.T) {
	long := strings.Repeat(strings.Repeat("x", 62)+".", 160)
	for _, tt := range []struct {
		name, counted string
		sent          []byte
	}{
		{"blocked", "block", hello("www.blocked.test")},
		{"allowed", "allow", hello("allowed.test")},
		{"other", "pass", hello("other.test")},
		{"upper case", "block", helloFor("BLOCKED.test")},
		{"no name", "none", hello("")},
		{"address", "none", helloFor("192.0.2.1")},
		{"IPv6 address", "none", helloFor("2001:db8::1")},
		{"name of 10,000 bytes", "none", helloFor(long[:10_000-1] + "x")},
		{"empty label", "none", helloFor("a..test")},
		{"name with a zero byte", "pass", helloFor("a\x00.test")},
		{"final dot", "unread", helloFor("blocked.test.")},
		{"fragments", "block", fragmented(hello("blocked.test"), 100)},
		{"fragments of one byte", "block", fragmented(hello("blocked.test"), 1)},
		{"too long", "unread", fragmented(helloFor(strings.Repeat("x", 20_000)), 1000)},
		{"HTTP", "unread", []byte("GET / HTTP/1.1\r\nHost: blocked.test\r\n\r\n")},
		{"SSL 2", "unread", []byte("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10")},
		{"another handshake message", "unread", []byte("\x16\x03\x01\x00\x04\x02\x00\x00\x00")},
		{"1 MiB", "unread", bytes.Repeat([]byte("garbage!"), 1<<17)},
	} {
		for way, want := range map[Way]string{Alert: "alert", Reset: "reset"} {
			t.Run(tt.name+" "+want, func(t *testing.T) {
				t.Parallel()
				s, addr := startServer(t, way, 100)
				c := dial(t, addr)
				began := time.Now()
				written := make(chan error, 1)
				go func() {
					_, err := c.Write(tt.sent)
					written <- err
				}()
				got := refusal(c)
				if got == "data " && errors.Is(<-written, syscall.ECONNRESET) {
					got = "reset" // the kernel reports a RST once: here to the writer
				}
				if got != want {
					t.Errorf("the connection ended with %q, want %s", got, want)
				}
				if d := time.Since(began); d > helloTime/2 {
					t.Errorf("it was refused after %v", d)
				}
				if got := s.count(); got != tt.counted {
					t.Errorf("counted as %q, want %s", got, tt.counted)
				}
			})
		}
	}
}

// TestSlowClientsAreRefused checks that a client which sends nothing, or too little, is reset.
func TestSlowClientsAreRefused(t *testing.T) {
	for name, send := range map[string]func(net.Conn){
		"nothing":      func(net.Conn) {},
		"half a hello": func(c net.Conn) { _, _ = c.Write(hello("blocked.test")[:100]) },
		"one byte at a time": func(c net.Conn) {
			for _, b := range hello("blocked.test") {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, addr := startServer(t, Alert, 100)
			c := dial(t, addr)
			began := time.Now()
			go send(c)
			if got := refusal(c); got != "reset" {
				t.Errorf("the connection ended with %q", got)
			}
			if d := time.Since(began); d < helloTime-time.Second/2 || d > helloTime+5*time.Second {
				t.Errorf("it was refused after %v", d)
			}
			if got := s.count(); got != "unread" {
				t.Errorf("counted as %q", got)
			}
		})
	}
}

// TestClientThatStaysIsDropped checks that a client which neither closes its side after the alert nor stops to send loses its connection.
func TestClientThatStaysIsDropped(t *testing.T) {
	t.Parallel()
	s, addr := startServer(t, Alert, 100)
	c := dial(t, addr)
	if _, err := c.Write(hello("blocked.test")); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := c.Write([]byte("x")); err != nil {
			break
		}
		if time.Since(began) > discardTime+5*time.Second {
			t.Fatal("the connection is still open")
		}
	}
	dnstest.Eventually(t, "no connection is open", func() bool { return s.open.Len(0) == 0 })
}

// TestNewClientGetsPlace checks that a client which holds all of its places neither gets another nor keeps other clients out.
func TestNewClientGetsPlace(t *testing.T) {
	t.Parallel()
	s, addr := startServer(t, Alert, 16)
	for i := range 40 { // 8 clients, of which each may have 2 connections
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 9, byte(1+i/5))}}
		c, err := from.Dial("tcp4", addr)
		if errors.Is(err, syscall.ECONNRESET) {
			continue // refused before the dialer looked
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%5 < 2 {
			continue
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if got := refusal(c); got != "reset" {
			t.Errorf("connection %d, above the limit of its client, ended with %q", i, got)
		}
	}
	if n := s.open.Len(0); n != 16 {
		t.Errorf("%d connections are open, want 16", n)
	}
	c := dial(t, addr)
	if _, err := c.Write(hello("blocked.test")); err != nil {
		t.Fatal(err)
	}
	if got := refusal(c); got != "alert" {
		t.Errorf("the connection of a new client ended with %q", got)
	}
}

// TestMemoryOfManyConnections checks the memory that connections take which send a part of a ClientHello only.
func TestMemoryOfManyConnections(t *testing.T) {
	const conns, limit = 512, 64 << 10 // bytes per connection, of both sides in this process
	s, addr := startServer(t, Alert, conns)
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := memory()
	part := helloFor(strings.Repeat("x", 10_000))[:9000]
	for i := range 3 * conns {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 10, byte(1+i/60))}}
		c, err := from.Dial("tcp4", addr)
		if err != nil {
			continue // refused before the dialer looked
		}
		defer c.Close()
		_, _ = c.Write(part)
	}
	if n := s.open.Len(0); n > conns {
		t.Errorf("%d connections are open, the limit is %d", n, conns)
	}
	each := (int64(memory()) - int64(before)) / conns
	t.Logf("%d bytes per connection", each)
	if each > limit {
		t.Errorf("%d bytes per connection, the limit is %d", each, limit)
	}
}

// TestEndResetsConnections checks that Serve returns soon although clients send nothing.
func TestEndResetsConnections(t *testing.T) {
	t.Parallel()
	s, err := New(Config{View: func() *blocklist.View { return nil }, Conns: 10})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := dnstest.Running(t, func(ctx context.Context) error { return s.Serve(ctx, l) })
	c := dial(t, l.Addr().String())
	dnstest.Eventually(t, "the connection is accepted", func() bool { return s.open.Len(0) == 1 })
	began := time.Now()
	stop()
	if d := time.Since(began); d > helloTime/2 {
		t.Errorf("Serve returned after %v", d)
	}
	if got := refusal(c); got != "reset" {
		t.Errorf("the connection ended with %q", got)
	}
}

// TestMetrics checks the exposition: verdicts only.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s, _ := startServer(t, Alert, 10)
	s.counts[blocklist.BlockedBy].Add(2)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Collector())
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d families of metrics, %v", len(families), err)
	}
	got := map[string]float64{}
	for _, m := range families[0].Metric {
		got[m.Label[0].GetName()+"="+m.Label[0].GetValue()] = m.Counter.GetValue()
	}
	want := map[string]float64{"verdict=pass": 0, "verdict=allow": 0, "verdict=block": 2, "verdict=none": 0, "verdict=unread": 0}
	if families[0].GetName() != "rempart_page_https_refused_total" || !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", families[0].GetName(), got, want)
	}
}
