package upstream

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

// streams returns the endpoints of u over connections that many questions share.
func streams(u *dnstest.Upstream) map[string]string {
	return map[string]string{"tcp": overTCP(u), "tls": overTLS(u)}
}

// checkAnswers checks that each of the questions of pendings has ended once, with an answer to itself.
func (e *ended) checkAnswers(t *testing.T, n int) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, all := range e.all {
		if len(all) != 1 {
			t.Errorf("%q ended %d times", name, len(all))
		}
		for _, q := range all {
			m := new(dns.Msg)
			if q.Err != nil || m.Unpack(q.Answer.Packed) != nil || len(m.Answer) != 1 || string(q.Answer.Packed[wire.HeaderLen:][:len(q.Name)]) != string(q.Name) {
				t.Errorf("%q: %v, answer %v", name, q.Err, m)
			}
		}
	}
	if e.n != n {
		t.Errorf("%d questions have ended, want %d", e.n, n)
	}
}

// sendAll sends questions, and asks those that cannot be sent by Exchange, as the resolver does.
func sendAll(t *testing.T, p *Pool, s *Sender, e *ended, all []*Pending) (exchanged int) {
	t.Helper()
	left := s.Send(all)
	for _, q := range left {
		go func() {
			q.Answer, q.Err = p.Exchange(t.Context(), q.Question)
			e.receive([]*Pending{q})
		}()
	}
	return len(left)
}

// TestSenderSharesConnections checks that questions over TCP and TLS are sent by the Sender once a connection is open, over one connection, that answers in
// another order reach their questions, and that the questions cost no goroutine.
func TestSenderSharesConnections(t *testing.T) {
	for network := range streams(dnstest.NewUpstream(t, nil)) {
		t.Run(network, func(t *testing.T) {
			u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
				dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
			})
			p := newPool(t, u.Roots, streams(u)[network])
			e := &ended{all: map[string][]*Pending{}}
			s := p.NewSender(time.Minute, e.receive)
			exchange(t, p, "first.example")
			all := pendings(t, 600)
			exchanged := 0
			for i := range 6 {
				exchanged += sendAll(t, p, s, e, all[i*100:(i+1)*100])
				e.wait(t, (i+1)*100)
			}
			e.checkAnswers(t, 600)
			if exchanged > 0 || u.Streams() != 1 {
				t.Errorf("%d questions were asked by Exchange, over %d connections; want none, over one", exchanged, u.Streams())
			}
			if n := p.Stats().InFlight; n != 0 {
				t.Errorf("%d questions are in flight after the last answer", n)
			}
		})
	}
}

// TestSenderSurvivesClosedConnections checks that every question is answered although the upstream closes its connections again and again, with questions on
// their way.
func TestSenderSurvivesClosedConnections(t *testing.T) {
	for network := range streams(dnstest.NewUpstream(t, nil)) {
		t.Run(network, func(t *testing.T) {
			var n atomic.Int32
			u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
				if n.Add(1)%97 == 0 {
					q.Close()
					return
				}
				dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
			})
			p := newPool(t, u.Roots, streams(u)[network])
			e := &ended{all: map[string][]*Pending{}}
			s := p.NewSender(time.Minute, e.receive)
			all := pendings(t, 1000)
			for i := range 20 {
				sendAll(t, p, s, e, all[i*50:(i+1)*50])
				e.wait(t, (i+1)*50)
			}
			e.checkAnswers(t, 1000)
		})
	}
}

// TestLateAnswersOverConnectionsEndNoOtherQuestion checks that answers which arrive after another upstream has answered do no harm: postings are used again for
// other questions.
func TestLateAnswersOverConnectionsEndNoOtherQuestion(t *testing.T) {
	slow := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
	})
	quick := dnstest.NewUpstream(t, nil)
	p := newPool(t, slow.Roots, overTLS(slow), overUDP(quick))
	p.members[0].health.fixed = 20 * time.Millisecond // after this time the other upstream is asked
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(time.Second, e.receive)
	exchange(t, p, "first.example")
	all := pendings(t, 1500)
	for i := range 30 {
		sendAll(t, p, s, e, all[i*50:(i+1)*50])
		e.wait(t, (i+1)*50)
		p.members[0].health.revived()
	}
	e.checkAnswers(t, 1500)
	if quick.Queries() == 0 {
		t.Error("no question was too slow")
	}
}

// TestSilentUpstreamOverTLSEndsQuestions checks that questions to an upstream that accepts them and never answers end with an error in time, and are no
// longer in flight.
func TestSilentUpstreamOverTLSEndsQuestions(t *testing.T) {
	var silent atomic.Bool
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if !silent.Load() {
			dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
		}
	})
	p := newPoolOf(t, Config{RootCAs: u.Roots, MaxInFlight: 10, patience: 50 * time.Millisecond, plainAfter: defaultTimeout}, overTLS(u))
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(500*time.Millisecond, e.receive)
	exchange(t, p, "first.example")
	silent.Store(true)
	if n := sendAll(t, p, s, e, pendings(t, 100)); n != 0 {
		t.Fatalf("%d questions could not be sent", n)
	}
	e.wait(t, 100)
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, all := range e.all {
		if len(all) != 1 || all[0].Err == nil {
			t.Errorf("%q ended %d times, with the error %v; want once, with an error", name, len(all), all[0].Err)
		}
	}
	if n := p.Stats().InFlight; n != 0 {
		t.Errorf("%d questions are in flight at the end, want none", n)
	}
}

// TestClosedSenderEndsPostedQuestions checks that Close ends the questions on their way over a connection, while others of the pool continue.
func TestClosedSenderEndsPostedQuestions(t *testing.T) {
	release := make(chan struct{})
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if q.Msg.Question[0].Name != "first.example." {
			<-release
		}
		dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
	})
	defer sync.OnceFunc(func() { close(release) })()
	p := newPool(t, u.Roots, overTLS(u))
	a, b := &ended{all: map[string][]*Pending{}}, &ended{all: map[string][]*Pending{}}
	first, second := p.NewSender(time.Minute, a.receive), p.NewSender(time.Minute, b.receive)
	exchange(t, p, "first.example")
	if n := len(first.Send(pendings(t, 50))) + len(second.Send(pendings(t, 50))); n != 0 {
		t.Fatalf("%d questions could not be sent", n)
	}
	first.Close()
	a.wait(t, 50)
	release <- struct{}{}
	b.wait(t, 1)
	if n := a.count(); n != 50 {
		t.Error(fmt.Sprint(n, " questions of the closed Sender have ended, want 50"))
	}
}
