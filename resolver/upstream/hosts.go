package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"rempart/resolver/upstream/transport"
)

const (
	maxHostAddresses = 4 // addresses of one host that are upstreams at the same time
	lookupTimeout    = 10 * time.Second
	minLookupEvery   = 30 * time.Second // time between two lookups of one host, however short its TTL is
	maxLookupEvery   = 24 * time.Hour
	minLookupRetry   = 500 * time.Millisecond // the same after failures: it doubles
	maxLookupRetry   = time.Minute
	maxFirstRetry    = 5 * time.Second  // instead, while no address of the host is known
	maxFirstLookup   = 3 * time.Second  // how long a question waits for the first lookup after the start
	outageCheck      = 10 * time.Second // time between two checks whether all addresses of a host are down, so that a new lookup may help
)

// Addresses are the addresses of a host.
type Addresses struct {
	List []netip.Addr // in the order in which they are to be tried, at least one
	TTL  time.Duration
}

// Lookup finds the addresses of a host. It must not ask the upstreams whose hosts it looks up.
type Lookup func(ctx context.Context, host string) (Addresses, error)

// host is a host name of an endpoint, whose addresses a Switch looks up. Its fields are guarded by Switch.mu.
type host struct {
	name    string
	addrs   []netip.Addr       // those in use
	failure error              // of the last lookup
	nudge   chan struct{}      // capacity 1: look it up at once
	stop    context.CancelFunc // nil while no goroutine looks it up
}

// setHosts makes the Switch follow the hosts of a list of endpoints. It is called with mu held.
func (s *Switch) setHosts(list []transport.Endpoint) {
	wanted := map[string]bool{}
	for _, e := range list {
		if e.NeedsLookup() {
			wanted[e.Host] = true
		}
	}
	s.hosts = slices.DeleteFunc(s.hosts, func(h *host) bool {
		if !wanted[h.name] && h.stop != nil {
			h.stop()
		}
		return !wanted[h.name]
	})
	for _, e := range list {
		if e.NeedsLookup() && s.host(e.Host) == nil {
			s.hosts = append(s.hosts, &host{name: e.Host, nudge: make(chan struct{}, 1)})
		}
	}
	if len(s.hosts) > 0 && s.lookedUp == nil {
		s.lookedUp = make(chan struct{})
	}
	if s.run != nil {
		s.followHosts()
	}
}

// pool returns the current pool; nil if there is none. While hosts are looked up for the first time, it waits for the first result.
func (s *Switch) pool(ctx context.Context) *Pool {
	if p := s.current.Load(); p != nil {
		return p
	}
	s.mu.Lock()
	lookedUp := s.lookedUp
	s.mu.Unlock()
	if lookedUp != nil {
		timer := time.NewTimer(maxFirstLookup)
		defer timer.Stop()
		select {
		case <-lookedUp:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return s.current.Load()
}

// endFirstLookup makes the questions continue that wait for the first lookup. It is called with mu held.
func (s *Switch) endFirstLookup() {
	select {
	case <-s.lookedUp:
	default:
		close(s.lookedUp)
	}
}

// host returns the host with a name, or nil. It is called with mu held.
func (s *Switch) host(name string) *host {
	if i := slices.IndexFunc(s.hosts, func(h *host) bool { return h.name == name }); i >= 0 {
		return s.hosts[i]
	}
	return nil
}

// followHosts starts a goroutine for each host that has none. It is called with mu held, while the Switch runs.
func (s *Switch) followHosts() {
	for _, h := range s.hosts {
		if h.stop == nil {
			ctx, cancel := context.WithCancel(s.running)
			h.stop = cancel
			s.draining.Go(func() { s.follow(ctx, h) })
		}
	}
}

// expand returns list with an endpoint for each known address of a host in place of the endpoint without an address. It is called with mu held.
func (s *Switch) expand(list []transport.Endpoint) (all []transport.Endpoint) {
	for _, e := range list {
		if !e.NeedsLookup() {
			all = append(all, e)
			continue
		}
		for _, a := range s.host(e.Host).addrs {
			all = append(all, e.WithAddress(a))
		}
	}
	return all[:min(len(all), maxEndpoints)]
}

// follow looks up the addresses of h when their TTL ends, when all of them are down, and when it is nudged, until ctx ends.
func (s *Switch) follow(ctx context.Context, h *host) {
	retry := minLookupRetry
	for ctx.Err() == nil {
		looking, cancel := context.WithTimeout(ctx, lookupTimeout)
		found, err := s.lookup(looking, h.name)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil && len(found.List) == 0 {
			err = errors.New("the name has no address")
		}
		wait := min(max(found.TTL, minLookupEvery), maxLookupEvery)
		if err != nil {
			wait = jitter(retry)
			retry = min(2*retry, s.maxRetry(h))
		} else {
			retry = minLookupRetry
		}
		s.learn(h, found.List, err)
		s.waitForLookup(ctx, h, wait)
	}
}

// maxRetry returns the longest time between two lookups of h that fail. Without an address, clients may have no DNS until the next lookup.
func (s *Switch) maxRetry(h *host) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(h.addrs) == 0 {
		return maxFirstRetry
	}
	return maxLookupRetry
}

// waitForLookup waits until h is to be looked up again, after a time at the latest.
func (s *Switch) waitForLookup(ctx context.Context, h *host, wait time.Duration) {
	due := time.NewTimer(wait)
	defer due.Stop()
	check := time.NewTicker(outageCheck)
	defer check.Stop()
	for {
		select {
		case <-check.C:
			if !s.isHostDown(h) {
				continue
			}
		case <-due.C:
		case <-h.nudge:
		case <-ctx.Done():
		}
		return
	}
}

// isHostDown reports whether upstreams with the host are in use, and all of them are down.
func (s *Switch) isHostDown(h *host) (down bool) {
	p := s.current.Load()
	if p == nil {
		return false
	}
	for _, m := range p.members {
		if m.endpoint.Host != h.name {
			continue
		}
		if !m.isDown() {
			return false
		}
		down = true
	}
	return down
}

// learn notes the result of a lookup, and makes a new pool if the addresses in use change. Addresses that are still valid stay in use in their order, so that a server
// which returns them in turn changes nothing.
func (s *Switch) learn(h *host, found []netip.Addr, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.endFirstLookup()
	known := h.failure != nil
	h.failure = err
	if err != nil {
		if !known {
			s.log.Warn("looking up the host name of an upstream failed: trying again", "host", h.name, "addresses still in use", h.addrs, "error", err)
		}
		return
	}
	addrs := slices.DeleteFunc(slices.Clone(h.addrs), func(a netip.Addr) bool { return !slices.Contains(found, a) })
	for _, a := range found {
		if len(addrs) < maxHostAddresses && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	if slices.Equal(addrs, h.addrs) {
		return
	}
	s.log.Info("the host name of an upstream was looked up", "host", h.name, "addresses", addrs)
	h.addrs = addrs
	if _, err := s.apply(s.configured); err != nil {
		s.log.Error("the addresses of an upstream cannot be used", "host", h.name, "addresses", addrs, "error", err)
	}
}

// Missing returns the reason why there is no upstream while host names are looked up; nil if there is an upstream, or if none is configured.
func (s *Switch) Missing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.Load() != nil || len(s.hosts) == 0 {
		return nil
	}
	h := s.hosts[0]
	if h.failure == nil {
		return fmt.Errorf("the host name %s is being looked up", h.name)
	}
	return fmt.Errorf("the host name %s could not be looked up: %w", h.name, h.failure)
}

// quiet returns log, or a logger that discards everything if log is nil.
func quiet(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
