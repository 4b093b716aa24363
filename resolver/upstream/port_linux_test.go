package upstream

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

// rawUpstream passes each query and its sender to handle, in one goroutine. handle may answer by reply, at once or later.
type rawUpstream struct {
	conn *net.UDPConn
	addr netip.AddrPort
	done chan struct{} // closed when it has ended
}

// stop ends the upstream. After that its goroutine changes nothing any more.
func (u *rawUpstream) stop() {
	u.conn.Close()
	<-u.done
}

func newRawUpstream(t testing.TB, handle func(u *rawUpstream, query []byte, from netip.AddrPort)) *rawUpstream {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadBuffer(4 << 20)
	u := &rawUpstream{conn, conn.LocalAddr().(*net.UDPAddr).AddrPort(), make(chan struct{})}
	t.Cleanup(u.stop)
	go func() {
		defer close(u.done)
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			handle(u, slices.Clone(buf[:n]), from)
		}
	}()
	return u
}

// questionEnd returns the offset after the question of a query.
func questionEnd(query []byte) int { return wire.HeaderLen + wire.NameLen(query[wire.HeaderLen:]) + 4 }

// reply answers a query with one address.
func (u *rawUpstream) reply(query []byte, to netip.AddrPort) {
	end := questionEnd(query)
	out := append(slices.Clone(query[:end]), "\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02\x01"...)
	out = append(out, query[end:]...)
	out[2] |= 0x80
	binary.BigEndian.PutUint16(out[6:], 1)
	_, _ = u.conn.WriteToUDPAddrPort(out, to)
}

// ended collects questions that a Sender passes on.
type ended struct {
	mu  sync.Mutex
	all map[string][]*Pending // by the name that was asked
	n   int
}

func (e *ended) receive(all []*Pending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, q := range all {
		q.Answer.Packed = slices.Clone(q.Answer.Packed)
		e.all[string(q.Name)] = append(e.all[string(q.Name)], q)
		e.n++
	}
}

func (e *ended) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n
}

func pendings(t testing.TB, n int) (all []*Pending) {
	t.Helper()
	for i := range n {
		all = append(all, &Pending{Question: question(t, fmt.Sprintf("n%d.example", i))})
	}
	return all
}

// wait waits until n questions have ended.
func (e *ended) wait(t testing.TB, n int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); e.count() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d questions have ended", e.count(), n)
		}
	}
}

// TestSenderAnswersBelongToTheirQuestions checks that answers in another order, and repeated ones, end each question once and with its own answer.
func TestSenderAnswersBelongToTheirQuestions(t *testing.T) {
	const questions, held = 5000, 40
	var waiting [][]byte
	var from []netip.AddrPort
	u := newRawUpstream(t, func(u *rawUpstream, query []byte, sender netip.AddrPort) {
		waiting, from = append(waiting, query), append(from, sender)
		if len(waiting) < held {
			return
		}
		for i := range slices.Backward(waiting) {
			u.reply(waiting[i], from[i])
			if i%10 == 0 {
				u.reply(waiting[i], from[i])
			}
		}
		waiting, from = nil, nil
	})
	p := newPool(t, nil, "udp://"+u.addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(defaultTimeout, e.receive)
	all := pendings(t, questions)
	for i := 0; i < questions; i += held {
		if left := s.Send(slices.Clone(all[i : i+held])); len(left) > 0 {
			t.Fatalf("%d questions were not sent", len(left))
		}
		e.wait(t, i+held) // so that no datagram is lost
	}
	for _, q := range all {
		got := e.all[string(q.Name)]
		if len(got) != 1 || got[0].Err != nil {
			t.Fatalf("%s ended %d times, want once without error", wire.Text(q.Name), len(got))
		}
		if a := got[0].Answer.Packed; string(a[wire.HeaderLen:wire.HeaderLen+len(q.Name)]) != string(q.Name) {
			t.Errorf("the answer to %s is for %q", wire.Text(q.Name), a)
		}
	}
	if n := p.Stats().InFlight; n != 0 {
		t.Errorf("%d questions in flight at the end, want none", n)
	}
}

// TestSenderIDsAreRandomAndUnique checks the IDs, ports and cases of questions that are on their way at the same time.
func TestSenderIDsAreRandomAndUnique(t *testing.T) {
	const questions = 3000
	type key struct {
		port uint16
		id   uint16
	}
	seen, cases := map[key]int{}, map[bool]int{}
	ports := map[uint16]bool{}
	high := 0
	arrived := make(chan bool, questions)
	u := newRawUpstream(t, func(_ *rawUpstream, query []byte, from netip.AddrPort) {
		seen[key{from.Port(), wire.ID(query)}]++
		ports[from.Port()] = true
		high += int(wire.ID(query) >> 15)
		cases[query[wire.HeaderLen+1] == 'N']++
		arrived <- true
	})
	p := newPool(t, nil, "udp://"+u.addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(time.Second, e.receive)
	for _, q := range pendings(t, questions) {
		if left := s.Send([]*Pending{q}); len(left) > 0 {
			t.Fatal("the question was not sent")
		}
	}
	for range questions {
		<-arrived
	}
	u.stop()
	for k, n := range seen {
		if n > 1 {
			t.Errorf("port %d and ID %d were used for %d questions at the same time", k.port, k.id, n)
		}
	}
	if len(ports) != portsPerUpstream {
		t.Errorf("%d ports were used, want %d", len(ports), portsPerUpstream)
	}
	for what, n := range map[string]int{"the highest bit of the ID": high, "the case of a letter": cases[true]} {
		if n < questions*2/5 || n > questions*3/5 {
			t.Errorf("%s is set in %d of %d questions, want about half", what, n, questions)
		}
	}
	e.wait(t, questions) // unanswered
	for name, got := range e.all {
		if len(got) != 1 || got[0].Err == nil {
			t.Fatalf("%q ended %d times, want once with an error", name, len(got))
		}
	}
}

// TestPortsAreReplaced checks that a port is not used for more than its number of questions.
func TestPortsAreReplaced(t *testing.T) {
	const questions, most = 1000, 20
	used := map[uint16]int{}
	u := newRawUpstream(t, func(u *rawUpstream, query []byte, from netip.AddrPort) {
		used[from.Port()]++
		u.reply(query, from)
	})
	p := newPool(t, nil, "udp://"+u.addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(defaultTimeout, e.receive)
	s.line = newLine(p, defaultTimeout, e.receive)
	s.line.most = most
	for i, q := range pendings(t, questions) {
		s.Send([]*Pending{q})
		e.wait(t, i+1)
	}
	u.stop()
	if len(used) < questions/most {
		t.Errorf("%d ports for %d questions, want at least %d", len(used), questions, questions/most)
	}
	for port, n := range used {
		if n > most+maxDatagrams {
			t.Errorf("%d questions over port %d, want at most %d", n, port, most)
		}
	}
}

// TestQuestionsWithoutRaceEnd checks that questions which no race can continue end at their time, while the upstream never answers.
func TestQuestionsWithoutRaceEnd(t *testing.T) {
	const questions = 300
	u := newRawUpstream(t, func(*rawUpstream, []byte, netip.AddrPort) {})
	p := newPool(t, nil, "udp://"+u.addr.String())
	p.maxInFlight = 10
	for _, m := range p.members {
		m.health.fixed = 50 * time.Millisecond
	}
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(time.Second, e.receive)
	began := time.Now()
	if left := s.Send(pendings(t, questions)); len(left) > 0 {
		t.Fatalf("%d questions were not sent", len(left))
	}
	e.wait(t, questions)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the questions ended after %v, want one second", took)
	}
	dnstest.Eventually(t, "the counters are right", func() bool { // attempts may outlive their races by a moment
		st := p.Stats()
		return st.InFlight == 0 && st.Unanswered == questions && st.Upstreams[0].InFlight == 0
	})
}

// TestRoundTripsOfSender checks that each answer to a Sender has a round-trip time of its own, although answers arrive in batches.
func TestRoundTripsOfSender(t *testing.T) {
	const questions, delayed, delay = 100, 10, 20 * time.Millisecond
	n := 0
	u := newRawUpstream(t, func(u *rawUpstream, query []byte, from netip.AddrPort) {
		if n++; n > questions-delayed {
			time.Sleep(delay)
		}
		u.reply(query, from)
	})
	p := newPool(t, nil, "udp://"+u.addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(defaultTimeout, e.receive)
	all := pendings(t, questions)
	for i, q := range all {
		if left := s.Send([]*Pending{q}); len(left) > 0 {
			t.Fatal("the question was not sent")
		}
		e.wait(t, i+1)
	}
	for _, got := range e.all {
		if got[0].Err != nil {
			t.Fatal(got[0].Err)
		}
	}
	st := p.Stats().Upstreams[0]
	if st.Answers != questions || st.P50 <= 0 || st.P95 < delay || st.P99 < st.P95 || st.AnswerTime < delayed*delay {
		t.Errorf("%+v; want %d answers, of which %d took at least %v", st, questions, delayed, delay)
	}
}
