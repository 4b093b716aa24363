package transport

import (
	"math"
	"time"
)

const (
	closeSoon = 200 * time.Millisecond // time after its last answer within which a closed connection counts as closed because of its number of answers, not for lack of questions
	lingerFor = time.Second            // how long a connection with the maximum of questions is left for the upstream to close
)

// bound is the number of questions that an upstream answers on one connection, learned from the connections that it closed: old servers and home routers answer
// one, others about a hundred. The zero value means that no bound is known. It is guarded by stream.mu.
type bound struct {
	known quirk
	n     int   // while known
	last  int   // answers of the last connection that it closed
	watch *pipe // a connection with the maximum of questions, left open to see whether the upstream closes it
}

// limit returns how many questions may be sent on one connection.
func (b *bound) limit() int {
	if b.known.active() {
		return b.n
	}
	return math.MaxInt
}

// closed notes that the upstream closed a connection after that number of answers. The same number twice sets the bound: a connection that a bad question or a
// restart ended mostly ends at another number.
func (b *bound) closed(answers int) {
	if answers == b.last {
		b.n = answers
		b.known.believe()
	}
	b.last = answers
}

// refuted notes that the upstream left a connection open beyond the bound.
func (b *bound) refuted() {
	b.last = 0
	b.known.forget()
}
