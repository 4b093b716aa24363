package transport

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

// newGroup returns a group, and a function that ends it and waits for its goroutines.
func newGroup() (g group, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var work sync.WaitGroup
	start := func(f func()) bool {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return false
		}
		work.Go(f)
		return true
	}
	return group{ctx, start}, func() {
		mu.Lock()
		cancel()
		mu.Unlock()
		work.Wait()
	}
}

func question(t testing.TB, name string) Question {
	return Question{Name: dnstest.WireName(t, name), Type: wire.TypeA, Class: wire.ClassIN}
}

// newTransport returns a Transport to an endpoint, which is given as text. It ends with the test.
func newTransport(t *testing.T, endpoint string) *Transport {
	t.Helper()
	e, err := ParseEndpoint(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	g, end := newGroup()
	t.Cleanup(end)
	return New(Config{Endpoint: e, Context: g.ctx, Start: g.start, Spend: func(bool) bool { return true }, Foreign: new(atomic.Uint64)})
}

// TestEDNSIsTriedAgain checks that EDNS is tried again some time after it was given up: one silence is then enough to give it up again, and one answer to use
// it.
func TestEDNSIsTriedAgain(t *testing.T) {
	var drop atomic.Bool // leave queries with an OPT unanswered
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if !drop.Load() || q.Msg.IsEdns0() == nil {
			dnstest.Answer("@ 300 IN A 192.0.2.7")(q)
		}
	})
	for _, endpoint := range []string{"udp://" + u.Addr.String(), "tcp://" + u.Addr.String()} {
		t.Run(endpoint[:3], func(t *testing.T) {
			drop.Store(true)
			via := newTransport(t, endpoint)
			timed := func() time.Duration {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				start := time.Now()
				r, err := via.Exchange(ctx, &Request{Question: question(t, "www.example.org")})
				if err != nil || wire.Rcode(r.Packed) != wire.Success {
					t.Fatalf("%v, answer %q", err, r.Packed)
				}
				return time.Since(start)
			}
			for range ednsStrikes {
				timed()
			}
			if !via.dropEDNS.active() {
				t.Error("EDNS is still used")
			}
			via.dropEDNS.forget()
			timed()
			if !via.dropEDNS.active() {
				t.Error("EDNS was tried again, and is still used")
			}
			drop.Store(false)
			for end := time.Now().Add(time.Minute); ; { // a slow machine may delay some of the answers
				via.dropEDNS.forget()
				if took := timed(); took <= plainAfterFirst/2 {
					break
				} else if time.Now().After(end) {
					t.Fatalf("it took %v each time, want %v at most", took, plainAfterFirst/2)
				}
			}
			if via.dropEDNS.active() || !via.hasEDNS.active() {
				t.Error("EDNS is not used again")
			}
		})
	}
}

// TestClosedConnectionsLeaveNoQuestions checks that no question is in flight or waiting after many questions to a server that closes each connection after a
// number of answers, and that the stream learns that a server takes one question per connection.
func TestClosedConnectionsLeaveNoQuestions(t *testing.T) {
	for _, most := range []int{1, 2, 30, 100, 128} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, end := piped(t, func(c net.Conn, _ int32) {
					for range most {
						time.Sleep(time.Millisecond)
						if !answerNext(c) {
							return
						}
					}
				})
				defer end()
				var clients sync.WaitGroup
				for range 20 {
					clients.Go(func() {
						for range 50 {
							q := question(t, "www.example.org")
							s.ask(t.Context(), &q, Form{}) // a test of the pool checks that none fails
						}
					})
				}
				clients.Wait()
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.asking != 0 || len(s.waiting[0])+len(s.waiting[1]) != 0 {
					t.Errorf("at the end %d questions are in flight and %d are waiting, want none", s.asking, len(s.waiting[0])+len(s.waiting[1]))
				}
				if limit := s.bound.limit(); most == 1 && limit != 1 {
					t.Errorf("a connection takes %d questions, want 1", limit)
				}
			})
		})
	}
}
