package pushapi

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/internal/appeal"
	"rempart/internal/changeset"
)

// counts counts the calls of the API. Calls are few, so it uses a lock.
type counts struct {
	mu    sync.Mutex
	calls map[callKind]uint64
}

type callKind struct {
	route  string
	status int
}

// call counts one call. There are few routes and statuses.
func (c *counts) call(route string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[callKind{route, status}]++
}

// Collector returns the metrics of the API, of change sets and of the nodes.
func (a *API) Collector() prometheus.Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("rempart_push_"+name, help, labels, nil)
	}
	return &collector{
		a:       a,
		calls:   d("calls_total", "Calls of the operators' API, by route and status.", "route", "status"),
		sets:    d("changesets_total", "Change sets, by state.", "state"),
		acts:    d("changes_total", "Changes in accepted change sets, by action and by the decision of the guards.", "act", "outcome"),
		stages:  d("stages_total", "Staged change sets, by the result of their stage.", "outcome"),
		held:    d("held", "Change sets that wait for a second person."),
		nodes:   d("nodes", "Nodes that reported recently."),
		ahead:   d("nodes_ahead", "Nodes with a later version in force than the newest one of the journal, or with another record of a version, as after a restore of the journal from an older backup. While it is above 0, nothing is published."),
		damaged: d("journal_damaged", "1 while the journal lacks records or objects that a server may need; nothing is published then. Otherwise 0."),
		appeals: prometheus.NewDesc("rempart_appeals", "Appeals that are stored, by state.", []string{"state"}, nil),
		overdue: prometheus.NewDesc("rempart_appeals_overdue", "Undecided appeals whose answer was due.", nil, nil),
		oldest:  prometheus.NewDesc("rempart_appeals_oldest_seconds", "Age of the oldest undecided appeal, in seconds; 0 without one.", nil, nil),
		upheld:  prometheus.NewDesc("rempart_appeals_upheld", "Stored appeals that were upheld, by list that had blocked the name; the value operators stands for the operators' own blocks.", []string{"list"}, nil),
		repairs: d("journal_repairs_total", "Snapshots that replaced lost records or objects of the journal, since the start."),
	}
}

type collector struct {
	a                                                               *API
	calls, sets, acts, stages, held, nodes, ahead, damaged, repairs *prometheus.Desc
	appeals, overdue, oldest, upheld                                *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.calls, c.sets, c.acts, c.stages, c.held, c.nodes, c.ahead, c.damaged, c.repairs, c.appeals, c.overdue, c.oldest, c.upheld} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.collectChangeSets(ch)
	nodes := c.a.fleet.count()
	ch <- prometheus.MustNewConstMetric(c.nodes, prometheus.GaugeValue, float64(nodes.known))
	ch <- prometheus.MustNewConstMetric(c.ahead, prometheus.GaugeValue, float64(nodes.apart))
	damaged := 0.0
	if c.a.cfg.Control.Damaged() != nil {
		damaged = 1
	}
	ch <- prometheus.MustNewConstMetric(c.damaged, prometheus.GaugeValue, damaged)
	ch <- prometheus.MustNewConstMetric(c.repairs, prometheus.CounterValue, float64(c.a.cfg.Control.Repairs()))
	c.collectAppeals(ch)
	c.a.counts.mu.Lock()
	defer c.a.counts.mu.Unlock()
	for k, n := range c.a.counts.calls {
		ch <- prometheus.MustNewConstMetric(c.calls, prometheus.CounterValue, float64(n), k.route, strconv.Itoa(k.status))
	}
}

func (c *collector) collectChangeSets(ch chan<- prometheus.Metric) {
	stats := c.a.sets.Stats()
	ch <- prometheus.MustNewConstMetric(c.held, prometheus.GaugeValue, float64(stats.Held))
	for i, act := range changeset.ActNames() {
		ch <- prometheus.MustNewConstMetric(c.acts, prometheus.CounterValue, float64(stats.Acts[i].Refused), act, "refused")
		ch <- prometheus.MustNewConstMetric(c.acts, prometheus.CounterValue, float64(stats.Acts[i].Accepted), act, "accepted")
	}
	for outcome, n := range map[string]uint64{"advanced": stats.Advanced, "withdrawn": stats.Withdrawn} {
		if n > 0 { // an outcome is exported from its first time on
			ch <- prometheus.MustNewConstMetric(c.stages, prometheus.CounterValue, float64(n), outcome)
		}
	}
	for state, n := range stats.States {
		ch <- prometheus.MustNewConstMetric(c.sets, prometheus.CounterValue, float64(n), string(state))
	}
}

func (c *collector) collectAppeals(ch chan<- prometheus.Metric) {
	if c.a.appeals == nil {
		return
	}
	stats := c.a.appeals.Stats()
	for _, state := range appeal.States() {
		ch <- prometheus.MustNewConstMetric(c.appeals, prometheus.GaugeValue, float64(stats.ByState[state]), string(state))
	}
	ch <- prometheus.MustNewConstMetric(c.overdue, prometheus.GaugeValue, float64(stats.Overdue))
	ch <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, stats.Oldest.Seconds())
	stats.Upheld[appeal.Operators] += 0 // exported from the start
	for list, n := range stats.Upheld {
		ch <- prometheus.MustNewConstMetric(c.upheld, prometheus.GaugeValue, float64(n), list)
	}
}
