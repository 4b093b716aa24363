package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
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
	"golang.org/x/sys/unix"

	"rempart/internal/dnstest"
	"rempart/internal/mmsg"
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
	upstream := echoUpstream(t)
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
	sent := make(chan struct{})
	go func() {
		udp.run()
		close(sent)
	}()
	pause := time.Duration(load.queries/load.rate) * time.Second / time.Duration(load.restarts+1)
	for range load.restarts {
		time.Sleep(pause)
		s.Restart(t)
	}
	<-sent
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

// datagramLoad sends queries over UDP at a constant rate.
type datagramLoad struct {
	load    restartLoad
	sockets []*datagramSocket
	sent    atomic.Int64
	lost    atomic.Int64 // without an answer
	failed  atomic.Int64 // answered with another rcode than NOERROR
	twice   atomic.Int64 // answered again
	longest atomic.Int64 // wait for an answer, nanoseconds
}

// datagramSocket is a client. Its queries have the IDs from 0 on, again and again.
type datagramSocket struct {
	fd    int
	asked [1 << 16]atomic.Int64 // by ID: when the query was sent; 0 if it was answered
}

// lostAfter is the time after which a query that was not answered is lost.
const lostAfter = 5 * time.Second

func newDatagramLoad(t *testing.T, to string, load restartLoad) *datagramLoad {
	t.Helper()
	l := &datagramLoad{load: load}
	for range 8 {
		c, err := net.Dial("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.(*net.UDPConn).File() // blocking
		c.Close()
		if err != nil {
			t.Fatal(err)
		}
		fd := int(f.Fd())
		t.Cleanup(func() { f.Close() })
		if err := unix.SetNonblock(fd, false); err != nil {
			t.Fatal(err)
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
		l.sockets = append(l.sockets, &datagramSocket{fd: fd})
	}
	return l
}

// run sends all queries, waits for their answers, and counts the lost ones.
func (l *datagramLoad) run() {
	var receiving, sending sync.WaitGroup
	var done atomic.Bool
	for i, s := range l.sockets {
		receiving.Go(func() {
			for !done.Load() {
				l.receive(s)
			}
		})
		sending.Go(func() { l.send(i, s) })
	}
	sending.Wait()
	for end := time.Now().Add(lostAfter); l.waiting() > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	done.Store(true)
	receiving.Wait()
	l.lost.Add(l.waiting())
}

// waiting returns the number of queries that were not answered.
func (l *datagramLoad) waiting() (n int64) {
	for _, s := range l.sockets {
		for id := range s.asked {
			if s.asked[id].Load() != 0 {
				n++
			}
		}
	}
	return n
}

// send sends the share of one socket, in batches.
func (l *datagramLoad) send(number int, s *datagramSocket) {
	const batch = 16
	var headers [batch]mmsg.Header
	var vectors [batch]unix.Iovec
	var packets [batch][]byte
	for i := range headers {
		headers[i].Hdr.Iov = &vectors[i]
		headers[i].Hdr.SetIovlen(1)
	}
	share := l.load.queries / len(l.sockets)
	every := time.Duration(batch*len(l.sockets)) * time.Second / time.Duration(l.load.rate)
	began := time.Now()
	for n := 0; n < share; n += batch {
		time.Sleep(time.Until(began.Add(time.Duration(n/batch) * every)))
		now := time.Now().UnixNano()
		for i := range batch {
			id := uint16(n + i)
			packets[i] = l.load.query(packets[i][:0], id, number*share+n+i)
			vectors[i].Base = &packets[i][0]
			vectors[i].SetLen(len(packets[i]))
			if s.asked[id].Swap(now) != 0 {
				l.lost.Add(1)
			}
		}
		for at := 0; at < batch; {
			k, errno := mmsg.Send(uintptr(s.fd), headers[at:])
			if errno != 0 && errno != unix.EAGAIN && errno != unix.ECONNREFUSED {
				panic(errno)
			}
			at += k
		}
		l.sent.Add(batch)
	}
}

// receive takes the answers that have arrived.
func (l *datagramLoad) receive(s *datagramSocket) {
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(s.fd, buf)
		if err != nil || n < 12 {
			return
		}
		asked := s.asked[binary.BigEndian.Uint16(buf)].Swap(0)
		switch {
		case asked == 0:
			l.twice.Add(1)
		case buf[3]&0xf != 0:
			l.failed.Add(1)
		default:
			longest(&l.longest, time.Now().UnixNano()-asked)
		}
	}
}

// longest keeps the largest value.
func longest(of *atomic.Int64, v int64) {
	for old := of.Load(); v > old && !of.CompareAndSwap(old, v); old = of.Load() {
	}
}

// loadQuery appends query number n: four in ten are blocked, nearly all others cached, and one in fifty asks for a new name.
func loadQuery(b []byte, id uint16, n int) []byte {
	b = append(b, byte(id>>8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	name := fmt.Sprintf("n%d", n%997)
	if n%50 == 0 {
		name = fmt.Sprintf("new%d", n)
	}
	zone := "example"
	if n%10 < 4 && n%50 != 0 {
		name, zone = "phishing", "test"
	}
	b = append(b, byte(len(name)))
	b = append(b, name...)
	b = append(b, byte(len(zone)))
	b = append(b, zone...)
	return append(b, 0, 0, 1, 0, 1)
}

// echoUpstream starts an upstream that answers every question over UDP with an address after 20 ms, one in a hundred after a second. It returns its address.
func echoUpstream(t *testing.T) string {
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
			wait := 20 * time.Millisecond
			if n%100 == 0 {
				wait = time.Second
			}
			time.AfterFunc(wait, func() { _, _ = c.WriteToUDPAddrPort(answer, from) })
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
