package upstream

import (
	"math"
	"slices"
	"time"
)

// roundTrips is a ring of the newest round-trip times of an upstream, in microseconds.
type roundTrips [512]uint32

// set stores the round-trip time of answer n, counted from 0.
func (r *roundTrips) set(n int, rtt time.Duration) {
	r[n%len(r)] = uint32(min(max(rtt.Microseconds(), 0), math.MaxUint32))
}

// Percentiles are percentiles of round-trip times: the smallest time that is not exceeded by 50, 95 or 99 of 100 answers.
type Percentiles struct{ P50, P95, P99 time.Duration }

// percentiles returns the percentiles after n answers: those of the newest ones in r. They are 0 before the first answer.
func (r roundTrips) percentiles(n int) Percentiles {
	sorted := r[:min(n, len(r))] // r is a copy
	if len(sorted) == 0 {
		return Percentiles{}
	}
	slices.Sort(sorted)
	of := func(percent int) time.Duration {
		rank := (percent*len(sorted) + 99) / 100 // from 1, rounded up
		return time.Duration(sorted[rank-1]) * time.Microsecond
	}
	return Percentiles{of(50), of(95), of(99)}
}
