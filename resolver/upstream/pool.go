package upstream

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

var (
	ErrUnreachable = errors.New("no upstream answered")
	ErrLoop        = errors.New("every upstream forwards back to this server")
	ErrBusy        = errors.New("too many questions in flight upstream")
	ErrShortage    = errors.New("this machine lacks what it needs to ask an upstream")
)

const (
	// MaxInFlight is how many exchanges a pool performs at a time by default; the next one fails with ErrBusy.
	MaxInFlight = 4096

	defaultTimeout = 5 * time.Second
	maxEndpoints   = 64
	maxIdentity    = 255 // maximum length of a TXT string, in bytes
)

// Config configures a Pool.
type Config struct {
	Endpoints []transport.Endpoint // in order of preference, at least one
	Identity  string               // a random text of this process: an upstream that returns it is this process; "" disables this check
	RootCAs   *x509.CertPool       // for encrypted protocols; nil: the system's
	Strategy  Strategy             // chooses among healthy upstreams
	Timeout   time.Duration        // of a whole exchange whose context has no earlier deadline; 0: 5 s
	Log       *slog.Logger         // nil: nothing is logged

	// MaxInFlight is the maximum of exchanges at a time; 0: the constant MaxInFlight. Over UDP each exchange has a socket, and every fourth a second one.
	MaxInFlight int

	// Dial opens every connection to an upstream except those of QUIC. The network is "udp" or "tcp"; TLS and HTTPS use "tcp". Over "udp" one Write sends one
	// datagram, and one Read receives one. nil: sockets of this machine.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	open func(transport.Endpoint) exchanger // for tests without sockets; nil: transport.New

	// Fixed waiting times for tests with sockets, so that an upstream on a slow machine is not taken for a dead one or for one without EDNS; 0: as learned.
	patience, plainAfter time.Duration
}

// Question is a question to an upstream. Callers of Exchange and Sender need not import package transport for it.
type Question = transport.Question

// exchanger sends one question to one upstream and returns its answer, final or not. It is
// called concurrently, and returns soon after ctx ends.
type exchanger interface {
	Exchange(ctx context.Context, q *transport.Request) (transport.Reply, error)
	Retire() // called when the upstream no longer answers: open connections and sockets are not used for new questions
}

// Answer is the result of an exchange.
type Answer struct {
	// Packed is the whole message as received, except that the question is in canonical lower case, and that bytes after the last record are cut off. The caller
	// owns it. Its rcode may be an error on which every upstream agreed. Its records have valid lengths, and are not checked further. If an error arrived without
	// its question, Packed contains the question nevertheless.
	Packed []byte
	// Authenticated is set if the answer arrived over an encrypted protocol or from a loopback address, so that nobody changed its AD bit in transit. It is not
	// set if DNSSEC records were wanted from an upstream without EDNS, which cannot be asked for them.
	Authenticated bool
}

// Pool exchanges questions with a fixed list of upstreams. All its methods may be called concurrently. Without Run it works, but an upstream that went down
// stays out of use until it happens to answer again, and no loop is detected.
type Pool struct {
	members  []*member
	strategy Strategy
	identity string
	timeout  time.Duration
	log      *slog.Logger
	group    *group
	budget   budget

	maxInFlight int64
	// maxRepeats is the number of running repetitions above which the budget limits further ones: each attempt has a socket of its own, and a client may
	// ask for many names that no resolver can answer.
	maxRepeats int64

	inFlight   atomic.Int64
	waiting    atomic.Int64 // questions of Senders that no race continues
	repeats    atomic.Int64 // running attempts that are not the first of their question
	shed       atomic.Uint64
	denied     atomic.Uint64
	unanswered atomic.Uint64
	shortage   shortage

	mu      sync.Mutex
	probes  map[string]sighting // loop probes sent, by canonical name
	restart chan struct{}       // closed at the end of the restart that questions wait for; nil: none does
}

// member is one upstream of a pool.
type member struct {
	endpoint transport.Endpoint
	name     string // the endpoint as text
	via      exchanger
	batched  bool // it is asked over UDP sockets of this machine, or over TCP or TLS, so that Senders may send to it
	trusted  bool // the AD bits of its answers cannot be changed in transit
	health   health
	looping  atomic.Bool
	returns  int           // probes in a row that arrived here without an answer; used by the goroutine that checks for loops
	credit   bucket        // earned by its answers: pays for questions sent to it again
	changed  chan struct{} // capacity 1: it was down, and is up again
	nudge    chan struct{} // capacity 1: probe it at once while it is down
	counters counters
}

// isDown reports whether the upstream is taken to be down now.
func (m *member) isDown() bool {
	return m.health.state().down
}

// New makes a pool. It opens no connection yet.
func New(c Config) (*Pool, error) {
	if len(c.Endpoints) == 0 || len(c.Endpoints) > maxEndpoints {
		return nil, fmt.Errorf("upstream: %d upstreams are configured, 1 to %d are possible", len(c.Endpoints), maxEndpoints)
	}
	if len(c.Identity) > maxIdentity {
		return nil, fmt.Errorf("upstream: the identity is longer than %d bytes", maxIdentity)
	}
	if c.Timeout < 0 {
		return nil, fmt.Errorf("upstream: the timeout %v is negative", c.Timeout)
	}
	p := &Pool{strategy: c.Strategy, identity: c.Identity, timeout: c.Timeout, log: quiet(c.Log), group: newGroup(), probes: map[string]sighting{}}
	p.maxInFlight = int64(cmp.Or(max(0, c.MaxInFlight), MaxInFlight))
	p.maxRepeats = p.maxInFlight / 4
	if p.timeout == 0 {
		p.timeout = defaultTimeout
	}
	for _, e := range c.Endpoints {
		if e.NeedsLookup() {
			return nil, fmt.Errorf("upstream: endpoint %v has no address", e)
		}
		if slices.ContainsFunc(p.members, func(m *member) bool { return m.endpoint == e }) {
			continue // the same endpoint twice is one upstream
		}
		m := &member{endpoint: e, name: e.String(), trusted: e.Protocol.Encrypted() || e.Addr.Addr().IsLoopback()}
		m.health.fixed, m.health.changed = c.patience, time.Now()
		m.credit.add(firstCredit*perToken, maxCredit)
		m.changed = make(chan struct{}, 1)
		m.health.wake, m.nudge = make(chan struct{}, 1), make(chan struct{}, 1)
		if c.open != nil {
			m.via = c.open(e)
		} else {
			m.batched = e.Protocol == transport.UDP && c.Dial == nil || e.Protocol == transport.TCP || e.Protocol == transport.TLS
			m.via = transport.New(transport.Config{
				Endpoint: e, RootCAs: c.RootCAs, Dial: c.Dial, Context: p.group.ctx, Start: p.group.start,
				Spend: func(free bool) bool { return p.spend(m, free) }, Foreign: &m.counters.foreign, PlainAfter: c.plainAfter,
			})
		}
		p.members = append(p.members, m)
	}
	return p, nil
}

// Exchange sends q to the healthy upstream that the strategy chooses, and to others if that one fails or is slow. It returns the first answer that settles the
// question. If all upstreams answer SERVFAIL, REFUSED or the like, Exchange returns such an answer. The errors are ErrUnreachable (no useful answer in time),
// ErrLoop, ErrBusy, ErrShortage (this machine lacks descriptors, memory or ports), and context.Canceled when ctx was cancelled.
func (p *Pool) Exchange(ctx context.Context, q Question) (Answer, error) {
	if n := wire.NameLen(q.Name); n == 0 || n != len(q.Name) {
		return Answer{}, fmt.Errorf("upstream: %w", wire.ErrName)
	}
	if !p.reserve() {
		return Answer{}, ErrBusy
	}
	defer p.inFlight.Add(-1)
	lanes := p.order()
	if len(lanes) == 0 {
		return Answer{}, ErrLoop
	}
	p.budget.earn(1)
	a, err := p.settle(ctx, q, lanes, nil)
	if err != nil {
		p.unanswered.Add(1)
	}
	return a, err
}

// reserve reports whether there is room for another race, and takes it.
func (p *Pool) reserve() bool {
	if p.inFlight.Add(1) <= p.maxInFlight {
		return true
	}
	p.inFlight.Add(-1)
	p.shed.Add(1)
	return false
}

// order returns the upstreams to ask: the healthy ones in the order of the strategy, then those that are down, the one with the newest good answer first. Those
// that forward back to this process are never asked.
func (p *Pool) order() []lane {
	lanes := make([]lane, 0, len(p.members))
	var outs []lane
	for _, m := range p.members {
		if m.looping.Load() {
			continue
		}
		state := m.health.state()
		if l := (lane{member: m, good: state.good, mean: state.mean}); state.down {
			outs = append(outs, l)
		} else {
			lanes = append(lanes, l)
		}
	}
	p.arrange(lanes)
	slices.SortStableFunc(outs, func(a, b lane) int { return b.good.Compare(a.good) })
	return append(lanes, outs...)
}

// spend reports whether a question may be sent to m again, and notes that it is sent. Unless free is set, this takes a token.
func (p *Pool) spend(m *member, free bool) bool {
	if !free && !p.budget.take(0) {
		p.denied.Add(1)
		return false
	}
	m.counters.retries.Add(1)
	return true
}

// ask makes one attempt at m, and notes the result in m's health.
func (p *Pool) ask(ctx context.Context, m *member, q *transport.Request, sent time.Time) (transport.Reply, error) {
	m.counters.queries.Add(1)
	m.counters.inFlight.Add(1)
	defer m.counters.inFlight.Add(-1)
	r, err := m.via.Exchange(ctx, q)
	elapsed := time.Since(sent)
	switch {
	case err == nil:
		m.credit.add(perAnswer, maxCredit)
		if !r.Final() {
			m.counters.failures[transport.Rcode].Add(1)
		}
		if m.health.answered(elapsed, meritOf(&r, q.Type)) {
			m.via.Retire()
		}
	case ctx.Err() != nil:
		// Given up: the time is over, or another upstream was faster.
		m.health.outlasted(elapsed)
		if elapsed >= m.health.silence() && !m.health.state().heard.After(sent) || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			m.counters.failures[transport.Timeout].Add(1)
			p.silent(m, sent)
		}
	case errors.Is(err, net.ErrClosed) && p.group.ctx.Err() != nil:
		// The pool is ending.
	default:
		kind := transport.KindOf(err)
		m.counters.failures[kind].Add(1)
		p.failed(m, kind, sent, err)
	}
	return r, err
}

// meritOf returns what r, an answer to a question for records of type typ, shows about its upstream. Many home routers refuse all but a few types, and are
// healthy nevertheless.
func meritOf(r *transport.Reply, typ uint16) merit {
	switch {
	case r.Final():
		return useful
	case r.Declines() && typ != wire.TypeA && typ != wire.TypeAAAA:
		return neutral
	}
	return useless
}

// failed notes a failed attempt in m's health.
func (p *Pool) failed(m *member, kind transport.Failure, sent time.Time, err error) {
	fell := false
	switch {
	case kind == transport.Overload:
	case kind == transport.Local:
		p.shortage.note(p.log, err)
	case kind == transport.Timeout:
		p.silent(m, sent)
	case kind == transport.Malformed || errors.Is(err, transport.ErrDied):
		fell = m.health.spoiled()
	default:
		fell = m.health.failed(sent)
	}
	if fell {
		m.via.Retire()
	}
}

// silent notes that m left a question sent at sent unanswered for too long. A single lost packet makes m go down if another upstream is healthy; if there is
// none, a single lost packet must not cause an alarm. A connection loses no packets.
func (p *Pool) silent(m *member, sent time.Time) {
	enough := 1
	if m.endpoint.Protocol == transport.UDP && !slices.ContainsFunc(p.members, func(o *member) bool {
		return o != m && !o.looping.Load() && !o.isDown()
	}) {
		enough = lastSilences
	}
	if m.health.silent(sent, enough) {
		m.via.Retire()
	}
}
