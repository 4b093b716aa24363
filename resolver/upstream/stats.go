package upstream

import (
	"sync/atomic"
	"time"

	"rempart/resolver/upstream/transport"
)

// counters holds the counters of one upstream.
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
	Upstream  string    // as configured
	Protocol  string    // by which it is asked: "udp", "tcp", "tls", "https" or "quic"
	Healthy   bool      // not down and not looping; also before its first answer
	Looping   bool      // it forwards back to this process, and is not used
	Cookies   bool      // queries to it carry DNS cookies, which it echoes
	Since     time.Time // when it became healthy, went down, or was found to be looping; the start of the pool if nothing changed
	Queries   uint64    // attempts, without probes; an attempt may send several queries
	Retries   uint64    // repetitions because an earlier query failed: further attempts, and queries sent again within an attempt or a probe
	Hedges    uint64    // attempts because another attempt was slow
	Foreign   uint64    // messages that answer no question, forged or too late
	Failures  [transport.Failures]uint64
	InFlight  int64
	Reachable time.Time // its last good answer; zero before the first

	// Round-trip times, from sending a question until its sound answer, errors such as SERVFAIL included. All are 0 before the first answer. An attempt that
	// was given up, for example because another upstream was faster, has none.
	Answers      uint64
	AnswerTime   time.Duration // the sum of the round-trip times of all answers
	Percentiles                // of the newest 512 answers
	RTT          time.Duration // smoothed mean
	EstimatedP95 time.Duration // estimate of the 95th percentile after which a hedge is sent
}

// Stats are the statistics of a Pool. The numbers are read one after the other, so that their sums may differ by some questions.
type Stats struct {
	Upstreams  []Stat // in order of preference
	Queries    uint64 // questions asked
	Unanswered uint64 // questions that ended with an error
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
			Upstream: m.name, Protocol: m.endpoint.Protocol.String(), Looping: m.looping.Load(),
			Queries: c.queries.Load(), Retries: c.retries.Load(), Hedges: c.hedges.Load(),
			Foreign: c.foreign.Load(), InFlight: c.inFlight.Load(),
		}
		if t, ok := m.via.(*transport.Transport); ok {
			stat.Cookies = t.SendsCookies()
		}
		for i := range c.failures {
			stat.Failures[i] = c.failures[i].Load()
		}
		m.health.mu.Lock()
		stat.Healthy = !m.health.down && !stat.Looping
		stat.Since = m.health.looped
		if !stat.Looping && m.health.changed.After(stat.Since) {
			stat.Since = m.health.changed
		}
		stat.Reachable = m.health.good
		latency := m.health.latency
		m.health.mu.Unlock()
		stat.Answers, stat.AnswerTime, stat.Percentiles = uint64(latency.samples), latency.total, latency.newest.percentiles(latency.samples)
		stat.RTT, stat.EstimatedP95 = latency.mean, latency.p95
		s.Upstreams = append(s.Upstreams, stat)
	}
	return s
}
