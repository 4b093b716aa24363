package canary

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"rempart/internal/pause"
	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

// verdict is what an answer says about a name.
type verdict string

const (
	passed  verdict = "pass"
	blocked verdict = "block"
	none    verdict = "none" // no answer, or a failure
)

// verdicts are those of all nodes in a round. note may be called concurrently.
type verdicts struct {
	mu       sync.Mutex
	first    map[string]verdict  // by name
	disputed map[string]struct{} // names about which two answers differ
}

func newVerdicts() *verdicts {
	return &verdicts{first: map[string]verdict{}, disputed: map[string]struct{}{}}
}

func (s *verdicts) note(name []byte, v verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.first[string(name)]; !ok {
		s.first[string(name)] = v
	} else if first != v {
		s.disputed[string(name)] = struct{}{}
	}
}

// series is a node and a transport. A node may have several endpoints of one transport, for example one of IPv4 and one of IPv6.
type series struct{ node, transport string }

// tally holds the numbers of wrong and missing answers in a round. add may be called concurrently.
type tally struct {
	mu  sync.Mutex
	all map[series]int
}

func newTally(askers []asker) *tally {
	t := &tally{all: map[series]int{}}
	for i := range askers {
		t.add(&askers[i], 0)
	}
	return t
}

func (t *tally) add(a *asker, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all[a.series] += n
}

func (t *tally) sum() (n int) {
	for _, one := range t.all {
		n += one
	}
	return n
}

// asker asks one node over one transport.
type asker struct {
	series
	over *transport.Transport
}

// newAskers returns the askers of all nodes. They end with ctx. roots are the authorities of certificates; nil: the system's.
func newAskers(ctx context.Context, nodes []node, roots *x509.CertPool) (all []asker) {
	for _, n := range nodes {
		for _, e := range n.endpoints {
			all = append(all, asker{series{n.name, e.Protocol.String()}, transport.New(transport.Config{
				Endpoint: e, RootCAs: roots, Context: ctx, Foreign: new(atomic.Uint64),
				Start: func(f func()) bool { go f(); return true },
				Spend: func(bool) bool { return true },
			})})
		}
	}
	return all
}

const (
	answerPatience = 5 * time.Second
	againAfter     = 2 * time.Second // a wrong answer is asked for once more
	atOnce         = 64              // nodes and transports that are asked at a time
	versionsAtOnce = 16              // nodes whose metrics are read at a time
	mostSilent     = 3               // questions in a row without an answer, after which a node and transport is asked no more in this round
)

// ask asks for a name, and returns the verdict in the answer: a blocked one has an extended error 15, 16 or 17.
func (a *asker) ask(ctx context.Context, name []byte) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	r, err := a.over.Exchange(ctx, &transport.Request{Question: transport.Question{Name: name, Type: dns.TypeA, Class: dns.ClassINET}})
	if err != nil {
		return none, err
	}
	m := new(dns.Msg)
	if err := m.Unpack(r.Packed); err != nil {
		return none, err
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok && wire.EDEBlocked <= e.InfoCode && e.InfoCode <= wire.EDEFiltered {
				return blocked, nil
			}
		}
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return none, fmt.Errorf("rcode %s", dns.RcodeToString[m.Rcode])
	}
	return passed, nil
}

// runner runs rounds.
type runner struct {
	log     *slog.Logger
	names   *names
	askers  []asker
	nodes   []node
	results *results
	version func(ctx context.Context, url string) (float64, error) // of a node's set
}

// round asks every node over every transport. It returns true if every answer was right, no two answers differ, and no version is old or unknown. It returns false
// if there is no name to ask for.
func (r *runner) round(ctx context.Context) (bool, error) {
	questions, err := r.names.next(time.Now())
	if err != nil {
		return false, err
	}
	if len(questions) == 0 {
		r.log.Warn("nothing was asked: the set of control holds no names yet")
		return false, nil
	}
	said, wrong := newVerdicts(), newTally(r.askers)
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range r.askers {
		a := &r.askers[i]
		g.Go(func() error {
			bad, err := r.askAll(ctx, a, questions, said)
			wrong.add(a, bad)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	behind := r.compareVersions(ctx)
	r.results.end(wrong, len(said.disputed), time.Now())
	return wrong.sum() == 0 && len(said.disputed) == 0 && !behind, nil
}

// askAll asks one node over one transport, one question after another, and returns the number of wrong and missing answers. A node that is down must not delay the next
// round of the others: the questions that it is not asked any more have no answer.
func (r *runner) askAll(ctx context.Context, a *asker, questions []question, said *verdicts) (bad int, err error) {
	silent := 0
	for i, q := range questions {
		if silent == mostSilent {
			left := questions[i:]
			r.log.Warn("a node does not answer: it is asked no more in this round", "node", a.node, "transport", a.transport, "left", len(left))
			for _, q := range left {
				r.results.note(a, q, none, 0)
			}
			bad += len(left)
			break
		}
		began := time.Now()
		v, err := a.ask(ctx, q.name)
		took := time.Since(began)
		if v != q.want() { // a change may be on its way to the node, and a packet may have been lost
			pause.For(ctx, againAfter)
			q = r.names.renew(q, time.Now())
			v, err = a.ask(ctx, q.name)
		}
		if ctx.Err() != nil {
			return bad, ctx.Err()
		}
		r.results.note(a, q, v, took)
		switch want := q.want(); v {
		case want:
		case none:
			bad++
			silent++
			r.log.Warn("a node does not answer, or answers with an error", "node", a.node, "transport", a.transport, "name", wire.Text(q.name), "error", err)
			continue
		default:
			bad++
			r.log.Warn("a node gives a wrong answer", "node", a.node, "transport", a.transport, "name", wire.Text(q.name), "want", want, "got", v)
		}
		silent = 0
		said.note(q.name, v)
	}
	return bad, nil
}

// compareVersions reads the version of each node with metrics, and reports whether one is behind control or cannot be read.
func (r *runner) compareVersions(ctx context.Context) bool {
	newest := float64(0)
	if r.names.set != nil {
		newest = float64(r.names.set.View().Version())
	}
	var some atomic.Bool
	var g errgroup.Group
	g.SetLimit(versionsAtOnce)
	for _, n := range r.nodes {
		if n.metrics == "" {
			continue
		}
		g.Go(func() error {
			version, err := r.version(ctx, n.metrics)
			switch {
			case err != nil:
				some.Store(true)
				r.log.Warn("the version of a node cannot be read", "node", n.name, "metrics", n.metrics, "error", err)
			case !(version >= newest): // or not a number
				some.Store(true)
				r.log.Warn("a node is behind control", "node", n.name, "version", version, "control", newest)
			}
			r.results.versionOf(n.name, version)
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
	return some.Load()
}

// want returns the verdict that a node must give.
func (q *question) want() verdict {
	if q.blocked {
		return blocked
	}
	return passed
}
