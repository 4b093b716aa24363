package changeset

import (
	"context"
	"time"
)

// gateTime bounds how long a call waits for its turn.
const gateTime = 30 * time.Second

// Gate bounds how many calls do the same expensive work at once. Create it with NewGate.
type Gate chan struct{}

// NewGate returns a Gate that admits that number of calls at once.
func NewGate(calls int) Gate { return make(Gate, calls) }

// Enter waits at most gateTime for a free place. The caller calls leave when its work is done. The error is an *Error of the kind
// Unavailable: its detail is failure, and its field After is the time after which the caller should try again.
func (g Gate) Enter(ctx context.Context, failure string) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, gateTime)
	defer cancel()
	select {
	case g <- struct{}{}:
		return func() { <-g }, nil
	case <-ctx.Done():
		e := Fail(failure, ctx.Err())
		e.After = 5 * time.Second
		return nil, e
	}
}
