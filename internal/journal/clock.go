package journal

import (
	"errors"
	"fmt"
	"time"
)

// clock is control's: it never goes back behind what was signed in an epoch, though the machine's does. Edges take nothing that is older than what they have.
type clock struct {
	wall  func() time.Time // nil: the machine's
	epoch uint64           // of the floor
	floor int64            // Unix milliseconds, at since
	since time.Time
}

// clockLeap is by how much the machine's clock may run ahead of a process's own measure of time. Without a bound, one wrong moment would date the
// journal into the future, where what authors sign has expired.
const maxClockLeap = 48 * time.Hour

var errClock = errors.New("this machine's clock is wrong, or was")

// now is not before the last record and after the last heartbeat of the epoch, in Unix milliseconds; from them it goes on while the machine's clock is
// behind. How far the machine's clock ran ahead before the process began cannot be known: control may have been off for long. So an operator whose clock was rightly
// set, or whose machine slept, begins control again.
func (c *clock) now(epoch uint64, record, beat int64) (int64, error) {
	wall, elapsed := c.wallMillis(), int64(0)
	if epoch == c.epoch && !c.since.IsZero() {
		elapsed = c.floor + time.Since(c.since).Milliseconds()
		if leap := wall - max(elapsed, record, beat); leap > maxClockLeap.Milliseconds() {
			return 0, fmt.Errorf("%w: it leapt ahead by %v while control ran, and nothing is signed by it: set it right, or start control again if it is right now",
				errClock, (time.Duration(leap) * time.Millisecond).Round(time.Minute))
		}
	}
	now := max(wall, record, beat+1, elapsed)
	c.epoch, c.floor, c.since = epoch, now, time.Now()
	return now, nil
}

// read is the machine's, in Unix milliseconds.
func (c *clock) wallMillis() int64 {
	if c.wall != nil {
		return c.wall().UnixMilli()
	}
	return time.Now().UnixMilli()
}

// ahead says that what was signed is far ahead of the machine's clock.
func (c *clock) checkAhead() error {
	by := time.Duration(c.floor-c.wallMillis()) * time.Millisecond
	if by <= maxClockLeap {
		return nil
	}
	return fmt.Errorf("%w: the journal is %v ahead of it, and change sets count as expired by that; if it is right now, begin a new epoch (--new-epoch, with the highest version of any node)",
		errClock, by.Round(time.Minute))
}
