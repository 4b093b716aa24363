package upstream

import "sync/atomic"

const (
	freeQueries  = 100 // the first queries of a pool, whose repetitions cost nothing
	perToken     = 10  // queries that earn one repetition: 10 %
	maxTokens    = 100 // kept at most, for the moment an upstream dies under load
	hedgeReserve = 5   // left by hedges to failovers, without which a query is lost
)

// budget limits how often questions are sent again, whatever the reason: an upstream in
// trouble must not get a multiple of its load. The zero value is ready.
type budget struct {
	queries atomic.Uint64
	tenths  atomic.Int64 // of tokens
}

// earn counts one query.
func (b *budget) earn() {
	if b.queries.Add(1) <= freeQueries {
		return
	}
	if b.tenths.Add(1) > maxTokens*perToken {
		b.tenths.Add(-1)
	}
}

// take asks leave to send a question again, if reserve tokens are left after it.
func (b *budget) take(reserve int64) bool {
	if b.queries.Load() <= freeQueries {
		return true
	}
	for {
		have := b.tenths.Load()
		if have < (1+reserve)*perToken {
			return false
		}
		if b.tenths.CompareAndSwap(have, have-perToken) {
			return true
		}
	}
}
