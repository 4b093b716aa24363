package pushapi

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

const (
	maxNodes    = 10_000
	maxVersions = 1_000              // of which it is known how long nodes took
	nodeGone    = 3 * time.Minute    // without a report
	nodeForget  = 7 * 24 * time.Hour // the same, until it is not listed any more
	usual       = 30                 // how many reports a node's usual block rate comes from, about
)

// fleet is what nodes told of themselves since this control started.
type fleet struct {
	mu       sync.Mutex
	nodes    map[string]*node
	versions map[uint64]*reached
	order    []uint64 // of versions, oldest first
}

// node is one, as it stands.
type node struct {
	journal.Status
	seen time.Time
	rate blockRate
}

// reached is a version, and how long each node took to have it in force.
type reached struct {
	at   time.Time // when control published it
	took map[string]time.Duration
}

// blockRate is which part of a node's queries is blocked, from report to report, and how that usually is.
type blockRate struct {
	queries, blocked uint64
	now              float64 // of the last report in which there were queries
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
	f.versions[version] = &reached{at, map[string]time.Duration{}}
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
		if len(f.nodes) >= maxNodes {
			return
		}
		n = &node{}
		f.nodes[name] = n
	}
	for i := len(f.order) - 1; i >= 0; i-- { // the newest first, down to the one it had
		v := f.order[i]
		if v > st.Version {
			continue
		}
		r := f.versions[v]
		if _, known := r.took[name]; known {
			break
		}
		took := now.Sub(r.at)
		if v == st.Version && st.Took > 0 {
			took = min(took, time.Duration(st.Took)*time.Millisecond) // its own clock may be wrong
		}
		r.took[name] = max(0, took)
	}
	n.rate.add(st.Queries, st.Blocked)
	n.Status, n.seen = st, now
}

// add takes in a node's counters.
func (b *blockRate) add(queries, blocked uint64) {
	if queries < b.queries || blocked < b.blocked { // it started anew
		b.queries, b.blocked = queries, blocked
		return
	}
	q, n := queries-b.queries, blocked-b.blocked
	if q < 20 { // too few to say anything: they count with the next
		return
	}
	b.queries, b.blocked = queries, blocked
	b.now = float64(n) / float64(q)
	b.reports++
	weight := 1 / math.Min(float64(b.reports), usual)
	b.mean += weight * (b.now - b.mean)
	b.square += weight * (b.now*b.now - b.square)
}

// usually is the range a node's block rate stays in.
func (b *blockRate) usually() rates {
	deviation := math.Sqrt(math.Max(0, b.square-b.mean*b.mean))
	slack := math.Max(0.01, math.Max(4*deviation, b.mean/2))
	return rates{Low: math.Max(0, b.mean-slack), High: math.Min(1, b.mean+slack), Known: b.reports >= 3}
}

// rates is a range of block rates.
type rates struct {
	Low, High float64
	Known     bool
}

// rates are the usual ranges of all nodes now.
func (f *fleet) rates() map[string]rates {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]rates, len(f.nodes))
	for name, n := range f.nodes {
		all[name] = n.rate.usually()
	}
	return all
}

// forget drops nodes that are gone for long.
func (f *fleet) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, n := range f.nodes {
		if time.Since(n.seen) > nodeForget {
			delete(f.nodes, name)
		}
	}
}

// Report takes in a node's status. name is whom it came from, as its token says.
func (a *API) Report(name string, data []byte) error {
	var st journal.Status
	if len(data) > journal.MaxStatus {
		return errors.New("a status is shorter")
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return errors.New("not a status")
	}
	if st.Node == "" || len(st.Node) > 64 || strings.ContainsFunc(st.Node, func(r rune) bool { return r <= ' ' || r > '~' }) || st.Blocked > st.Queries {
		return errors.New("not a status: a node's name is 1 to 64 printable characters")
	}
	if name != "" && name != st.Node {
		st.Node = name + "/" + st.Node // several nodes may share a token, and none takes another's name
	}
	a.fleet.report(st.Node, st)
	return nil
}

// Caller is the name of whose token let a request through Guarded.
func Caller(r *http.Request) string {
	if c := callerOf(r.Context()); c != nil {
		return c.Name
	}
	return ""
}

// Applied is to be told what comes into force at control.
func (a *API) Applied(e journal.Effect) {
	if e.Record.Version > 0 {
		a.fleet.published(e.Record.Version, time.UnixMilli(e.Record.Time))
	}
}

// NodeInfo is a node as people see it.
type NodeInfo struct {
	Node      string    `json:"node"`
	Version   uint64    `json:"version" doc:"In force there."`
	Behind    uint64    `json:"behind" doc:"How many versions control is ahead."`
	Seen      time.Time `json:"seen" doc:"Its last report."`
	Gone      bool      `json:"gone,omitempty" doc:"It has not reported for minutes."`
	Suspended bool      `json:"suspended,omitempty"`
	Queries   uint64    `json:"queries" doc:"Since its start."`
	Blocked   uint64    `json:"blocked"`
	Problem   string    `json:"problem,omitempty"`
}

// VersionInfo is how far a version got.
type VersionInfo struct {
	Version uint64    `json:"version"`
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	By      string    `json:"by,omitempty"`
	Nodes   int       `json:"nodes" doc:"That reported lately."`
	InForce int       `json:"in_force" doc:"How many of them have it, or a later one."`
	Median  int64     `json:"median_ms,omitempty" doc:"How long half of the nodes took, in milliseconds."`
	Slowest int64     `json:"slowest_ms,omitempty" doc:"How long the slowest took."`
}

func (a *API) registerFleet() {
	huma.Register(a.api, huma.Operation{
		OperationID: "nodes", Method: http.MethodGet, Path: "/v1/nodes", Summary: "Say how every node stands", Metadata: may(people...), Tags: []string{"nodes"}, Security: secured,
	}, func(context.Context, *struct{}) (*struct {
		Body struct {
			Version uint64     `json:"version" doc:"The newest."`
			Nodes   []NodeInfo `json:"nodes"`
		}
	}, error) {
		out := &struct {
			Body struct {
				Version uint64     `json:"version" doc:"The newest."`
				Nodes   []NodeInfo `json:"nodes"`
			}
		}{}
		out.Body.Version = a.cfg.Control.State().Version
		out.Body.Nodes = a.fleet.list(out.Body.Version)
		return out, nil
	})
	huma.Register(a.api, huma.Operation{
		OperationID: "version", Method: http.MethodGet, Path: "/v1/versions/{version}", Summary: "Say on how many nodes a version is in force", Metadata: may(people...),
		Tags: []string{"nodes"}, Security: secured,
	}, a.version)
}

func (a *API) version(ctx context.Context, in *struct {
	Version uint64 `path:"version"`
}) (*struct{ Body VersionInfo }, error) {
	data, err := a.cfg.Control.Record(ctx, in.Version)
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusNotFound, "path.version", "no such version in this epoch of the journal")
	}
	if err != nil {
		return nil, a.unavailable("the journal cannot be read", err)
	}
	r, _, err := journal.ReadRecord(data)
	if err != nil {
		return nil, a.unavailable("the journal cannot be read", err)
	}
	v := a.fleet.version(in.Version)
	v.Time, v.Kind, v.By = time.UnixMilli(r.Time).UTC(), string(r.Kind), r.By
	return &struct{ Body VersionInfo }{v}, nil
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
	if r := f.versions[version]; r != nil && len(r.took) > 0 {
		var all []time.Duration
		for _, t := range r.took {
			all = append(all, t)
		}
		slices.Sort(all)
		v.Median, v.Slowest = all[len(all)/2].Milliseconds(), all[len(all)-1].Milliseconds()
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

// known is how many nodes reported lately.
func (f *fleet) known() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, node := range f.nodes {
		if time.Since(node.seen) <= nodeGone {
			n++
		}
	}
	return n
}
