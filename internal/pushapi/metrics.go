package pushapi

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are what is counted of calls; calls are few, so a lock does.
type counts struct {
	mu    sync.Mutex
	calls map[callKind]uint64
	sets  map[State]uint64
	held  atomic.Int64
}

type callKind struct {
	route  string
	status int
}

func (c *counts) init() { c.calls, c.sets = map[callKind]uint64{}, map[State]uint64{} }

// call counts one; routes and statuses are few.
func (c *counts) call(route string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[callKind{route, status}]++
}

func (c *counts) set(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sets[s]++
}

// Collector exports what the API counts.
func (a *API) Collector() prometheus.Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("rempart_push_"+name, help, labels, nil)
	}
	return &collector{
		a:     a,
		calls: d("calls_total", "Calls of the operators' API, by route and status.", "route", "status"),
		sets:  d("changesets_total", "Change sets, by what became of them.", "state"),
		held:  d("held", "Change sets that wait for a second person."),
		nodes: d("nodes", "Nodes that reported lately."),
	}
}

type collector struct {
	a                        *API
	calls, sets, held, nodes *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.calls, c.sets, c.held, c.nodes} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.held, prometheus.GaugeValue, float64(c.a.counts.held.Load()))
	ch <- prometheus.MustNewConstMetric(c.nodes, prometheus.GaugeValue, float64(c.a.fleet.known()))
	c.a.counts.mu.Lock()
	defer c.a.counts.mu.Unlock()
	for k, n := range c.a.counts.calls {
		ch <- prometheus.MustNewConstMetric(c.calls, prometheus.CounterValue, float64(n), k.route, strconv.Itoa(k.status))
	}
	for s, n := range c.a.counts.sets {
		ch <- prometheus.MustNewConstMetric(c.sets, prometheus.CounterValue, float64(n), string(s))
	}
}
