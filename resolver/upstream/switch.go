package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rempart/resolver/upstream/transport"
)

// Switch forwards to the current pool, which can be replaced while questions are waiting for answers: the system's resolvers change with the
// network. Without a pool, every exchange ends with ErrUnreachable at once. Its methods may be called concurrently.
type Switch struct {
	make    func([]transport.Endpoint) (*Pool, error)
	current atomic.Pointer[Pool]

	mu       sync.Mutex // one Replace at a time
	run      func(*Pool) (stop func())
	stop     func()
	pending  []transport.Endpoint // of the current pool
	draining sync.WaitGroup
}

// drainTime is how long a replaced pool keeps running for its unanswered questions.
const drainTime = 10 * time.Second

// NewSwitch returns a Switch without a pool. made is the configuration of every pool; its endpoints are those of Replace.
func NewSwitch(made Config) *Switch {
	return &Switch{make: func(list []transport.Endpoint) (*Pool, error) {
		made.Endpoints = list
		return New(made)
	}}
}

// Replace forwards to these endpoints from now on, in order of preference; to none if the list is empty. It reports whether they differ from
// the earlier endpoints. On an error the earlier endpoints stay in use.
func (s *Switch) Replace(list []transport.Endpoint) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(list, s.pending) {
		return false, nil
	}
	var p *Pool
	if len(list) > 0 {
		if p, err = s.make(list); err != nil {
			return false, err
		}
	}
	stop := s.stop
	s.pending, s.stop = slices.Clone(list), nil
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

// Run maintains the current pool until ctx ends, as Pool.Run does. Call it once.
func (s *Switch) Run(ctx context.Context) error {
	s.mu.Lock()
	s.run = func(p *Pool) (stop func()) {
		running, cancel := context.WithCancel(ctx)
		s.draining.Go(func() { _ = p.Run(running) }) // its error is the end of running
		return func() { time.AfterFunc(drainTime, cancel) }
	}
	if p := s.current.Load(); p != nil {
		s.stop = s.run(p)
	}
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
	if p := s.current.Load(); p != nil {
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
	return dial(ctx, network, address, func(ctx context.Context, host string) ([]netip.Addr, error) {
		if p := s.current.Load(); p != nil {
			return p.lookup(ctx, host)
		}
		return nil, ErrUnreachable
	})
}

// Stats is Pool.Stats of the current pool; without a pool it has no upstreams.
func (s *Switch) Stats() Stats {
	if p := s.current.Load(); p != nil {
		return p.Stats()
	}
	return Stats{}
}

// Nudge is Pool.Nudge of the current pool.
func (s *Switch) Nudge() {
	if p := s.current.Load(); p != nil {
		p.Nudge()
	}
}
