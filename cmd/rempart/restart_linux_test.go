package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"rempart/internal/dnstest"
)

// restartLoad is the load during restarts.
type restartLoad struct {
	queries, rate int                                     // over UDP; rate is per second
	query         func(b []byte, id uint16, n int) []byte // appends query number n
	restarts      int
}

// TestRestartLosesNoQuery restarts the program under load over every transport, and checks that every query is answered. Over UDP each query is sent once. Over the
// other transports a client whose connection ends asks again on a new one (RFC 7766 section 6.2.4).
func TestRestartLosesNoQuery(t *testing.T) {
	load := restartLoad{queries: 30_000, rate: 5_000, restarts: 2, query: loadQuery}
	switch {
	case testing.Short():
		t.Skip("the race detector makes the program too slow for this load")
	case os.Getenv(longTests) != "":
		load = restartLoad{queries: 2_000_000, rate: 50_000, restarts: 10, query: loadQuery}
	}
	upstream := echoUpstream(t, func(n int) time.Duration { // one answer in a hundred takes a second
		if n%100 == 0 {
			return time.Second
		}
		return 20 * time.Millisecond
	})
	s := startSupervised(t, "REMPART_UPSTREAMS=udp://"+upstream)
	streams := make(map[string]*streamLoad)
	stop, ended := make(chan struct{}), sync.WaitGroup{}
	for name, ask := range s.clients() {
		one := &streamLoad{}
		streams[name] = one
		for range 4 {
			ended.Go(func() { one.run(stop, ask) })
		}
	}
	udp := newDatagramLoad(t, s.Program.DNS, load)
	pause := time.Duration(load.queries/load.rate) * time.Second / time.Duration(load.restarts+1)
	udp.during(func() {
		for range load.restarts {
			time.Sleep(pause)
			s.Restart(t)
		}
	})
	close(stop)
	ended.Wait()
	t.Logf("udp: %d queries, %d restarts, %d lost, %d failed, %d answered twice, longest wait %v",
		udp.sent.Load(), load.restarts, udp.lost.Load(), udp.failed.Load(), udp.twice.Load(), time.Duration(udp.longest.Load()))
	if bad := udp.lost.Load() + udp.failed.Load() + udp.twice.Load(); bad > 0 {
		t.Errorf("%d of %d queries over UDP were not answered once", bad, udp.sent.Load())
	}
	for name, l := range streams {
		t.Logf("%s: %d queries, %d lost, %d asked again, longest wait %v", name, l.asked.Load(), l.lost.Load(), l.again.Load(), time.Duration(l.longest.Load()))
		if l.lost.Load() > 0 || l.asked.Load() == 0 {
			t.Errorf("%d of %d queries over %s were lost", l.lost.Load(), l.asked.Load(), name)
		}
	}
}

// echoUpstream starts an upstream that answers question n over UDP with an address after the time wait(n). It returns its address.
func echoUpstream(t *testing.T, wait func(n int) time.Duration) string {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadBuffer(8 << 20)
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 2048)
		for n := 0; ; n++ {
			size, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			end := 12 + bytes.IndexByte(buf[12:size], 0) + 5
			answer := append([]byte(nil), buf[:end]...)
			answer[2], answer[3] = 0x81, 0x80
			copy(answer[6:], []byte{0, 1, 0, 0, 0, 0})
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1)
			time.AfterFunc(wait(n), func() { _, _ = c.WriteToUDPAddrPort(answer, from) })
		}
	}()
	return c.LocalAddr().String()
}

// streamLoad are clients that each ask one query after another over a transport.
type streamLoad struct {
	asked, lost, again, longest atomic.Int64
}

// run asks until stop is closed. dial opens a connection and returns the function that asks on it.
func (l *streamLoad) run(stop chan struct{}, dial dialFunc) {
	var conn askingConn
	defer func() {
		if conn.ask != nil {
			conn.close()
		}
	}()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		began := time.Now()
		query := loadQuery(nil, 0, n)
		l.asked.Add(1)
		for {
			err := l.try(&conn, dial, query)
			if err == nil {
				longest(&l.longest, int64(time.Since(began)))
				break
			}
			if time.Since(began) > lostAfter {
				l.lost.Add(1)
				break
			}
			l.again.Add(1)
			time.Sleep(time.Millisecond)
		}
	}
}

func (l *streamLoad) try(conn *askingConn, dial dialFunc, query []byte) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lostAfter)
	defer cancel()
	if conn.ask == nil {
		if *conn, err = dial(ctx); err != nil {
			conn.ask = nil
			return err
		}
	}
	answer, err := conn.ask(ctx, query)
	if err == nil && (len(answer) < 12 || answer[3]&0xf != 0) {
		err = errors.New("a failure")
	}
	if err != nil {
		conn.close()
		conn.ask = nil
	}
	return err
}

// askingConn is a connection of a client.
type askingConn struct {
	ask   func(ctx context.Context, query []byte) ([]byte, error)
	close func()
}

type dialFunc func(ctx context.Context) (askingConn, error)

// supervised is a program with all transports under a Supervisor.
type supervised struct {
	*dnstest.Supervisor
	encryptedSettings
}

func startSupervised(t *testing.T, env ...string) *supervised {
	t.Helper()
	e := newEncrypted(t)
	return &supervised{dnstest.NewSupervisor(t, slices.Concat(env, e.env)...), e}
}

// clients returns the function that opens a connection, for each transport with connections.
func (s *supervised) clients() map[string]dialFunc {
	framed := func(dial func(ctx context.Context) (net.Conn, error)) dialFunc {
		return func(ctx context.Context) (askingConn, error) {
			c, err := dial(ctx)
			if err != nil {
				return askingConn{}, err
			}
			return askingConn{close: func() { c.Close() }, ask: func(ctx context.Context, query []byte) ([]byte, error) {
				end, _ := ctx.Deadline()
				_ = c.SetDeadline(end)
				if _, err := c.Write(dnstest.Framed(query)); err != nil {
					return nil, err
				}
				return dnstest.ReadFrame(c)
			}}, nil
		}
	}
	web := func(over http.RoundTripper, end func()) (askingConn, error) {
		return askingConn{close: end, ask: func(ctx context.Context, query []byte) ([]byte, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.https+"/dns-query", bytes.NewReader(query))
			if err != nil {
				return nil, err
			}
			r.Header.Set("Content-Type", "application/dns-message")
			res, err := over.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			defer res.Body.Close()
			return io.ReadAll(res.Body)
		}}, nil
	}
	return map[string]dialFunc{
		"tcp": framed(func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.Program.DNS)
		}),
		"tls": framed(func(ctx context.Context) (net.Conn, error) {
			return (&tls.Dialer{Config: s.settings("dot")}).DialContext(ctx, "tcp", s.tls)
		}),
		"https": func(context.Context) (askingConn, error) {
			over := &http.Transport{TLSClientConfig: s.settings(), ForceAttemptHTTP2: true}
			return web(over, over.CloseIdleConnections)
		},
		"http/3": func(context.Context) (askingConn, error) {
			over := &http3.Transport{TLSClientConfig: s.settings()}
			return web(over, func() { over.Close() })
		},
		"quic": func(ctx context.Context) (askingConn, error) {
			c, err := quic.DialAddr(ctx, s.quic, s.settings("doq"), nil)
			if err != nil {
				return askingConn{}, err
			}
			return askingConn{close: func() { _ = c.CloseWithError(0, "") }, ask: func(ctx context.Context, query []byte) ([]byte, error) {
				st, err := c.OpenStreamSync(ctx)
				if err != nil {
					return nil, err
				}
				if _, err := st.Write(dnstest.Framed(query)); err != nil {
					return nil, err
				}
				st.Close()
				end, _ := ctx.Deadline()
				_ = st.SetReadDeadline(end)
				return dnstest.ReadFrame(st)
			}}, nil
		},
	}
}
