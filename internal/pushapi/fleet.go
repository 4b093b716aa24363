package pushapi

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"rempart/internal/journal"
)

const (
	maxNodes    = 10_000
	maxVersions = 1_000              // of which it is known how long nodes took
	nodeGone    = 3 * time.Minute    // without a report
	nodeForget  = 7 * 24 * time.Hour // the same, until it is not listed any more
	usual       = 30                 // how many reports a node's usual block rate comes from, about
	fewQueries  = 20                 // say nothing of a block rate
)

// fleet is what nodes told of themselves since this control started.
type fleet struct {
	mu       sync.Mutex
	nodes    map[string]*node
	free     []int // places of nodes that were forgotten
	versions map[uint64]*reached
	order    []uint64 // of versions, oldest first
}

// node is one, as it stands.
type node struct {
	journal.Status
	place int // in reached.took
	first time.Time
	seen  time.Time
	ahead time.Time // since when it has a later version than the journal; zero: it has not
	told  bool      // that it is ahead
	rate  blockRate
}

// reached is a version, and how long each node took to have it in force.
type reached struct {
	at   time.Time // when control published it
	took []uint32  // milliseconds and one, by a node's place; 0: not yet
}

func (r *reached) known(place int) bool { return place < len(r.took) && r.took[place] != 0 }

func (r *reached) set(place int, took time.Duration) {
	for len(r.took) <= place {
		r.took = append(r.took, 0)
	}
	r.took[place] = uint32(min(max(0, took.Milliseconds()), math.MaxUint32-1)) + 1
}

// blockRate is which part of a node's queries is blocked, from report to report, and how that usually is.
type blockRate struct {
	queries, blocked uint64
	mean, square     float64 // moving
	reports          int
}

func (f *fleet) init() {
	f.nodes, f.versions = map[string]*node{}, map[uint64]*reached{}
}

// published notes a version's moment.
func (f *fleet) published(version uint64, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.versions[version] != nil {
		return
	}
	f.versions[version] = &reached{at: at}
	f.order = append(f.order, version)
	if len(f.order) > maxVersions {
		delete(f.versions, f.order[0])
		f.order = f.order[1:]
	}
}

// report takes in what a node tells.
func (f *fleet) report(name string, st journal.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	n := f.nodes[name]
	if n == nil {
		if n = f.join(name, now); n == nil {
			return
		}
	}
	for i := len(f.order) - 1; i >= 0; i-- { // the newest first, down to the one it had
		v := f.order[i]
		if v > st.Version {
			continue
		}
		r := f.versions[v]
		if r.known(n.place) || r.at.Before(n.first) { // it was not there yet
			break
		}
		took := now.Sub(r.at)
		if v == st.Version && st.Took > 0 {
			took = min(took, time.Duration(st.Took)*time.Millisecond) // its own clock may be wrong
		}
		r.set(n.place, took)
	}
	n.rate.add(st.Queries, st.Blocked)
	n.Status, n.seen = st, now
}

// aheadFor is how long a node must be ahead of control until that is told: it may have a record a moment before control itself.
const aheadFor = 5 * time.Second

// ahead notes whether a node has a later version than the journal, and reports when that is to be told: once.
func (f *fleet) ahead(name string, yes bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[name]
	switch {
	case n == nil:
		return false
	case !yes:
		n.ahead, n.told = time.Time{}, false
	case n.ahead.IsZero():
		n.ahead = time.Now()
	case !n.told && time.Since(n.ahead) > aheadFor:
		n.told = true
		return true
	}
	return false
}

// join makes room for a node: where there is none, of one that is gone; nil if there is none either.
func (f *fleet) join(name string, now time.Time) *node {
	if len(f.nodes) >= maxNodes {
		f.drop(nodeGone)
	}
	if len(f.nodes) >= maxNodes {
		return nil
	}
	n := &node{place: len(f.nodes), first: now}
	if last := len(f.free) - 1; last >= 0 {
		n.place, f.free = f.free[last], f.free[:last]
	}
	f.nodes[name] = n
	return n
}

// forget drops nodes that are gone for long.
func (f *fleet) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(nodeForget)
}

func (f *fleet) drop(after time.Duration) {
	for name, n := range f.nodes {
		if time.Since(n.seen) <= after {
			continue
		}
		delete(f.nodes, name)
		f.free = append(f.free, n.place)
		for _, r := range f.versions {
			if n.place < len(r.took) {
				r.took[n.place] = 0
			}
		}
	}
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

// version says how far one got.
func (f *fleet) version(version uint64) VersionInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := VersionInfo{Version: version}
	for _, n := range f.nodes {
		if time.Since(n.seen) > nodeGone {
			continue
		}
		v.Nodes++
		if n.Version >= version {
			v.InForce++
		}
	}
	if r := f.versions[version]; r != nil {
		all := slices.DeleteFunc(slices.Clone(r.took), func(t uint32) bool { return t == 0 })
		if slices.Sort(all); len(all) > 0 {
			v.Median, v.Slowest = int64(all[len(all)/2])-1, int64(all[len(all)-1])-1
		}
	}
	return v
}

func (f *fleet) list(newest uint64) []NodeInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []NodeInfo{}
	for name, n := range f.nodes {
		i := NodeInfo{
			Node: name, Version: n.Version, Seen: n.seen.UTC(), Gone: time.Since(n.seen) > nodeGone, Suspended: n.Suspended,
			Queries: n.Queries, Blocked: n.Blocked, Problem: n.Problem,
		}
		if newest > n.Version {
			i.Behind = newest - n.Version
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(x, y NodeInfo) int { return strings.Compare(x.Node, y.Node) })
	return all
}

// known is how many nodes reported lately, and how many of them have a later version than the journal.
func (f *fleet) known() (n, ahead int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, node := range f.nodes {
		if time.Since(node.seen) > nodeGone {
			continue
		}
		n++
		if node.told {
			ahead++
		}
	}
	return n, ahead
}
