package pushapi

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"rempart/internal/journal"
)

const (
	maxNodes    = 10_000
	maxVersions = 1_000              // for which the fleet holds how long nodes took
	nodeGone    = 3 * time.Minute    // without a report, after which a node is gone
	nodeForget  = 7 * 24 * time.Hour // without a report, after which a node is not listed any more
)

// fleet holds the nodes that report, and those that reported before this control started.
type fleet struct {
	begun    time.Time
	mu       sync.Mutex
	nodes    map[string]*node
	ofToken  map[string]*tokenNodes
	swept    time.Time // when nodes that are gone were last removed to make room
	free     []int     // places of forgotten nodes
	versions map[uint64]*reached
	order    []uint64        // of versions, oldest first
	unsaved  map[string]bool // names of nodes whose stored state is out of date
	reported chan struct{}   // closed at the next report
}

// tokenNodes are the nodes that report with one token.
type tokenNodes struct {
	places int
	full   bool // it is logged that there is no room for more of them
}

// tokenOf returns the name of the token of a node that reports as name: as Report composes it.
func tokenOf(name string) string {
	token, _, _ := strings.Cut(name, "/")
	return token
}

// node is a node with its last report.
type node struct {
	journal.Status
	place    int // in reached.took
	first    time.Time
	seen     time.Time
	awaited  bool // it has not reported since this control started
	wasGone  bool // it was gone when it was saved
	position position
	apart    time.Time // since when its position is ahead or forked; zero: it is neither
	logged   bool      // its position was logged
	rate     blockRate
}

// gone reports whether a node has not reported for nodeGone. For a node that has not reported since control started, the start is regarded as a report.
func (f *fleet) gone(n *node) bool {
	seen := n.seen
	if n.awaited && f.begun.After(seen) {
		seen = f.begun
	}
	return time.Since(seen) > nodeGone || n.awaited && n.wasGone
}

// reached is a version and the time that each node took until the version was in force.
type reached struct {
	at   time.Time // when control published it
	took []uint32  // milliseconds plus one, by a node's place; 0: not in force yet
}

func (r *reached) known(place int) bool { return place < len(r.took) && r.took[place] != 0 }

func (r *reached) set(place int, took time.Duration) {
	for len(r.took) <= place {
		r.took = append(r.took, 0)
	}
	r.took[place] = uint32(min(max(0, took.Milliseconds()), math.MaxUint32-1)) + 1
}

func (f *fleet) init() {
	f.begun, f.nodes, f.versions, f.unsaved, f.reported = time.Now(), map[string]*node{}, map[uint64]*reached{}, map[string]bool{}, make(chan struct{})
	f.ofToken = map[string]*tokenNodes{}
}

// notePublished stores when a version was published.
func (f *fleet) notePublished(version uint64, at time.Time) {
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

// reportResult says which facts about a report are new, and are to be logged.
type reportResult struct {
	apart bool // the node's position has been ahead or forked for long enough
	full  bool // there is no room for the node, for the first time for its token
}

// report stores the report of a node.
func (f *fleet) report(name string, st journal.Status, at position) reportResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	n := f.nodes[name]
	if n == nil {
		if n = f.join(name, now); n == nil {
			return reportResult{full: f.noteFull(tokenOf(name))}
		}
		f.unsaved[name] = true
	}
	if at == positionFollowing {
		f.noteTimes(n, st, now)
	}
	if n.awaited || n.wasGone || time.Since(n.seen) > nodeGone {
		f.unsaved[name] = true
	}
	n.rate.add(st.Queries, st.Blocked)
	n.Status, n.seen, n.awaited, n.wasGone = st, now, false, false
	close(f.reported)
	f.reported = make(chan struct{})
	return reportResult{apart: n.note(at, now)}
}

// noteFull reports whether it was not logged yet that there is no room for more nodes of a token.
func (f *fleet) noteFull(token string) bool {
	of := f.ofToken[token]
	if of == nil { // all places belong to other tokens: those were logged
		return false
	}
	before := of.full
	of.full = true
	return !before
}

// noteTimes stores how long a node took for the versions that are newly in force on it.
func (f *fleet) noteTimes(n *node, st journal.Status, now time.Time) {
	for i := len(f.order) - 1; i >= 0; i-- { // the newest first, down to the version that was in force before
		v := f.order[i]
		if v > st.Version {
			continue
		}
		r := f.versions[v]
		if r.known(n.place) || r.at.Before(n.first) { // the node did not exist yet
			return
		}
		took := now.Sub(r.at)
		if v == st.Version && st.Took > 0 {
			took = min(took, time.Duration(st.Took)*time.Millisecond) // the node's clock may be wrong
		}
		r.set(n.place, took)
	}
}

// join makes room for a node; nil if there is none.
func (f *fleet) join(name string, now time.Time) *node {
	token := tokenOf(name)
	if len(f.nodes) >= maxNodes && !f.makeRoom(token, now) {
		return nil
	}
	n := &node{place: len(f.nodes), first: now}
	if last := len(f.free) - 1; last >= 0 {
		n.place, f.free = f.free[last], f.free[:last]
	}
	f.nodes[name] = n
	if f.ofToken[token] == nil {
		f.ofToken[token] = &tokenNodes{}
	}
	f.ofToken[token].places++
	return n
}

// makeRoom frees a place for a node of a token if all places are taken, and reports whether it did. Tokens share the places equally, as far as they need
// them: the token with most nodes loses nodes that are gone, then its newest one. A stolen token that reports under any number of names thus displaces
// no node of another token, and no earlier node of its own.
func (f *fleet) makeRoom(token string, now time.Time) bool {
	largest, most := "", 0
	for name, of := range f.ofToken {
		if of.places > most {
			largest, most = name, of.places
		}
	}
	own := 0
	if of := f.ofToken[token]; of != nil {
		own = of.places
	}
	if now.Sub(f.swept) > time.Second { // the search is slow, and there may be many reports
		f.swept = now
		f.drop(nodeGone, largest)
		if len(f.nodes) >= maxNodes && own < most {
			f.drop(nodeGone, "")
		}
	}
	if len(f.nodes) < maxNodes {
		return true
	}
	if own+1 >= most {
		return false
	}
	newest := ""
	for name, n := range f.nodes {
		if tokenOf(name) == largest && (newest == "" || n.first.After(f.nodes[newest].first)) {
			newest = name
		}
	}
	f.remove(newest, f.nodes[newest])
	return true
}

// expire forgets nodes that have not reported for a week.
func (f *fleet) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(nodeForget, "")
}

// drop removes the nodes of a token, "" for all, that have not reported for so long.
func (f *fleet) drop(after time.Duration, token string) {
	for name, n := range f.nodes {
		if time.Since(n.seen) > after && (token == "" || tokenOf(name) == token) {
			f.remove(name, n)
		}
	}
}

func (f *fleet) remove(name string, n *node) {
	delete(f.nodes, name)
	token := tokenOf(name)
	if of := f.ofToken[token]; of.places > 1 {
		of.places--
	} else {
		delete(f.ofToken, token)
	}
	f.unsaved[name] = true
	f.free = append(f.free, n.place)
	for _, r := range f.versions {
		if n.place < len(r.took) {
			r.took[n.place] = 0
		}
	}
}

// nodeReports is the time after a report for which a node is regarded as still reporting. Nodes report every ten seconds.
const nodeReports = time.Minute

// forgetResult is the outcome of forget.
type forgetResult struct {
	forgotten int      // nodes that were forgotten
	reporting []string // those of them that still report: they are known again from their next report
	ambiguous []string // nodes of several tokens to which the name applies; then none is forgotten
}

// forget forgets the nodes to which a name applies.
func (f *fleet) forget(name string) forgetResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	names, ok := f.named(name)
	if !ok {
		return forgetResult{ambiguous: names}
	}
	out := forgetResult{forgotten: len(names)}
	for _, other := range names {
		n := f.nodes[other]
		if !n.awaited && time.Since(n.seen) < nodeReports {
			out.reporting = append(out.reporting, other)
		}
		f.remove(other, n)
	}
	return out
}

// forgetToken forgets all nodes that report with a token.
func (f *fleet) forgetToken(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, n := range f.nodes {
		if ofToken(name, token) {
			f.remove(name, n)
		}
	}
}

// ofToken reports whether a node of that name reports with a token: under its own name after the token's, or under the token's name.
func ofToken(name, token string) bool { return name == token || strings.HasPrefix(name, token+"/") }

// named returns the names of the nodes to which a name applies, in order: the node that is listed under the name, or all nodes of the token with that name,
// or the node that reports under the name with any token. ok is false if nodes of several tokens report under the name.
func (f *fleet) named(name string) (names []string, ok bool) {
	var own []string
	for other := range f.nodes {
		switch {
		case ofToken(other, name):
			names = append(names, other)
		case strings.HasSuffix(other, "/"+name):
			own = append(own, other)
		}
	}
	if ok = true; len(names) == 0 {
		names, ok = own, len(own) < 2
	}
	slices.Sort(names)
	return names, ok
}

// version returns the number of nodes on which a version of an epoch is in force.
func (f *fleet) version(epoch, version uint64) VersionInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := VersionInfo{Version: version}
	for _, n := range f.nodes {
		if f.gone(n) {
			continue
		}
		v.Nodes++
		if n.holds(epoch, version) {
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

func (f *fleet) list(epoch, newest uint64) []NodeInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []NodeInfo{}
	for name, n := range f.nodes {
		i := NodeInfo{
			Node: name, Epoch: n.Epoch, Version: n.Version, Seen: n.seen.UTC(), Gone: f.gone(n), Awaited: n.awaited, Suspended: n.Suspended,
			Queries: n.Queries, Blocked: n.Blocked, Country: n.Country, Operator: n.Operator,
		}
		if !i.Gone && !n.awaited { // its last report may be out of date
			i.Problem = n.problem(epoch, newest)
		}
		if newest > n.Version {
			i.Behind = newest - n.Version
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(x, y NodeInfo) int { return strings.Compare(x.Node, y.Node) })
	return all
}

// nodeCount is the number of nodes that are not gone, and of those that are ahead of the journal or hold another record of it.
type nodeCount struct{ known, apart int }

// count returns the number of nodes.
func (f *fleet) count() (c nodeCount) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, node := range f.nodes {
		if f.gone(node) {
			continue
		}
		c.known++
		if node.logged {
			c.apart++
		}
	}
	return c
}
