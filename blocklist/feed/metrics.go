package feed

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector returns the metrics of the lists. Their labels are the names of the lists as in Status, and fixed words.
func (l *Lists) Collector() prometheus.Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("rempart_list"+name, help, labels, nil)
	}
	return &collector{
		l:       l,
		entries: d("_entries", "Listings of the list that are in force.", "list"),
		refused: d("_refused_lines", "Lines of the list that were refused, by reason.", "list", "reason"),
		held:    d("_held", "Listings of the list that guards refuse or hold, by outcome (refuse, hold) and guard.", "list", "outcome", "guard"),
		result:  d("s", "Lists by the result of their last attempt: ok, stale (the last good copy is in force), failed (there is no copy), waiting.", "result"),
		fetched: d("_fetched_timestamp_seconds", "Time at which the content in force was last known to be the current content of the publisher.", "list"),
		folder:  prometheus.NewDesc("rempart_data_folder_writable", "0 while the data folder cannot be written, so that changes are lost at a restart; otherwise 1.", nil, nil),
		skipped: prometheus.NewDesc("rempart_guard_skipped_lines", "Lines of REMPART_ESSENTIAL and REMPART_RELEASED that cannot be read and are skipped.", []string{"file"}, nil),
		overlay: prometheus.NewDesc("rempart_set_overlay_entries", "Entries of the set in force that differ from its snapshot.", nil, nil),
	}
}

type collector struct {
	l                                                                 *Lists
	entries, refused, held, result, fetched, overlay, folder, skipped *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	results := map[Result]int{OK: 0, Stale: 0, Failed: 0, Waiting: 0}
	for _, s := range c.l.Status().Lists {
		results[s.Result]++
		gauge(c.entries, float64(s.Entries), s.Name)
		for reason, n := range s.Refused {
			gauge(c.refused, float64(n), s.Name, reason)
		}
		for by, n := range s.Held {
			outcome, guard, _ := strings.Cut(by, " ")
			gauge(c.held, float64(n), s.Name, outcome, guard)
		}
		if !s.Fetched.IsZero() {
			gauge(c.fetched, float64(s.Fetched.Unix()), s.Name)
		}
	}
	writable := 1.0
	if c.l.Status().Folder != "" {
		writable = 0
	}
	gauge(c.folder, writable)
	essential, released := c.l.guards.Skipped()
	gauge(c.skipped, float64(essential), "essential")
	gauge(c.skipped, float64(released), "released")
	gauge(c.overlay, float64(c.l.Set().View().Stats().Overlay))
	for r, n := range results {
		gauge(c.result, float64(n), string(r))
	}
}
