package pushapi

import (
	"fmt"
	"math"
	"strings"

	"rempart/internal/journal"
)

const (
	usual      = 30 // how many reports a node's usual block rate comes from, about
	fewQueries = 20 // say nothing of a block rate
)

// blockRate is which part of a node's queries is blocked, from report to report, and how that usually is.
type blockRate struct {
	queries, blocked uint64
	mean, square     float64 // moving
	reports          int
}

// add takes in a node's counters.
func (b *blockRate) add(queries, blocked uint64) {
	if queries < b.queries || blocked < b.blocked { // it started anew
		b.queries, b.blocked = queries, blocked
		return
	}
	q, n := queries-b.queries, blocked-b.blocked
	if q < fewQueries { // they count with the next
		return
	}
	b.queries, b.blocked = queries, blocked
	now := min(1, float64(n)/float64(q))
	b.reports++
	weight := 1 / math.Min(float64(b.reports), usual)
	b.mean += weight * (now - b.mean)
	b.square += weight * (now*now - b.square)
}

// before is how a node stood when a stage began.
type before struct {
	Mean      float64 `json:"mean"` // of its block rate
	Deviation float64 `json:"deviation"`
	Queries   uint64  `json:"queries"` // since its start
	Blocked   uint64  `json:"blocked"`
}

// begin is a stage that begins with a record, and how the nodes that it goes to stand now.
func (f *fleet) begin(set string, s *journal.Stage, r journal.Receipt) *stage {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := &stage{Share: s.Share, Until: r.Time/1000 + s.Seconds, Usual: map[string]before{}}
	for name, n := range f.nodes {
		if own := name[strings.LastIndexByte(name, '/')+1:]; n.rate.reports >= 3 && journal.Staged(set, own, s.Share) {
			st.Usual[name] = before{n.rate.mean, math.Sqrt(max(0, n.rate.square-n.rate.mean*n.rate.mean)), n.Queries, n.Blocked}
		}
	}
	return st
}

// unusual says which of the nodes that have a staged change set blocks unusually much or little since, or nothing.
func (f *fleet) unusual(s *stage) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, b := range s.Usual {
		n := f.nodes[name]
		if n == nil {
			continue
		}
		queries, blocked := n.Queries, n.Blocked
		if queries >= b.Queries && blocked >= b.Blocked { // or it started anew
			queries, blocked = queries-b.Queries, blocked-b.Blocked
		}
		if queries < fewQueries {
			continue
		}
		now := float64(blocked) / float64(queries)
		if low, high := b.usually(queries); now < low || now > high {
			return fmt.Sprintf("%s blocks %.2f %% of queries, and usually %.2f to %.2f %%", name, 100*now, 100*low, 100*high)
		}
	}
	return ""
}

// usually is the range that a block rate over so many queries stays in: what it differed by before, and by chance.
func (b before) usually(queries uint64) (low, high float64) {
	p := min(max(b.Mean, 0.005), 0.995)
	chance := 4 * math.Sqrt(p*(1-p)/float64(queries))
	slack := max(0.01, 4*b.Deviation, b.Mean/2) + chance
	return max(0, b.Mean-slack), min(1, b.Mean+slack)
}
