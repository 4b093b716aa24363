package feed

import (
	"errors"
	"math/rand/v2"
	"time"

	"rempart/blocklist/feed/fetch"
)

// interval returns the interval at which a list is read or fetched.
func (c *copies) interval(li *list) time.Duration {
	if li.feed.Interval > 0 {
		return li.feed.Interval
	}
	return c.cfg.Refresh
}

// due returns when the next attempt on li may begin.
func (li *list) due() time.Time {
	if li.notBefore.After(li.next) {
		return li.notBefore
	}
	return li.next
}

// finishAttempt records the result of an attempt on li and the time of the next one, and logs a change of state.
func (c *copies) finishAttempt(li *list, now time.Time, err error) {
	if errors.Is(err, errChanging) && li.copy != nil {
		li.next = now.Add(c.timing.again)
		return
	}
	before := li.result
	li.err = err
	switch {
	case err == nil:
		li.result, li.failures = OK, 0
		li.next = now.Add(jitter(c.interval(li)))
	default:
		li.result = Failed
		if li.copy != nil {
			li.result = Stale
		}
		li.failures++
		wait := jitter(backoff(c.timing.backoff, c.interval(li), li.failures))
		if status := (*fetch.StatusError)(nil); errors.As(err, &status) {
			wait = max(wait, status.RetryAfter)
			li.notBefore = now.Add(status.RetryAfter)
		}
		if errors.Is(err, errChanging) {
			wait = c.timing.again
		}
		li.next = now.Add(wait)
	}
	switch {
	case li.result == before:
	case li.result == Stale:
		c.log.Warn("list cannot be renewed; its last good copy stays in force", "list", li.name, "err", err, "fetched", li.copy.Fetched)
	case li.result == Failed:
		c.log.Error("list cannot be fetched or read, and there is no copy of it", "list", li.name, "err", err)
	case before == Stale || before == Failed:
		c.log.Info("list is up to date again", "list", li.name)
	}
}

// backoff returns first after one failure and doubles with each further one, up to most.
func backoff(first, most time.Duration, failures int) time.Duration {
	d := first
	for ; failures > 1 && d < most; failures-- {
		d *= 2
	}
	return min(d, most)
}

// jitter spreads d by a tenth either way, so that a fleet does not ask at the same instant.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}
