package upstream

import (
	"sync"
	"time"
)

const (
	firstPatience = 200 * time.Millisecond // before anything is known of an upstream's latency
	minPatience   = 50 * time.Millisecond
	maxPatience   = 250 * time.Millisecond // delay for the first client that asks a dead upstream
	maxSilence    = 2 * time.Second
	minHedge      = 10 * time.Millisecond
	hedgeSamples  = 10 // answers before the estimate of the 95th percentile is used
	maxStrikes    = 8  // errors of the upstream itself in a row
	lastSilences  = 3  // unanswered questions in a row that bring down an upstream which no healthy one can replace
)

// latency describes how long an upstream takes, in constant space: estimates that follow every answer, and the newest round-trip times.
type latency struct {
	mean, deviation, p95 time.Duration // p95 is an estimate that moves by a small step with each answer
	samples              int           // answers since the start
	total                time.Duration // sum of the round-trip times of all answers
	newest               roundTrips
}

// add takes one answer into account.
func (l *latency) add(rtt time.Duration) {
	if l.samples == 0 {
		l.mean, l.deviation, l.p95 = rtt, rtt/2, 2*rtt
	} else {
		// As TCP smooths them (RFC 6298 section 2.3).
		l.deviation += ((rtt - l.mean).Abs() - l.deviation) / 4
		l.mean += (rtt - l.mean) / 8
		l.above(rtt > l.p95)
	}
	l.newest.set(l.samples, rtt)
	l.total += rtt
	l.samples++
}

// above moves the estimate of the 95th percentile by one observation: it is stable when one answer in twenty is above it.
func (l *latency) above(yes bool) {
	if yes {
		l.p95 += l.p95 * 19 / 200
	} else {
		l.p95 -= l.p95 / 200
	}
	l.p95 = min(max(l.p95, time.Microsecond), maxSilence)
}

// merit is what an answer shows about the health of its upstream.
type merit uint8

const (
	useless merit = iota // an error of the upstream itself
	neutral              // it shows only that the upstream is reachable
	useful
)

// health is the state of one upstream, learned from its answers. Its methods may be called concurrently.
type health struct {
	fixed time.Duration // patience that does not depend on latency, without hedging; 0: learned

	mu      sync.Mutex
	latency latency
	heard   time.Time // time of its last answer of any kind
	good    time.Time // time of its last useful answer
	down    bool
	changed time.Time // time of the last change of down; at first the start
	looped  time.Time // time of the last change of member.looping; zero before the first
	strikes int
	// Unanswered questions after which the upstream sent nothing: how many, and when the newest was sent.
	silences   int
	unanswered time.Time

	wake chan struct{} // capacity 1: it went down
}

// patience returns how long a client waits for this upstream alone.
func (h *health) patience() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.patienceLocked()
}

func (h *health) patienceLocked() time.Duration {
	if h.fixed > 0 {
		return h.fixed
	}
	if h.latency.samples == 0 {
		return firstPatience
	}
	return min(max(3*h.latency.p95, minPatience), maxPatience)
}

// silence returns how long the upstream may leave a question unanswered, while it sends nothing else, before it is considered down: the time that a client
// waits, or more for a slow upstream.
func (h *health) silence() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	patience := h.patienceLocked()
	if 2*h.latency.mean > patience {
		return min(max(4*h.latency.mean, patience), maxSilence)
	}
	return patience
}

// overdue returns the time after which an answer is more likely lost than slow: the time after which TCP would retransmit (RFC 6298), longer if one answer in
// twenty is slow, bounded.
func (h *health) overdue() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.overdueLocked()
}

func (h *health) overdueLocked() time.Duration {
	if h.fixed > 0 || h.latency.samples == 0 {
		return h.patienceLocked()
	}
	return min(max(h.latency.mean+4*h.latency.deviation, h.latency.p95, minPatience), maxSilence)
}

// hedgeAfter returns the time after which a question is sent to a second upstream. known is false while there are too few answers.
func (h *health) hedgeAfter() (after time.Duration, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(h.latency.p95, minHedge), h.latency.samples >= hedgeSamples && h.fixed == 0
}

// answered notes a sound answer. It reports whether the upstream went down because of too many useless answers.
func (h *health) answered(rtt time.Duration, worth merit) (fell bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latency.add(rtt)
	h.hearLocked()
	switch worth {
	case useful:
		h.riseLocked()
	case useless:
		h.strikes++
		return h.strikes >= maxStrikes && h.fallLocked()
	}
	return false
}

// hear notes that the upstream is reachable, because the first half of an answer arrived.
func (h *health) hear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hearLocked()
}

func (h *health) hearLocked() { h.heard, h.silences = time.Now(), 0 }

// revived notes that a probe was answered: the upstream is used again.
func (h *health) revived() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hearLocked()
	h.riseLocked()
}

// riseLocked notes that the newest answer is a good one. It is called with mu held.
func (h *health) riseLocked() {
	if h.down {
		h.changed = h.heard
	}
	h.good, h.down, h.strikes = h.heard, false, 0
}

// failed notes that a question sent at sent could not be asked, for a reason that concerns every question: the network or the host refused it. It brings the
// upstream down if nothing was received since.
func (h *health) failed(sent time.Time) (fell bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.heard.After(sent) && h.fallLocked()
}

// silent notes that a question sent at sent was left unanswered. If nothing was received since, and this was so for enough questions in a row, it brings the
// upstream down: one name that is slow to resolve, or one lost packet under load, is no sign. It may be called several times for one question.
func (h *health) silent(sent time.Time, enough int) (fell bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.heard.After(sent) {
		return false
	}
	if h.silences == 0 || sent.After(h.unanswered) {
		h.silences++
		h.unanswered = sent
	}
	return h.silences >= enough && h.fallLocked()
}

// spoiled notes that the upstream accepted a question and gave no sound answer: it closed the connection, or answered something malformed. As with useless
// answers, several in a row bring it down, and one name does not.
func (h *health) spoiled() (fell bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hearLocked()
	h.strikes++
	return h.strikes >= maxStrikes && h.fallLocked()
}

func (h *health) fallLocked() bool {
	if h.down {
		return false
	}
	h.down, h.strikes, h.changed = true, 0, time.Now()
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return true
}

// loopChanged notes that the upstream was found to forward back to this process, or no longer does.
func (h *health) loopChanged() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looped = time.Now()
}

// outlasted notes that an attempt was given up after elapsed: the latency would have been longer. It has no effect once the answer is more likely lost than
// slow.
func (h *health) outlasted(elapsed time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.latency.samples > 0 && elapsed > h.latency.p95 && elapsed < h.overdueLocked() {
		h.latency.above(true)
	}
}

// healthState is the state of one upstream at one moment.
type healthState struct {
	down  bool
	good  time.Time     // of its last useful answer; zero before the first
	heard time.Time     // of its last answer of any kind; zero before the first
	mean  time.Duration // smoothed round-trip time; 0 before the first answer
}

// state returns the present state.
func (h *health) state() healthState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return healthState{h.down, h.good, h.heard, h.latency.mean}
}
