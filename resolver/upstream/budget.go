package upstream

import "sync/atomic"

const (
	freeQueries  = 100 // the first queries of a pool, whose repetitions cost nothing
	perToken     = 10  // queries that earn one repetition: 10 %
	maxTokens    = 100 // tokens kept at most, for the moment when an upstream fails under load
	hedgeReserve = 5   // tokens that hedges leave to failovers, without which a query is lost

	perAnswer   = 3   // tenths of a token that an answer earns the upstream it came from: 30 %
	firstCredit = 10  // tokens of an upstream that has not answered yet
	maxCredit   = 200 // tokens kept at most, for a burst of lost packets
)

// bucket holds tokens, counted in tenths. The zero value is empty.
type bucket struct{ tenths atomic.Int64 }

// add puts tenths of tokens in, as long as it holds fewer than most tokens.
func (b *bucket) add(tenths, most int64) {
	if b.tenths.Load() < most*perToken {
		b.tenths.Add(tenths)
	}
}

// take removes one token and returns true if at least reserve tokens remain.
func (b *bucket) take(reserve int64) bool {
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

// budget limits how often a pool sends questions again on suspicion only: hedges, failovers before the
// answer is overdue, repetitions to an upstream that does not answer. An upstream in trouble must not
// receive a multiple of its load. The zero value is ready.
//
// Two kinds of sending do not use it. A failover to an upstream that is well costs nothing: it puts the
// load where it can be borne. A repetition of an overdue question to an upstream that answers others is
// paid by those answers (member.credit): packets get lost on the way to it, and it is not overloaded.
type budget struct {
	bucket
	queries atomic.Uint64
}

// earn counts n queries.
func (b *budget) earn(n uint64) {
	if b.queries.Add(n) > freeQueries {
		b.add(int64(n), maxTokens)
	}
}

// take reports whether a question may be sent again, with reserve tokens left after it.
func (b *budget) take(reserve int64) bool {
	return b.queries.Load() <= freeQueries || b.bucket.take(reserve)
}
