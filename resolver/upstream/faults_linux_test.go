package upstream

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

// learningPool is newPool with patience that is learned from answers.
func learningPool(t testing.TB, upstreams ...*rawUpstream) *Pool {
	t.Helper()
	var endpoints []string
	for _, u := range upstreams {
		endpoints = append(endpoints, "udp://"+u.addr.String())
	}
	p := newPool(t, nil, endpoints...)
	for _, m := range p.members {
		m.health.fixed = 0
	}
	return p
}

func answering(u *rawUpstream, query []byte, from netip.AddrPort) { u.reply(query, from) }

func silentUpstream(*rawUpstream, []byte, netip.AddrPort) {}

// TestFailoverOfSenderAsksNextUpstream checks that questions whose first upstream is silent are sent to the next one, and that its answers are its own.
func TestFailoverOfSenderAsksNextUpstream(t *testing.T) {
	const questions = 500
	p := learningPool(t, newRawUpstream(t, silentUpstream), newRawUpstream(t, answering))
	p.members[0].trusted = false
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(4*time.Second, e.receive)
	for _, q := range pendings(t, questions) {
		if left := s.Send([]*Pending{q}); len(left) > 0 { // the first upstream is known to be down
			go func() {
				left[0].Answer, left[0].Err = p.Exchange(t.Context(), left[0].Question)
				e.receive(left)
			}()
		}
	}
	e.wait(t, questions)
	for _, got := range e.all {
		if got[0].Err != nil || !got[0].Answer.Authenticated {
			t.Fatalf("a question ended with authenticated %v, error %v, want the answer of the second upstream", got[0].Answer.Authenticated, got[0].Err)
		}
	}
	if p.members[1].isDown() {
		t.Error("the second upstream is down")
	}
}

// TestLateAnswerAfterHedgeKeepsUpstreamUp checks that an upstream whose answer arrives after that of a hedge, and before its patience ends, stays healthy.
func TestLateAnswerAfterHedgeKeepsUpstreamUp(t *testing.T) {
	late := make(chan bool, 1)
	slow := newRawUpstream(t, func(u *rawUpstream, query []byte, from netip.AddrPort) {
		select {
		case <-late:
			time.Sleep(minPatience * 2 / 3)
		default:
		}
		u.reply(query, from)
	})
	p := learningPool(t, slow, newRawUpstream(t, answering))
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(4*time.Second, e.receive)
	all := pendings(t, 3*hedgeSamples)
	for i, q := range all {
		if i == len(all)-1 {
			late <- true
		}
		s.Send([]*Pending{q})
		e.wait(t, i+1)
	}
	time.Sleep(4 * minPatience)
	if p.members[0].isDown() {
		t.Errorf("the slow upstream is down: %+v", p.Stats().Upstreams[0])
	}
}

// TestDuplicateAnswersAreNoFlood checks that questions are answered over UDP if every datagram arrives twice.
func TestDuplicateAnswersAreNoFlood(t *testing.T) {
	const questions = 1000
	p := learningPool(t, newRawUpstream(t, func(u *rawUpstream, query []byte, from netip.AddrPort) {
		u.reply(query, from)
		u.reply(query, from)
	}))
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(4*time.Second, e.receive)
	for i, q := range pendings(t, questions) {
		s.Send([]*Pending{q})
		e.wait(t, i+1)
		if q.Err != nil {
			t.Fatalf("question %d: %v", i, q.Err)
		}
	}
}

// TestWrongGuessesEndTheUseOfAPort checks that a forger has few guesses, also if answers are owed and if the port takes no more questions.
func TestWrongGuessesEndTheUseOfAPort(t *testing.T) {
	var asked []byte
	var from netip.AddrPort
	arrived := make(chan bool, 1)
	u := newRawUpstream(t, func(_ *rawUpstream, query []byte, sender netip.AddrPort) {
		asked, from = query, sender
		arrived <- true
	})
	for name, prepare := range map[string]func(*port){
		"a new port":              func(*port) {},
		"many unanswered before":  func(p *port) { p.owed, p.owedEnd = maxOwed, time.Now().Add(time.Minute) },
		"a port that is replaced": func(p *port) { p.closing = true },
	} {
		p := newPool(t, nil, "udp://"+u.addr.String())
		e := &ended{all: map[string][]*Pending{}}
		s := p.NewSender(time.Minute, e.receive)
		s.Send(pendings(t, 1))
		<-arrived
		port := s.line.open[0].(*port)
		port.mu.Lock()
		prepare(port)
		port.mu.Unlock()
		open := func() bool {
			port.mu.Lock()
			defer port.mu.Unlock()
			return port.count > 0
		}
		guesses := 0
		for id := wire.ID(asked) + 1; open() && guesses < 1000; id++ {
			guess := append([]byte(nil), asked...)
			guess[0], guess[1] = byte(id>>8), byte(id)
			u.reply(guess, from)
			guesses++
			time.Sleep(200 * time.Microsecond)
		}
		if most := transport.MaxForeign + maxOwed + 100; guesses > most { // some on their way
			t.Errorf("%s: %d wrong guesses before the question left UDP, want at most %d", name, guesses, most)
		}
	}
}

// TestUnsentQuestionsAreLeft checks that questions which a port cannot send are left to Exchange, and that the next ones get another port.
func TestUnsentQuestionsAreLeft(t *testing.T) {
	u := newRawUpstream(t, answering)
	p := newPool(t, nil, "udp://"+u.addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(4*time.Second, e.receive)
	all := pendings(t, 200)
	s.Send(all[:1])
	e.wait(t, 1)
	s.line.open[0].(*port).conn.Close()
	ended, left := 1, 0
	for _, q := range all[1:] {
		if len(s.Send([]*Pending{q})) > 0 {
			left++
			continue
		}
		ended++
		e.wait(t, ended)
	}
	if left > 1 {
		t.Errorf("%d questions were left, want at most the one over the closed port", left)
	}
	dnstest.Eventually(t, "no question waits", func() bool { return p.Stats().InFlight == 0 })
}

// TestLargeDatagramIsAccepted checks an answer that is longer than the size we advertise, from an upstream without TCP.
func TestLargeDatagramIsAccepted(t *testing.T) {
	u := newRawUpstream(t, func(u *rawUpstream, query []byte, from netip.AddrPort) {
		end := questionEnd(query)
		out := append([]byte(nil), query[:end]...)
		out[2] |= 0x80
		const records = 100
		for range records {
			out = append(out, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02\x01"...)
		}
		out[7] = records
		out = append(out, query[end:]...)
		_, _ = u.conn.WriteToUDPAddrPort(out, from)
	})
	p := newPool(t, nil, "udp://"+u.addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(4*time.Second, e.receive)
	all := pendings(t, 1)
	s.Send(all)
	e.wait(t, 1)
	if all[0].Err != nil || len(all[0].Answer.Packed) < 1600 {
		t.Errorf("got %d bytes, error %v, want the whole answer", len(all[0].Answer.Packed), all[0].Err)
	}
}

// TestSenderClose checks that Close ends the questions on their way and the sockets.
func TestSenderClose(t *testing.T) {
	p := newPool(t, nil, "udp://"+newRawUpstream(t, silentUpstream).addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(time.Minute, e.receive)
	all := pendings(t, 10)
	s.Send(all)
	conn := s.line.open[0].(*port).conn
	s.Close()
	e.wait(t, len(all))
	for _, q := range all {
		if q.Err == nil {
			t.Fatal("a question ended without an error")
		}
	}
	if _, err := conn.Write([]byte{0}); err == nil {
		t.Errorf("the socket is open: got %v, want %v", err, net.ErrClosed)
	}
}
