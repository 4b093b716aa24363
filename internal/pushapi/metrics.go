package pushapi

import (
	"slices"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/internal/journal"
)

// counts are what is counted of calls; calls are few, so a lock does.
type counts struct {
	mu     sync.Mutex
	calls  map[callKind]uint64
	sets   map[State]uint64
	acted  acts
	stages map[string]uint64
}

// acts counts changes by what they do and whether they count; the last act is any other.
type acts [4][2]uint64

var actNames = [len(acts{})]string{string(journal.Block), string(journal.Allow), string(journal.Withdraw), "other"}

func (a *acts) count(do journal.Act, counts bool) {
	at := slices.Index(actNames[:], string(do))
	if at < 0 {
		at = len(a) - 1
	}
	if counts {
		a[at][1]++
	} else {
		a[at][0]++
	}
}

type callKind struct {
	route  string
	status int
}

func (c *counts) init() {
	c.calls, c.sets, c.stages = map[callKind]uint64{}, map[State]uint64{}, map[string]uint64{}
}

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

// acts counts changes of a set that was taken.
func (c *counts) acts(more acts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range more {
		for j := range more[i] {
			c.acted[i][j] += more[i][j]
		}
	}
}

// stage counts how one ended.
func (c *counts) stage(outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stages[outcome]++
}

// Collector exports what the API counts.
func (a *API) Collector() prometheus.Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("rempart_push_"+name, help, labels, nil)
	}
	return &collector{
		a:       a,
		calls:   d("calls_total", "Calls of the operators' API, by route and status.", "route", "status"),
		sets:    d("changesets_total", "Change sets, by what became of them.", "state"),
		acts:    d("changes_total", "Changes in change sets that were taken, by what they do and whether guards let them count.", "act", "outcome"),
		stages:  d("stages_total", "Staged change sets, by how their stage ended.", "outcome"),
		held:    d("held", "Change sets that wait for a second person."),
		nodes:   d("nodes", "Nodes that reported lately."),
		ahead:   d("nodes_ahead", "Nodes that have a later version in force than the journal, or hold another record of a version: was it restored from an older backup? Nothing is published meanwhile."),
		damaged: d("journal_damaged", "1 while the journal lacks records or objects that a server may need. Nothing is published meanwhile."),
		repairs: d("journal_repairs_total", "Times since the start that a new snapshot took the place of what the journal lost."),
	}
}

type collector struct {
	a                                                               *API
	calls, sets, acts, stages, held, nodes, ahead, damaged, repairs *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.calls, c.sets, c.acts, c.stages, c.held, c.nodes, c.ahead, c.damaged, c.repairs} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.held, prometheus.GaugeValue, float64(len(c.a.open.ids(Held))))
	known, ahead := c.a.fleet.known()
	ch <- prometheus.MustNewConstMetric(c.nodes, prometheus.GaugeValue, float64(known))
	ch <- prometheus.MustNewConstMetric(c.ahead, prometheus.GaugeValue, float64(ahead))
	damaged := 0.0
	if c.a.cfg.Control.Damaged() != nil {
		damaged = 1
	}
	ch <- prometheus.MustNewConstMetric(c.damaged, prometheus.GaugeValue, damaged)
	ch <- prometheus.MustNewConstMetric(c.repairs, prometheus.CounterValue, float64(c.a.cfg.Control.Repairs()))
	c.a.counts.mu.Lock()
	defer c.a.counts.mu.Unlock()
	for k, n := range c.a.counts.calls {
		ch <- prometheus.MustNewConstMetric(c.calls, prometheus.CounterValue, float64(n), k.route, strconv.Itoa(k.status))
	}
	for i, act := range actNames {
		for j, outcome := range []string{"refused", "accepted"} {
			ch <- prometheus.MustNewConstMetric(c.acts, prometheus.CounterValue, float64(c.a.counts.acted[i][j]), act, outcome)
		}
	}
	for outcome, n := range c.a.counts.stages {
		ch <- prometheus.MustNewConstMetric(c.stages, prometheus.CounterValue, float64(n), outcome)
	}
	for s, n := range c.a.counts.sets {
		ch <- prometheus.MustNewConstMetric(c.sets, prometheus.CounterValue, float64(n), string(s))
	}
}
