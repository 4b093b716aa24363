package journal

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Collector returns the follower's metrics.
func (f *Follower) Collector() prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("rempart_journal_"+name, help, nil, nil)
	}
	return &collector{f, []followerMetric{
		{desc("version", "Version of the journal that is completely in force here."), prometheus.GaugeValue, func(h Health) float64 { return float64(h.Version) }},
		{desc("newest_version", "Newest version that control named in a heartbeat."), prometheus.GaugeValue, func(h Health) float64 { return float64(h.Newest) }},
		{desc("epoch", "Epoch of the journal; it rises when a new epoch begins."), prometheus.GaugeValue, func(h Health) float64 { return float64(h.Epoch) }},
		{desc("heartbeat_age_seconds", "Time since control's last new heartbeat, measured by the monotonic clock."), prometheus.GaugeValue, func(h Health) float64 { return h.Heartbeat.Seconds() }},
		{desc("clock_offset_seconds", "By how much control's clock is ahead of this one: the largest difference of the last 32 heartbeats, which may be seconds old when they arrive."), prometheus.GaugeValue, func(h Health) float64 { return h.ControlTime.Seconds() }},
		{desc("in_force_seconds", "Time from control's signature until the last record was in force here."), prometheus.GaugeValue, func(h Health) float64 { return float64(h.Took) / 1000 }},
		{desc("suspended", "1 while an operator suspended enforcement on all nodes."), prometheus.GaugeValue, func(h Health) float64 { return boolValue(h.Suspended) }},
		{desc("trouble", "1 while changes do not arrive, or do not follow the version in force: the log says why."), prometheus.GaugeValue, func(h Health) float64 { return boolValue(h.Problem != "") }},
		{desc("unwritten", "1 while records are in force that could not be written to disk."), prometheus.GaugeValue, func(h Health) float64 { return boolValue(h.Unwritten != "") }},
		{desc("lost_version", "A version that was in force here before and is later than what is in force now: the folder lost or damaged records; 0 for none."), prometheus.GaugeValue, func(h Health) float64 { return float64(h.Lost) }},
		{desc("records_total", "Records put in force."), prometheus.CounterValue, func(h Health) float64 { return float64(h.Records) }},
		{desc("refused_total", "Records and heartbeats that were refused for their signature, order or time."), prometheus.CounterValue, func(h Health) float64 { return float64(h.Refused) }},
		{desc("snapshots_total", "Snapshots fetched and put in force."), prometheus.CounterValue, func(h Health) float64 { return float64(h.Snapshots) }},
	}}
}

type collector struct {
	f       *Follower
	metrics []followerMetric
}

type followerMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(Health) float64
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.metrics {
		ch <- f.desc
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	h := c.f.Health()
	for _, f := range c.metrics {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(h))
	}
}

func boolValue(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
