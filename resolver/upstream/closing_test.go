package upstream

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/pause"
	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

// server answers the queries of one connection, each after the time think.
type server struct {
	think  time.Duration
	most   int                                        // the server closes a connection after this many answers; 0: never
	bad    func(c net.Conn, query []byte) (more bool) // answers queries for names that begin with "bad"
	linger time.Duration                              // time before the server closes the connection
}

func (v *server) serve(c net.Conn) {
	for n := 1; ; n++ {
		msg, err := dnstest.ReadFrame(c)
		if err != nil {
			return
		}
		time.Sleep(v.think)
		if v.bad != nil && bytes.HasPrefix(msg[wire.HeaderLen:], []byte("\x03bad")) {
			if !v.bad(c, msg) {
				return
			}
			continue
		}
		wire.SetFlags(msg, wire.FlagQR)
		send(c, msg)
		if n == v.most {
			time.Sleep(v.linger)
			return
		}
	}
}

func send(c net.Conn, msg []byte) {
	c.Write(dnstest.Framed(msg))
}

// overPipes returns a pool of one TCP upstream, whose connections are pipes in memory. dialled is the number of connections that were opened.
func overPipes(t *testing.T, serve func(net.Conn)) (p *Pool, dialled *atomic.Int32) {
	t.Helper()
	dialled = new(atomic.Int32)
	e, err := transport.ParseEndpoint("tcp://192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		if !pause.For(ctx, time.Millisecond) {
			return nil, ctx.Err()
		}
		near, far := net.Pipe()
		dialled.Add(1)
		if !p.group.start(func() { defer far.Close(); serve(far) }) {
			return nil, net.ErrClosed
		}
		return near, nil
	}
	if p, err = New(Config{Endpoints: []transport.Endpoint{e}, Dial: dial}); err != nil {
		t.Fatal(err)
	}
	return p, dialled
}

func TestClosingUpstreamFailsNoQuestion(t *testing.T) {
	for _, tt := range []struct {
		name           string
		server         server
		clients, count int
		connections    int32 // at most
	}{
		{"after 128", server{most: 128}, 50, 4000, 32 + 120},
		{"after 100", server{most: 100}, 50, 2000, 20 + 120},
		{"after 100, slow", server{most: 100, think: time.Millisecond}, 20, 2000, 20 + 60},
		{"after 30", server{most: 30}, 20, 2000, 67 + 60},
		{"after 2", server{most: 2, think: time.Millisecond}, 20, 400, 200 + 60},
		{"after each question", server{most: 1, think: 20 * time.Millisecond, linger: 50 * time.Millisecond}, 20, 400, 400 + 20},
		{"after each question, one client", server{most: 1, think: 20 * time.Millisecond}, 1, 400, 400 + 5},
		{"after each question, without delay", server{most: 1}, 200, 2000, 2000 + 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, dialled := overPipes(t, tt.server.serve)
				defer p.group.end()
				if failed := crowd(t, p, tt.clients, tt.count, time.Millisecond); failed > 0 {
					t.Errorf("%d of %d questions failed", failed, tt.count)
				}
				if n := dialled.Load(); n > tt.connections {
					t.Errorf("%d connections, want at most %d", n, tt.connections)
				}
				if s := p.Stats().Upstreams[0]; !s.Healthy || p.Stats().Denied > 0 {
					t.Errorf("upstream %+v, want a healthy one and no denied question", s)
				}
			})
		})
	}
}

// answered turns query into the answer that the servers of these tests give.
func answered(query []byte) []byte {
	wire.SetFlags(query, wire.FlagQR)
	return query
}

// misframed answers with a length that is too large by the number wrong, but never negative.
func misframed(wrong int) func(net.Conn, []byte) bool {
	return func(c net.Conn, query []byte) bool {
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(max(0, len(query)+wrong))), answered(query)...))
		return true
	}
}

// TestBadNameDoesNotFailOtherQuestions checks that good names are answered while a client asks five times per second for a name on which the upstream closes
// the connection.
func TestBadNameDoesNotFailOtherQuestions(t *testing.T) {
	shut := func(net.Conn, []byte) bool { return false }
	for name, bad := range map[string]func(net.Conn, []byte) bool{
		"closed without an answer": shut,
		"half a frame":             func(c net.Conn, _ []byte) bool { c.Write([]byte{1, 0, 1}); return false },
		"message without a header": func(c net.Conn, _ []byte) bool { send(c, []byte("abc")); return true },
		"another question": func(c net.Conn, query []byte) bool {
			wire.SetFlags(query, wire.FlagQR)
			query[wire.HeaderLen+1] = 'x'
			send(c, query)
			return true
		},
		"no question": func(c net.Conn, query []byte) bool {
			head := bytes.Clone(query[:wire.HeaderLen])
			wire.SetFlags(head, wire.FlagQR)
			wire.SetCount(head, wire.SectionQuestion, 0)
			wire.SetCount(head, wire.SectionAdditional, 0)
			send(c, head)
			return true
		},
		"message cut short": func(c net.Conn, query []byte) bool {
			wire.SetFlags(query, wire.FlagQR)
			wire.SetCount(query, wire.SectionAnswer, 7)
			send(c, query)
			return true
		},
		"truncated": func(c net.Conn, query []byte) bool {
			wire.SetFlags(query, wire.FlagQR|wire.FlagTC)
			send(c, query)
			return true
		},
		"answers to no question": func(c net.Conn, query []byte) bool {
			wire.SetFlags(query, wire.FlagQR)
			for range 105 { // more than a connection may carry in a row
				query[0]++
				send(c, query)
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) { failsNoOther(t, bad, false) })
	}
}

// TestBadFramingDoesNotFailOtherQuestions checks that good names are answered while a client asks for a name whose answer has a wrong length or is incomplete.
func TestBadFramingDoesNotFailOtherQuestions(t *testing.T) {
	for name, bad := range map[string]func(net.Conn, []byte) bool{
		"a length too high by one":  misframed(1),
		"a length too high by 30":   misframed(30),
		"a length too high by 9000": misframed(9000),
		"a length too low by one":   misframed(-1),
		"a length of zero":          misframed(-math.MaxUint16),
		"no length":                 func(c net.Conn, query []byte) bool { c.Write(answered(query)); return true },
		"only a length":             func(c net.Conn, _ []byte) bool { c.Write([]byte{0, 60}); return true },
		"half a length":             func(c net.Conn, _ []byte) bool { c.Write([]byte{0}); return true },
		"a byte every 200 ms": func(c net.Conn, query []byte) bool {
			for _, b := range dnstest.Framed(answered(query)) {
				c.Write([]byte{b})
				time.Sleep(200 * time.Millisecond)
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) { failsNoOther(t, bad, true) })
	}
}

// failsNoOther asks five times a second for a name that an upstream answers badly, and at the same time for good names. No good name may fail. The bad name
// must fail, unless mayBeAnswered.
func failsNoOther(t *testing.T, bad func(net.Conn, []byte) bool, mayBeAnswered bool) {
	synctest.Test(t, func(t *testing.T) {
		v := server{think: time.Millisecond, bad: bad}
		p, _ := overPipes(t, v.serve)
		defer p.group.end()
		ctx, cancel := context.WithCancel(t.Context())
		var nuisance sync.WaitGroup
		nuisance.Go(func() {
			for i := 0; pause.For(ctx, 200*time.Millisecond); i++ {
				nuisance.Go(func() {
					ctx, cancel := context.WithTimeout(ctx, clientPatience)
					defer cancel()
					if _, err := exchangeWith(p, ctx, question(t, fmt.Sprintf("bad.n%d.example", i))); err == nil && !mayBeAnswered {
						t.Error("the bad name was answered")
					}
				})
			}
		})
		const count = 1500
		if failed := crowd(t, p, 10, count, 50*time.Millisecond); failed > 0 {
			t.Errorf("%d of %d good names failed", failed, count)
		}
		if s := p.Stats().Upstreams[0]; !s.Healthy {
			t.Errorf("upstream %+v, want a healthy one", s)
		}
		cancel()
		nuisance.Wait()
	})
}

// TestFewConnectionsAreUsedAgain checks that the pool uses few connections again when an upstream no longer closes connections.
func TestFewConnectionsAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := server{most: 1, think: time.Millisecond}
		var now atomic.Pointer[server]
		now.Store(&v)
		p, dialled := overPipes(t, func(c net.Conn) { now.Load().serve(c) })
		defer p.group.end()
		crowd(t, p, 5, 100, time.Millisecond)
		if n := dialled.Load(); n < 90 {
			t.Errorf("%d connections for 100 questions, want one for almost each", n)
		}
		now.Store(&server{think: time.Millisecond})
		crowd(t, p, 5, 100, 50*time.Millisecond)
		before := dialled.Load()
		if failed := crowd(t, p, 5, 1000, time.Millisecond); failed > 0 {
			t.Errorf("%d questions failed", failed)
		}
		if n := dialled.Load() - before; n > 4 {
			t.Errorf("%d connections for 1000 questions, want at most 4", n)
		}
	})
}

// TestUpstreamClosingEveryConnectionIsNotFlooded checks that an upstream that closes every connection gets few connections and becomes unhealthy.
func TestUpstreamClosingEveryConnectionIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dialled := overPipes(t, func(c net.Conn) { io.ReadFull(c, make([]byte, 20)) })
		defer p.group.end()
		const count = 2000
		if failed := crowd(t, p, 10, count, time.Millisecond); failed != count {
			t.Errorf("%d of %d questions failed", failed, count)
		}
		if n := dialled.Load(); n > count*5/2 {
			t.Errorf("%d connections for %d questions, want at most 2.5 per question", n, count)
		}
		if p.Stats().Upstreams[0].Healthy {
			t.Error("the upstream is still healthy")
		}
	})
}

// TestForgottenConnectionIsReplaced checks that a question on a connection that a firewall has forgotten is answered over a new connection.
func TestForgottenConnectionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var connections atomic.Int32
		p, _ := overPipes(t, func(c net.Conn) {
			if connections.Add(1) == 1 {
				(&server{most: 1}).serve(c)
				io.Copy(io.Discard, c)
				return
			}
			(&server{}).serve(c)
		})
		defer p.group.end()
		ask(t, p)
		if took := ask(t, p); took >= 300*time.Millisecond {
			t.Errorf("answered after %v, want less than 300 ms", took)
		}
	})
}

// TestResetConnectionFailsNoQuestion checks that all questions on a connection that the upstream resets before its first answer are answered over other
// connections, when the budget pays for no repetition.
func TestResetConnectionFailsNoQuestion(t *testing.T) {
	const count = 50
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	accept := func(serve func(net.Conn)) bool {
		c, err := l.Accept()
		if err != nil {
			return false
		}
		connections.Go(func() {
			defer c.Close()
			serve(c)
		})
		return true
	}
	stop := dnstest.Running(t, func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { l.Close() })
		accept(func(c net.Conn) {
			for range count / 2 { // closing with unread queries resets the connection
				dnstest.ReadFrame(c)
			}
			c.(*net.TCPConn).SetLinger(0)
		})
		for accept((&server{}).serve) {
		}
		return nil
	})
	p := newPool(t, nil, "tcp://"+l.Addr().String())
	p.budget.queries.Store(freeQueries + 1)
	if failed := crowd(t, p, count, count, 0); failed > 0 {
		t.Errorf("%d of %d questions failed: %+v", failed, count, p.Stats())
	}
	p.group.end()
	stop()
	connections.Wait()
}

// TestMaxTCPQueries checks that no question fails if the upstream is a miekg/dns server, which closes or resets a connection after 128 questions.
func TestMaxTCPQueries(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		w.WriteMsg(new(dns.Msg).SetReply(m))
	})}
	stop := dnstest.Running(t, func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { srv.Shutdown() })
		return srv.ActivateAndServe()
	})
	defer stop()
	p := newPool(t, nil, "tcp://"+l.Addr().String())
	if failed := crowd(t, p, 50, 4000, 0); failed > 0 {
		t.Errorf("%d of 4000 questions failed: %+v", failed, p.Stats())
	}
}
