package resolver

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/blocklist"
	"rempart/internal/wire"
)

// rcodes is the number of rcodes that are counted separately; higher ones share the last place.
const rcodes = 24

// latencyBounds are the bounds of the histogram, in nanoseconds.
var latencyBounds = [...]int64{1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 2.5e6, 5e6, 1e7, 2.5e7, 5e7, 1e8, 2.5e8, 5e8, 1e9, 2.5e9, 5e9}

// counts are the metrics of one worker: written by it, summed when scraped.
type counts struct {
	queries    [wire.Transports][blocklist.Actions][rcodes]atomic.Uint64
	buckets    [len(latencyBounds) + 1]atomic.Uint64
	latencySum atomic.Int64 // nanoseconds
	hits       atomic.Uint64
	misses     atomic.Uint64
	shed       atomic.Uint64
	stale      atomic.Uint64
	renewed    atomic.Uint64
	coalesced  atomic.Uint64
	rebinding  atomic.Uint64
	hitEntries hitTable
	_          [64]byte // no other worker's counters in the last cache line
}

func (c *counts) answered(q *wire.Query) {
	if q.Cached {
		c.hits.Add(1)
	}
	if q.Verdict == uint8(blocklist.BlockedBy) {
		c.hitEntries.noteElsewhere(q.Entry)
	}
	c.kind(q).Add(1)
}

// kind returns the counter of answers like q's.
func (c *counts) kind(q *wire.Query) *atomic.Uint64 {
	return &c.queries[q.Transport][q.Verdict][min(q.Rcode, rcodes-1)]
}

// batch counts the answered queries of a batch, which all took the same time. Most are of one kind: those are added up first.
func (c *counts) batch(nano int64, batch []wire.Query) {
	var kind *atomic.Uint64
	answered, hits, alike, verdicts := 0, 0, uint64(0), uint8(0)
	for i := range batch {
		q := &batch[i]
		if q.Outcome != wire.Answered {
			continue
		}
		answered++
		if q.Cached {
			hits++
		}
		verdicts |= q.Verdict
		if k := c.kind(q); k != kind {
			if kind != nil {
				kind.Add(alike)
			}
			kind, alike = k, 0
		}
		alike++
	}
	if answered == 0 {
		return
	}
	kind.Add(alike)
	if verdicts&uint8(blocklist.BlockedBy) != 0 { // a bit that no other action has
		c.hitEntries.note(batch)
	}
	if hits > 0 {
		c.hits.Add(uint64(hits))
	}
	c.observe(nano, answered)
}

// observe records that n answers took nano each.
func (c *counts) observe(nano int64, n int) {
	i := 0
	for i < len(latencyBounds) && nano > latencyBounds[i] {
		i++
	}
	c.buckets[i].Add(uint64(n))
	c.latencySum.Add(nano * int64(n))
}

// Collector returns the collector of the resolver's and the cache's metrics. No label comes from a query.
func (r *Resolver) Collector() prometheus.Collector { return &collector{r, newDescs()} }

type collector struct {
	r *Resolver
	descs
}

type descs struct {
	queries, latency, shed, stale, renewed, coalesced, rebinding       *prometheus.Desc
	blocks, listBlocks                                                 *prometheus.Desc
	grants, grantsRefused, grantAnswers                                *prometheus.Desc
	cacheHits, cacheMisses                                             *prometheus.Desc
	cacheBytes, cacheLimit, cacheEntries, cacheEvicted                 *prometheus.Desc
	setNames, setBytes, setVersion, setCreated, setObserved, suspended *prometheus.Desc
}

// Totals returns the number of answered queries, and of those that were blocked or would have been in observe mode.
func (r *Resolver) Totals() (queries, blocked uint64) {
	r.mu.Lock()
	all := r.counts
	r.mu.Unlock()
	for _, w := range all {
		for t := range wire.Transports {
			for a := range blocklist.Actions {
				for rc := range rcodes {
					n := w.queries[t][a][rc].Load()
					queries += n
					if a == blocklist.BlockedBy {
						blocked += n
					}
				}
			}
		}
	}
	return queries, blocked
}

func newDescs() descs {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("rempart_"+name, help, labels, nil)
	}
	return descs{
		queries:       d("queries_total", "Queries answered, by transport, verdict (pass, allow, block) and rcode.", "transport", "verdict", "rcode"),
		blocks:        d("blocks_total", "Queries blocked, or that would be where blocks are only observed, by category.", "category"),
		listBlocks:    d("list_blocks_total", "The same by list: where several lists have the name, each of them counts the query.", "list"),
		latency:       d("query_duration_seconds", "Time from reading a query to its answer."),
		shed:          d("queries_shed_total", "Queries answered SERVFAIL for want of room on the slow path."),
		stale:         d("stale_answers_total", "Answers given stale because upstreams failed or were slow."),
		renewed:       d("cache_renewals_total", "Answers renewed before their end because they are asked for often."),
		coalesced:     d("queries_coalesced_total", "Queries that waited for an equal one already asked upstream."),
		rebinding:     d("rebinding_refused_total", "Answers withheld because a public name led to an address of the local network."),
		grants:        d("continue_grants_total", "Queries that set a grant: a client continued to a blocked name. One grant can be set by several queries."),
		grantsRefused: d("continue_refused_total", "Queries with a token that set no grant, by reason.", "reason"),
		grantAnswers:  d("continue_answers_total", "Answers that passed only because their client has a grant."),
		cacheHits:     d("cache_hits_total", "Queries answered from the cache, stale ones included."),
		cacheMisses:   d("cache_misses_total", "Queries that the cache had no answer to, and upstreams were asked for."),
		cacheBytes:    d("cache_bytes", "Bytes of answers held in the cache."),
		cacheLimit:    d("cache_limit_bytes", "Bytes of answers the cache may hold."),
		cacheEntries:  d("cache_entries", "Answers held in the cache."),
		cacheEvicted:  d("cache_evictions_total", "Answers evicted from the cache to make room."),
		setNames:      d("set_names", "Names in the set."),
		setBytes:      d("set_bytes", "Bytes of the set's snapshot."),
		setVersion:    d("set_version", "Version of the set in force."),
		setCreated:    d("set_created_timestamp_seconds", "When the set in force was compiled."),
		setObserved:   d("observe_mode", "1 if blocks are counted but not answered."),
		suspended:     d("suspended", "1 while an operator suspended enforcement: blocks are counted but not answered."),
	}
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.r.mu.Lock()
	all := c.r.counts
	c.r.mu.Unlock()
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	c.collectQueries(all, counter)
	c.collectBlocks(counter)
	c.collectLatency(all, ch)
	sum := func(field func(*counts) *atomic.Uint64) (n uint64) {
		for _, w := range all {
			n += field(w).Load()
		}
		return n
	}
	counter(c.shed, sum(func(w *counts) *atomic.Uint64 { return &w.shed }))
	counter(c.stale, sum(func(w *counts) *atomic.Uint64 { return &w.stale }))
	counter(c.renewed, sum(func(w *counts) *atomic.Uint64 { return &w.renewed }))
	counter(c.coalesced, sum(func(w *counts) *atomic.Uint64 { return &w.coalesced }))
	counter(c.rebinding, sum(func(w *counts) *atomic.Uint64 { return &w.rebinding }))

	if g := c.r.grants; g != nil {
		counter(c.grants, g.granted.Load())
		counter(c.grantsRefused, g.expired.Load(), "expired")
		counter(c.grantsRefused, g.foreign.Load(), "foreign")
		counter(c.grantsRefused, g.notAllowed.Load(), "not-allowed")
		counter(c.grantAnswers, g.used.Load())
	}
	counter(c.cacheHits, sum(func(w *counts) *atomic.Uint64 { return &w.hits }))
	counter(c.cacheMisses, sum(func(w *counts) *atomic.Uint64 { return &w.misses }))
	s := c.r.cache.Stats()
	gauge(c.cacheBytes, float64(s.Bytes))
	gauge(c.cacheLimit, float64(s.Limit))
	gauge(c.cacheEntries, float64(s.Entries))
	counter(c.cacheEvicted, s.Evicted)

	set := c.r.set.View().Stats()
	gauge(c.setNames, float64(set.Names))
	gauge(c.setBytes, float64(set.Bytes))
	gauge(c.setVersion, float64(set.Version))
	gauge(c.setCreated, float64(set.Created.Unix()))
	observe := 0.0
	if c.r.observe {
		observe = 1
	}
	gauge(c.setObserved, observe)
	suspended := 0.0
	if c.r.set.View().Suspended() {
		suspended = 1
	}
	gauge(c.suspended, suspended)
}

func (c *collector) collectQueries(all []*counts, counter func(*prometheus.Desc, uint64, ...string)) {
	for t := range wire.Transports {
		for a := range blocklist.Actions {
			for rc := range rcodes {
				n := uint64(0)
				for _, w := range all {
					n += w.queries[t][a][rc].Load()
				}
				// The common ones exist from the start, so that a rate has a first value.
				if n > 0 || rc == wire.Success && a != blocklist.Allowed {
					counter(c.queries, n, t.String(), a.String(), rcodeName(rc))
				}
			}
		}
	}
}

func (c *collector) collectBlocks(counter func(*prometheus.Desc, uint64, ...string)) {
	byCategory, byList := c.r.Blocks()
	unknown := blocklist.Category(categories - 1).String()
	for category, n := range byCategory {
		if n > 0 || category != unknown { // the known ones exist from the start
			counter(c.blocks, n, category)
		}
	}
	counter(c.listBlocks, byList[unknownList], unknownList)
	delete(byList, unknownList)
	for list, n := range byList {
		counter(c.listBlocks, n, list)
	}
}

func (c *collector) collectLatency(all []*counts, ch chan<- prometheus.Metric) {
	buckets := make(map[float64]uint64, len(latencyBounds))
	total, sum := uint64(0), int64(0)
	for i := range len(latencyBounds) + 1 {
		for _, w := range all {
			total += w.buckets[i].Load()
		}
		if i < len(latencyBounds) {
			buckets[float64(latencyBounds[i])/1e9] = total
		}
	}
	for _, w := range all {
		sum += w.latencySum.Load()
	}
	ch <- prometheus.MustNewConstHistogram(c.latency, total, float64(sum)/1e9, buckets)
}

func rcodeName(rc int) string {
	switch rc {
	case wire.Success:
		return "NOERROR"
	case wire.FormErr:
		return "FORMERR"
	case wire.ServFail:
		return "SERVFAIL"
	case wire.NXDomain:
		return "NXDOMAIN"
	case wire.NotImp:
		return "NOTIMP"
	case wire.Refused:
		return "REFUSED"
	case wire.NotAuth:
		return "NOTAUTH"
	case wire.BadVers:
		return "BADVERS"
	}
	return "RCODE" + strconv.Itoa(rc)
}
