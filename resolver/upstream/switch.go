package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/pause"
	"rempart/resolver/upstream/transport"
)

// Switch forwards to the current pool, which can be replaced while questions are waiting for answers: the system's resolvers change with the
// network, and the addresses of an upstream with its host name. Without a pool, every exchange ends with ErrUnreachable at once, or
// after the first lookup of a host. Its methods may be called concurrently.
type Switch struct {
	make    func([]transport.Endpoint) (*Pool, error)
	lookup  Lookup
	log     *slog.Logger
	current atomic.Pointer[Pool]

	mu         sync.Mutex // one change at a time
	run        func(*Pool) (stop func())
	running    context.Context // of Run
	stop       func()
	configured []transport.Endpoint // of Replace
	inUse      []transport.Endpoint // of the current pool: configured, with the addresses of hosts
	hosts      []*host              // those of configured
	lookedUp   chan struct{}        // closed after the first lookup; nil if there was never a host
	draining   sync.WaitGroup
}

// drainTime is how long a replaced pool keeps its connections for its unanswered questions. Its upstreams are no longer monitored.
const drainTime = 10 * time.Second

// NewSwitch returns a Switch without a pool. made is the configuration of every pool; its endpoints are those of Replace. Hosts of endpoints are looked up by
// lookup, while Run runs; if lookup is nil, endpoints need addresses.
func NewSwitch(made Config, lookup Lookup) *Switch {
	return &Switch{lookup: lookup, log: quiet(made.Log), make: func(list []transport.Endpoint) (*Pool, error) {
		made.Endpoints = list
		return New(made)
	}}
}

// Replace forwards to these endpoints from now on, in order of preference; to none if the list is empty. It reports whether they differ from
// the earlier endpoints. On an error the earlier endpoints stay in use.
func (s *Switch) Replace(list []transport.Endpoint) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(list, s.configured) {
		return false, nil
	}
	if len(list) > maxEndpoints { // expand shortens a list that the addresses of hosts make longer
		return false, fmt.Errorf("upstream: %d upstreams are configured, at most %d are possible", len(list), maxEndpoints)
	}
	if i := slices.IndexFunc(list, transport.Endpoint.NeedsLookup); i >= 0 && s.lookup == nil {
		return false, fmt.Errorf("upstream: endpoint %v has no address", list[i])
	}
	earlier := s.configured
	s.setHosts(list)
	if changed, err = s.apply(list); err != nil {
		s.setHosts(earlier)
		return false, err
	}
	s.configured = slices.Clone(list)
	return changed || len(s.hosts) > 0, nil
}

// apply makes a pool of list and of the known addresses of hosts, and forwards to it. It reports whether that changes the endpoints in use. It is called with mu held.
func (s *Switch) apply(list []transport.Endpoint) (changed bool, err error) {
	list = s.expand(list)
	if slices.Equal(list, s.inUse) {
		return false, nil
	}
	var p *Pool
	if len(list) > 0 {
		if p, err = s.make(list); err != nil {
			return false, err
		}
	}
	stop := s.stop
	s.inUse, s.stop = list, nil
	s.current.Store(p)
	if s.run != nil {
		if p != nil {
			s.stop = s.run(p)
		}
		if stop != nil {
			stop()
		}
	}
	return true, nil
}

// Run maintains the current pool and looks up hosts until ctx ends, as Pool.Run does. Call it once.
func (s *Switch) Run(ctx context.Context) error {
	s.mu.Lock()
	s.running = ctx
	s.run = func(p *Pool) (stop func()) {
		running, cancel := context.WithCancel(ctx)
		s.draining.Go(func() {
			p.monitor(running)
			pause.For(ctx, drainTime)
			p.group.end()
		})
		return cancel
	}
	if p := s.current.Load(); p != nil {
		s.stop = s.run(p)
	}
	s.followHosts()
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.run = nil
	s.mu.Unlock()
	s.draining.Wait()
	return nil
}

// Exchange is Pool.Exchange of the current pool.
func (s *Switch) Exchange(ctx context.Context, q Question) (Answer, error) {
	if p := s.pool(ctx); p != nil {
		return p.Exchange(ctx, q)
	}
	return Answer{}, fmt.Errorf("no upstream is known yet: %w", ErrUnreachable)
}

// Sighted is Pool.Sighted of the current pool.
func (s *Switch) Sighted(name []byte) (secret string) {
	if p := s.current.Load(); p != nil {
		return p.Sighted(name)
	}
	return ""
}

// DialContext is Pool.DialContext of the current pool. An IP address is dialled even if there is no pool.
func (s *Switch) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return dial(ctx, network, address, s.Lookup)
}

// Stats is Pool.Stats of the current pool; without a pool it has no upstreams.
func (s *Switch) Stats() Stats {
	if p := s.current.Load(); p != nil {
		return p.Stats()
	}
	return Stats{}
}

// Nudge is Pool.Nudge of the current pool. It also looks up again the hosts whose last lookup failed.
func (s *Switch) Nudge() {
	s.mu.Lock()
	for _, h := range s.hosts {
		if h.failure != nil {
			select {
			case h.nudge <- struct{}{}:
			default:
			}
		}
	}
	s.mu.Unlock()
	if p := s.current.Load(); p != nil {
		p.Nudge()
	}
}

// Lookup finds the addresses of a host by asking the current pool. It implements the type Lookup for other Switches.
func (s *Switch) Lookup(ctx context.Context, host string) (Addresses, error) {
	if p := s.pool(ctx); p != nil {
		return p.lookup(ctx, host)
	}
	return Addresses{}, ErrUnreachable
}
