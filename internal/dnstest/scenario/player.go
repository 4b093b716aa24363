package scenario

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// patience is the virtual time that a step waits for an answer or a query.
const patience = 10 * time.Second

// Query is the query of a client.
type Query struct {
	Packed []byte
	Client netip.Addr
	TCP    bool
}

// Server is the server under test.
type Server interface {
	// Answer returns the packed answer to a query, or nil if the server drops the query. It may block, and is called concurrently.
	Answer(q Query) []byte
	// Change applies the settings of a CHANGE step.
	Change(settings []Setting) error
	// Close ends every goroutine that the server started. Running calls of Answer return soon after.
	Close()
}

// Dial connects a server to an upstream, over "udp" or "tcp". Over "udp" one Write sends one datagram.
type Dial = func(ctx context.Context, transport, address string) (net.Conn, error)

// Start starts a server with the settings at the beginning of a file. The server must use dial to open each connection to an upstream.
type Start func(settings []Setting, dial Dial) (Server, error)

// Play plays the scenario under virtual time. The first difference fails the test.
func Play(t *testing.T, s *Scenario, start Start) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if err := run(s, start); err != nil {
			t.Error(err)
		}
	})
}

// run plays the scenario, and returns the first difference. Its caller must run in a synctest bubble.
func run(s *Scenario, start Start) error {
	p := &player{scenario: s, news: make(chan struct{}, 1), silenced: map[string]bool{}}
	p.network = newNetwork(p.received)
	defer p.network.close()
	server, err := start(s.Settings, p.network.dial)
	if err != nil {
		return err
	}
	p.server = server
	defer server.Close()
	defer p.clients.Wait()
	for i := range s.steps {
		st := &s.steps[i]
		p.mu.Lock()
		p.step = st.number
		p.mu.Unlock()
		err := p.play(st)
		synctest.Wait()
		if err == nil {
			err = p.failure()
		}
		if err != nil {
			return fmt.Errorf("%s: STEP %d %s: %w", st.position, st.number, st.kind, err)
		}
	}
	return p.leftovers()
}

// player plays one scenario.
type player struct {
	scenario *Scenario
	server   Server
	network  *network
	clients  sync.WaitGroup
	asked    []*clientQuery // in order
	checked  int            // how many of asked were checked
	counted  int            // how many of out OUT_QUERIES steps have counted
	passed   int            // how many of out CHECK_OUT_QUERY steps have matched or skipped

	news chan struct{} // capacity 1: out has changed

	mu       sync.Mutex // guards the fields below
	step     int
	out      []*upstreamQuery
	silenced map[string]bool
	err      error // the first error that no step returned
}

// clientQuery is one query of a client.
type clientQuery struct {
	position string
	packed   []byte
	tcp      bool
	sent     time.Time
	done     chan struct{} // closed when answer is set
	answer   []byte
	took     time.Duration
}

func (a *clientQuery) transport() string {
	if a.tcp {
		return "tcp"
	}
	return "udp"
}

func (p *player) play(st *step) error {
	switch st.kind {
	case stepQuery:
		return p.ask(st)
	case stepCheckAnswer, stepCheckNoAnswer:
		return p.checkAnswer(st)
	case stepCheckOutQuery:
		return p.await("no query to an upstream matches", func() bool { return p.skipTo(st) })
	case stepOutQueries:
		return p.count(st.count)
	case stepReply:
		return p.await("no query to an upstream waits for an answer", func() bool { return p.reply(st) })
	case stepTimeout:
		return p.await("no query to an upstream waits for an answer", p.silence)
	case stepTimePasses:
		time.Sleep(st.elapse)
	case stepChange:
		return p.server.Change(st.settings)
	}
	return nil
}

// ask sends a query of a client.
func (p *player) ask(st *step) error {
	packed, err := st.entry.packets[0].query(uint16(0x1000 + len(p.asked)))
	if err != nil {
		return err
	}
	a := &clientQuery{position: st.position, packed: packed, tcp: st.entry.match["TCP"], sent: time.Now(), done: make(chan struct{})}
	p.asked = append(p.asked, a)
	client := st.address
	if !client.IsValid() {
		client = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	p.clients.Go(func() {
		defer close(a.done)
		a.answer = p.server.Answer(Query{Packed: packed, Client: client, TCP: a.tcp})
		a.took = time.Since(a.sent)
	})
	return nil
}

// checkAnswer compares the answer to the oldest query that was not checked.
func (p *player) checkAnswer(st *step) error {
	if p.checked == len(p.asked) {
		return fmt.Errorf("every query was checked already")
	}
	a := p.asked[p.checked]
	p.checked++
	select {
	case <-a.done:
	case <-time.After(patience):
		return fmt.Errorf("no answer within %v; %s", patience, p.unanswered())
	}
	switch {
	case st.kind == stepCheckNoAnswer && a.answer != nil:
		return fmt.Errorf("it is answered: %s", hex.EncodeToString(a.answer))
	case st.kind == stepCheckNoAnswer:
		return nil
	case a.answer == nil:
		return fmt.Errorf("the query is dropped")
	}
	m := new(dns.Msg)
	if err := m.Unpack(a.answer); err != nil {
		return fmt.Errorf("the answer cannot be read: %w: %s", err, hex.EncodeToString(a.answer))
	}
	err := checkAnswer(m, a.answer, a.packed, a.transport())
	if err == nil {
		err = st.entry.compare(m, a.transport())
	}
	if err == nil && st.entry.match["within"] && a.took > st.entry.within {
		err = fmt.Errorf("answered after %v", a.took)
	}
	if err != nil {
		return fmt.Errorf("%w\nthe answer:\n%s%s", err, m, p.unanswered())
	}
	return nil
}

// await calls found again after each query to an upstream, until found returns true.
func (p *player) await(failure string, found func() bool) error {
	end := time.NewTimer(patience)
	defer end.Stop()
	for !found() {
		select {
		case <-p.news:
		case <-end.C:
			return fmt.Errorf("%s; %s", failure, p.unanswered())
		}
	}
	return nil
}

// leftovers returns an error if no step checked a query, or if a query to an upstream still waits for an answer.
func (p *player) leftovers() error {
	if p.checked < len(p.asked) {
		return fmt.Errorf("%s: no step checks the answer to this query", p.asked[p.checked].position)
	}
	if text := p.unanswered(); text != "" {
		return fmt.Errorf("%s: %s", p.scenario.Title, text)
	}
	return p.failure()
}
