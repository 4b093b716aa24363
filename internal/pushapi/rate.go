package pushapi

import (
	"fmt"
	"math"
	"strings"

	"rempart/internal/changeset"
	"rempart/internal/journal"
)

const (
	usualOver  = 30 // reports over which a node's usual block rate is averaged, approximately
	fewQueries = 20 // too few queries for a block rate
)

// blockRate is the share of a node's queries that is blocked, with its moving average over reports.
type blockRate struct {
	queries, blocked uint64
	mean, square     float64 // moving
	reports          int
}

// add adds the counters of a report.
func (b *blockRate) add(queries, blocked uint64) {
	if queries < b.queries || blocked < b.blocked { // the node was restarted
		b.queries, b.blocked = queries, blocked
		return
	}
	q, n := queries-b.queries, blocked-b.blocked
	if q < fewQueries { // they are added with the next report
		return
	}
	b.queries, b.blocked = queries, blocked
	now := min(1, float64(n)/float64(q))
	b.reports++
	weight := 1 / math.Min(float64(b.reports), usualOver)
	b.mean += weight * (now - b.mean)
	b.square += weight * (now*now - b.square)
}

// baseline returns the block rate of a node at present.
func (n *node) baseline() changeset.Baseline {
	deviation := math.Sqrt(max(0, n.rate.square-n.rate.mean*n.rate.mean))
	return changeset.Baseline{Mean: n.rate.mean, Deviation: deviation, Queries: n.Queries, Blocked: n.Blocked}
}

// Baselines returns the present block rates of the nodes to which a change set is staged, by node.
func (f *fleet) Baselines(set string, share float64) map[string]changeset.Baseline {
	f.mu.Lock()
	defer f.mu.Unlock()
	usual := map[string]changeset.Baseline{}
	for name, n := range f.nodes {
		if own := name[strings.LastIndexByte(name, '/')+1:]; n.rate.reports >= 3 && journal.InStage(set, own, share) {
			usual[name] = n.baseline()
		}
	}
	return usual
}

// Unusual describes a node that blocks unusually much or little compared with its baseline, "" for none.
func (f *fleet) Unusual(usual map[string]changeset.Baseline) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, b := range usual {
		n := f.nodes[name]
		if n == nil {
			continue
		}
		queries, blocked := n.Queries, n.Blocked
		if queries >= b.Queries && blocked >= b.Blocked { // otherwise the node was restarted
			queries, blocked = queries-b.Queries, blocked-b.Blocked
		}
		if queries < fewQueries {
			continue
		}
		rate := float64(blocked) / float64(queries)
		if usual := usualRates(b, queries); rate < usual.low || rate > usual.high {
			return fmt.Sprintf("%s blocks %.2f %% of queries, and its usual share is %.2f to %.2f %%", name, 100*rate, 100*usual.low, 100*usual.high)
		}
	}
	return ""
}

// rateRange is a range of block rates.
type rateRange struct{ low, high float64 }

// usualRates returns the range in which a block rate over a number of queries stays by chance and by its earlier deviation.
func usualRates(b changeset.Baseline, queries uint64) rateRange {
	p := min(max(b.Mean, 0.005), 0.995)
	chance := 4 * math.Sqrt(p*(1-p)/float64(queries))
	slack := max(0.01, 4*b.Deviation, b.Mean/2) + chance
	return rateRange{max(0, b.Mean-slack), min(1, b.Mean+slack)}
}
