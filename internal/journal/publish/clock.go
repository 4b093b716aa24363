package publish

import (
	"errors"
	"fmt"
	"time"
)

// clock is control's clock. Within an epoch it never returns a time before one that was already signed, even if the machine's clock is set back: edges refuse
// records that are older than the record in force.
type clock struct {
	wall  func() time.Time // nil: time.Now
	epoch uint64           // the epoch of the lower bound
	floor int64            // lower bound in Unix milliseconds, at the time since
	since time.Time
}

// maxClockLeap is by how much the machine's clock may run ahead of the process's monotonic clock. Without a bound, one wrong moment would date the journal into
// the future, where change sets have expired.
const maxClockLeap = 48 * time.Hour

var errClock = errors.New("this machine's clock is or was wrong")

// now returns the time to sign in Unix milliseconds: not before the epoch's last record, and after its last heartbeat. While the machine's clock is behind, the
// monotonic clock continues from the last returned time. A leap before the process started cannot be detected, because control may have been stopped for long;
// a leap while it runs is an error. After a correct change of the machine's clock, or after the machine slept, the operator restarts control.
func (c *clock) now(epoch uint64, record, beat int64) (int64, error) {
	wall, elapsed := c.wallMillis(), int64(0)
	if epoch == c.epoch && !c.since.IsZero() {
		elapsed = c.floor + time.Since(c.since).Milliseconds()
		if leap := wall - max(elapsed, record, beat); leap > maxClockLeap.Milliseconds() {
			return 0, fmt.Errorf("%w: it leapt ahead by %v while control ran, so that nothing can be signed: correct the clock, or restart control if the clock is correct now",
				errClock, (time.Duration(leap) * time.Millisecond).Round(time.Minute))
		}
	}
	now := max(wall, record, beat+1, elapsed)
	c.epoch, c.floor, c.since = epoch, now, time.Now()
	return now, nil
}

// wallMillis returns the machine's clock in Unix milliseconds.
func (c *clock) wallMillis() int64 {
	if c.wall != nil {
		return c.wall().UnixMilli()
	}
	return time.Now().UnixMilli()
}

// checkAhead returns an error if the last signed time is far ahead of the machine's clock.
func (c *clock) checkAhead() error {
	by := time.Duration(c.floor-c.wallMillis()) * time.Millisecond
	if by <= maxClockLeap {
		return nil
	}
	return fmt.Errorf("%w: the journal's last record is %v ahead of it, and change sets are judged as expired by that time; if the clock is correct now, begin a new epoch (--new-epoch with the highest version of any node)",
		errClock, by.Round(time.Minute))
}
