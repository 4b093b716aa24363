package upstream

import (
	"math"
	"time"
)

const (
	closeSoon = 200 * time.Millisecond // after its last answer: the upstream closes for the number of answers, not for want of questions
	lingerFor = time.Second            // how long a connection that took all its questions is left to the upstream to close
)

// bound is how many questions an upstream takes on one connection, as far as it was seen to close connections: old
// servers and home routers take one, others a hundred or so. The zero value says that there is none. It is
// guarded by stream.mu.
type bound struct {
	known quirk
	n     int   // while known
	last  int   // how many the last connection that it closed took
	watch *pipe // took its questions, and is left open to see whether the upstream closes it
}

// limit is how many questions may be put on one connection.
func (b *bound) limit() int {
	if b.known.active() {
		return b.n
	}
	return math.MaxInt
}

// closed notes that the upstream closed a connection after so many answers. The same number twice is believed;
// a connection that a bad question ended, or a restart, most often ends at another.
func (b *bound) closed(answers int) {
	if answers == b.last {
		b.n = answers
		b.known.believe()
	}
	b.last = answers
}

// refuted notes that a connection was left open beyond the bound.
func (b *bound) refuted() {
	b.last = 0
	b.known.forget()
}
