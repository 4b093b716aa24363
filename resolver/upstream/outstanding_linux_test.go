package upstream

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

// heldQueries are the queries that an upstream received and has not answered.
type heldQueries struct {
	mu      sync.Mutex
	queries [][]byte
	from    []netip.AddrPort
}

// hold holds a query. It is a function for newRawUpstream.
func (h *heldQueries) hold(_ *rawUpstream, query []byte, from netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queries, h.from = append(h.queries, query), append(h.from, from)
}

func (h *heldQueries) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.queries)
}

// wait waits until n queries are held.
func (h *heldQueries) wait(t testing.TB, n int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); h.count() < n; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d queries arrived", h.count(), n)
		}
	}
}

// take returns the held queries, which are not held any more.
func (h *heldQueries) take() (queries [][]byte, from []netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	queries, from, h.queries, h.from = h.queries, h.from, nil, nil
	return queries, from
}

// senderOf returns a Sender whose line is known before the first question.
func senderOf(p *Pool, e *ended) *Sender {
	s := p.NewSender(defaultTimeout, e.receive)
	s.line = newLine(p, defaultTimeout, e.receive)
	return s
}

// ownAnswer returns an error if a question did not end once, with the answer to its own name.
func (e *ended) ownAnswer(q *Pending) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	name := string(q.Name)
	switch all := e.all[name]; {
	case len(all) != 1:
		return fmt.Errorf("%s ended %d times, want once", wire.Text(q.Name), len(all))
	case q.Err != nil:
		return fmt.Errorf("%s: %w", wire.Text(q.Name), q.Err)
	case string(q.Answer.Packed[wire.HeaderLen:][:len(name)]) != name:
		return fmt.Errorf("%s got the answer %q", wire.Text(q.Name), q.Answer.Packed)
	}
	return nil
}

// TestPortIsReplacedAfterItsLife checks that a port is replaced by one with another local port number after its life, and that a question that was sent over the
// old port is still answered.
func TestPortIsReplacedAfterItsLife(t *testing.T) {
	var held heldQueries
	var mu sync.Mutex
	used := map[uint16]int{}
	u := newRawUpstream(t, func(u *rawUpstream, query []byte, from netip.AddrPort) {
		mu.Lock()
		used[from.Port()]++
		first := len(used) == 1 && used[from.Port()] == 1
		mu.Unlock()
		if first {
			held.hold(u, query, from)
			return
		}
		u.reply(query, from)
	})
	p := newPoolOf(t, Config{patience: time.Minute, plainAfter: time.Minute}, "udp://"+u.addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(time.Minute, e.receive)
	s.line = newLine(p, time.Minute, e.receive)
	s.line.life = 100 * time.Millisecond
	all := pendings(t, 10_000)
	first := all[0]
	s.Send([]*Pending{first})
	held.wait(t, 1)
	queries, from := held.take()
	old := from[0].Port()

	answered := 0
	ask := func() {
		answered++
		s.Send([]*Pending{all[answered]})
		e.wait(t, answered)
	}
	replaced := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(s.line.ports[0]) == portsPerUpstream && !slices.ContainsFunc(s.line.ports[0], func(o *port) bool { return o == first.over.(*port) })
	}
	for end := time.Now().Add(30 * time.Second); !replaced(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the port is still in use after %v and %d questions", time.Since(first.sent), answered)
		}
		ask()
	}
	mu.Lock()
	before := used[old]
	mu.Unlock()
	for range 100 {
		ask()
	}
	mu.Lock()
	if used[old] != before {
		t.Errorf("port number %d was used again after the port was replaced", old)
	}
	if len(used) <= portsPerUpstream {
		t.Errorf("%d port numbers were used, want more than %d", len(used), portsPerUpstream)
	}
	mu.Unlock()
	u.reply(queries[0], from[0])
	e.wait(t, answered+1)
	if err := e.ownAnswer(first); err != nil {
		t.Error(err)
	}
}

// TestOutstandingQuestionsOfOnePortHaveDifferentIDs sends 20,000 questions over one port before the first answer. Each question has an ID of its own, and gets
// its own answer.
func TestOutstandingQuestionsOfOnePortHaveDifferentIDs(t *testing.T) {
	const questions, together = portQuestions, 50
	var held heldQueries
	u := newRawUpstream(t, held.hold)
	p := newPoolOf(t, Config{patience: time.Minute, plainAfter: time.Minute}, "udp://"+u.addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := p.NewSender(time.Minute, e.receive)
	s.line = newLine(p, time.Minute, e.receive)
	s.line.life = time.Hour
	one, err := s.line.openPort(p.members[0])
	if err != nil {
		t.Fatal(err)
	}
	s.line.ports[0] = slices.Repeat([]*port{one}, portsPerUpstream)
	all := pendings(t, questions)
	for i := 0; i < questions; i += together {
		if left := s.Send(slices.Clone(all[i : i+together])); len(left) > 0 {
			t.Fatalf("%d questions were not sent", len(left))
		}
		held.wait(t, i+together) // so that no datagram is lost
	}
	queries, from := held.take()
	ids := map[uint16]bool{}
	for _, q := range queries {
		ids[wire.ID(q)] = true
	}
	if len(ids) != questions {
		t.Errorf("%d questions on their way have %d different IDs", questions, len(ids))
	}
	for i := range slices.Backward(queries) {
		u.reply(queries[i], from[i])
		if i%together == 0 {
			e.wait(t, questions-i)
		}
	}
	for _, q := range all {
		if err := e.ownAnswer(q); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLateAnswerDoesNotEndQuestionWithSameID sends questions that are given up, and then questions for other names with the same IDs over the same ports. The late
// answers to the first questions end none of the others.
func TestLateAnswerDoesNotEndQuestionWithSameID(t *testing.T) {
	const questions = 15
	var held heldQueries
	u := newRawUpstream(t, held.hold)
	p := newPoolOf(t, Config{patience: time.Minute, plainAfter: time.Minute}, "udp://"+u.addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := senderOf(p, e)
	one, err := s.line.openPort(p.members[0])
	if err != nil {
		t.Fatal(err)
	}
	s.line.ports[0] = slices.Repeat([]*port{one}, portsPerUpstream)
	send := func(batch []*Pending) (queries [][]byte, from []netip.AddrPort) {
		s.line.random.Seed([32]byte{1}) // the same IDs each time
		if left := s.Send(slices.Clone(batch)); len(left) > 0 {
			t.Fatalf("%d questions were not sent", len(left))
		}
		held.wait(t, len(batch))
		return held.take()
	}
	all := pendings(t, 2*questions+10)[10:] // names of equal length, so that the random numbers are used alike
	gone, live := all[:questions], all[questions:2*questions]
	late, from := send(gone)
	p.maxInFlight = 0 // no race continues the questions
	s.line.expire(time.Now().Add(time.Hour))
	e.wait(t, questions)
	queries, _ := send(live)
	for i := range queries {
		if wire.ID(queries[i]) != wire.ID(late[i]) {
			t.Fatalf("question %d has another ID than the one before: this test checks nothing", i)
		}
	}
	for i := range late {
		u.reply(late[i], from[i])
	}
	dnstest.Eventually(t, "the late answers arrive", func() bool { return p.Stats().Upstreams[0].Foreign == questions })
	if n := e.count(); n != questions {
		t.Errorf("late answers ended %d questions", n-questions)
	}
	for i := range queries {
		u.reply(queries[i], from[i])
	}
	e.wait(t, 2*questions)
	for _, q := range live {
		if err := e.ownAnswer(q); err != nil {
			t.Error(err)
		}
	}
}
