package journal

import (
	"testing"
	"time"
)

// TestClockOffsetIgnoresDelays checks that delayed heartbeats do not change the estimate.
func TestClockOffsetIgnoresDelays(t *testing.T) {
	var o clockOffset
	if got := o.estimate(); got != 0 {
		t.Errorf("%v before the first heartbeat", got)
	}
	for _, late := range []time.Duration{4 * time.Second, 200 * time.Millisecond, 3 * time.Second} {
		o.add(time.Minute - late)
	}
	if got := o.estimate(); got != time.Minute-200*time.Millisecond {
		t.Errorf("%v, want 59.8 s", got)
	}
	for range 32 {
		o.add(-time.Second) // the clock was corrected
	}
	if got := o.estimate(); got != -time.Second {
		t.Errorf("%v after the clock was set back, want -1 s", got)
	}
}
