package changeset

import (
	"context"
	"time"
)

// gateTime bounds how long a call waits for its turn.
const gateTime = 30 * time.Second

// Gate bounds how many calls do the same expensive work at once. Create it with NewGate.
type Gate chan struct{}

// NewGate returns a gate for a number of calls.
func NewGate(calls int) Gate { return make(Gate, calls) }

// Enter waits for a place for at most gateTime. The caller calls leave when it is done. The error says in its detail what was
// not done, and when to try again.
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
