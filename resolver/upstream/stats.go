package upstream

import (
	"sync/atomic"
	"time"

	"rempart/resolver/upstream/transport"
)

// counters are one upstream's.
type counters struct {
	queries  atomic.Uint64
	retries  atomic.Uint64
	hedges   atomic.Uint64
	foreign  atomic.Uint64
	inFlight atomic.Int64
	failures [transport.Failures]atomic.Uint64
}

// Stat is the state of one upstream and what it did since the start.
type Stat struct {
	Upstream  string // as configured
	Healthy   bool   // asked without waiting for another to fail
	Looping   bool   // it leads back here, and is refused
	Queries   uint64 // attempts, retries and hedges included, probes not
	Retries   uint64 // sent because another attempt had failed
	Hedges    uint64 // sent because another attempt was slow
	Foreign   uint64 // messages that answer no question, forged or too late
	Failures  [transport.Failures]uint64
	InFlight  int64
	RTT, P95  time.Duration // smoothed mean and 95th percentile; 0 before the first answer
	Reachable time.Time     // its last good answer; zero before the first
}

// Stats are the statistics of a Pool. The numbers are read one after the other and need not add up.
type Stats struct {
	Upstreams  []Stat // in order of preference
	Queries    uint64 // questions asked
	Unanswered uint64 // of those, ended with an error
	Shed       uint64 // questions for which there was no room for a race
	Denied     uint64 // questions of which a retry or hedge was not sent because the budget was used up
	InFlight   int64
}

// Stats returns the state of the pool.
func (p *Pool) Stats() Stats {
	s := Stats{
		Queries: p.budget.queries.Load(), Unanswered: p.unanswered.Load(),
		Shed: p.shed.Load(), Denied: p.denied.Load(), InFlight: p.inFlight.Load() + p.waiting.Load(),
	}
	for _, m := range p.members {
		c := &m.counters
		stat := Stat{
			Upstream: m.name, Looping: m.looping.Load(),
			Queries: c.queries.Load(), Retries: c.retries.Load(), Hedges: c.hedges.Load(),
			Foreign: c.foreign.Load(), InFlight: c.inFlight.Load(),
		}
		for i := range c.failures {
			stat.Failures[i] = c.failures[i].Load()
		}
		m.health.mu.Lock()
		stat.Healthy = !m.health.down && !stat.Looping
		stat.Reachable = m.health.good
		stat.RTT, stat.P95 = m.health.latency.mean, m.health.latency.p95
		m.health.mu.Unlock()
		s.Upstreams = append(s.Upstreams, stat)
	}
	return s
}
