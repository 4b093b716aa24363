package upstream

import (
	"sync"
	"time"
)

const (
	firstPatience = 200 * time.Millisecond // before anything is known of an upstream's latency
	minPatience   = 50 * time.Millisecond
	maxPatience   = 250 * time.Millisecond // what a dead upstream costs the client that finds it out
	maxSilence    = 2 * time.Second
	minHedge      = 10 * time.Millisecond
	hedgeSamples  = 10 // answers until the estimate of the 95th percentile is believed
	maxStrikes    = 8  // answers in a row with an error of the upstream's own
	lastSilences  = 3  // questions in a row left unanswered that bring down an upstream which no well one can replace
)

// latency estimates how long an upstream takes, in constant space.
type latency struct {
	mean, deviation, p95 time.Duration
	samples              int
}

// add takes in one answer.
func (l *latency) add(rtt time.Duration) {
	if l.samples == 0 {
		l.mean, l.deviation, l.p95 = rtt, rtt/2, 2*rtt
	} else {
		// As TCP smooths them (RFC 6298 section 2.3).
		l.deviation += ((rtt - l.mean).Abs() - l.deviation) / 4
		l.mean += (rtt - l.mean) / 8
		l.above(rtt > l.p95)
	}
	l.samples++
}

// above moves the estimate of the 95th percentile by one observation: it rests where one in
// twenty lies above it.
func (l *latency) above(yes bool) {
	if yes {
		l.p95 += l.p95 * 19 / 200
	} else {
		l.p95 -= l.p95 / 200
	}
	l.p95 = min(max(l.p95, time.Microsecond), maxSilence)
}

// merit is what an answer says of the upstream that gave it.
type merit uint8

const (
	useless merit = iota // it has an error of the upstream's own
	neutral              // it only says that the upstream is there
	useful
)

// health is what traffic says of one upstream. Its methods may be called concurrently.
type health struct {
	fixed time.Duration // patience whatever the latency, and no hedging; 0: as learned

	mu      sync.Mutex
	latency latency
	heard   time.Time // its last answer, of whatever kind
	good    time.Time // its last answer that was of use
	down    bool
	strikes int
	// Of questions that nothing was heard after: how many, and when the newest was sent.
	silences   int
	unanswered time.Time

	wake chan struct{} // capacity 1: it went down
}

// patience is how long a client waits on this upstream alone.
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

// silence is how long it may leave a question unanswered, with nothing else heard from it,
// until it is held to be down: the client's patience, or more where it is always slow.
func (h *health) silence() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	patience := h.patienceLocked()
	if 2*h.latency.mean > patience {
		return min(max(4*h.latency.mean, patience), maxSilence)
	}
	return patience
}

// overdue is how long after a question was sent its answer is likelier lost than slow: the time after which TCP would
// send a segment again (RFC 6298), longer where one answer in twenty is slow, bounded.
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

// hedgeAfter is when a question is worth sending to a second upstream; known is false while
// too little was heard to say.
func (h *health) hedgeAfter() (after time.Duration, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(h.latency.p95, minHedge), h.latency.samples >= hedgeSamples && h.fixed == 0
}

// answered notes a sound answer. It reports whether one useless answer too many brought the
// upstream down.
func (h *health) answered(rtt time.Duration, worth merit) (fell bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latency.add(rtt)
	h.hearLocked()
	switch worth {
	case useful:
		h.good, h.down, h.strikes = h.heard, false, 0
	case useless:
		h.strikes++
		return h.strikes >= maxStrikes && h.fallLocked()
	}
	return false
}

// hear notes that the upstream is there, which is all that was learned: the first half of an answer came.
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
	h.good, h.down, h.strikes = h.heard, false, 0
}

// failed notes that a question sent at sent could not be asked, for a reason that concerns every question:
// the network or the host refused it. It brings the upstream down if nothing was heard since.
func (h *health) failed(sent time.Time) (fell bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.heard.After(sent) && h.fallLocked()
}

// silent notes that a question sent at sent was left unanswered. If nothing was heard since (one name that is
// slow to resolve, or one lost packet under load, says nothing), and this was so for as many questions in a row
// as enough says, it brings the upstream down. It may be called several times for one question.
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

// spoiled notes that the upstream took a question and gave no sound answer: it closed the connection, or
// answered something malformed. As with a useless answer, several in a row bring it down, and one name does not.
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
	h.down, h.strikes = true, 0
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return true
}

// outlasted notes that an attempt was given up after elapsed: all it says of the latency is
// that it would have been longer. It says nothing once the answer is likelier lost than slow.
func (h *health) outlasted(elapsed time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.latency.samples > 0 && elapsed > h.latency.p95 && elapsed < h.overdueLocked() {
		h.latency.above(true)
	}
}

// state is whether it is down, when it was last good, and when last heard.
func (h *health) state() (down bool, good, heard time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.down, h.good, h.heard
}
