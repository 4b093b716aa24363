package changeset

import (
	"context"
	"time"
)

// gateTime is the longest time for which Enter waits.
const gateTime = 30 * time.Second

// Gate limits how many calls do the same expensive work at the same time. Use NewGate to create one.
type Gate chan struct{}

// NewGate returns a Gate that admits that number of calls at the same time.
func NewGate(calls int) Gate { return make(Gate, calls) }

// Enter waits at most gateTime for a free place. The caller must call leave when its work is done. The error is an *Error of the kind
// Unavailable with failure as its detail.
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
