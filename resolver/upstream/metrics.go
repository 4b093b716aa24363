package upstream

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/resolver/upstream/transport"
)

// Collector returns the collector of the pool's metrics. zone, in text form, distinguishes the pools of one process: "." is the pool for every name without a
// zone of its own.
func (p *Pool) Collector(zone string) prometheus.Collector { return newCollector(zone, p.Stats) }

// Collector returns the collector of the metrics of the current pool, as Pool.Collector does.
func (s *Switch) Collector(zone string) prometheus.Collector { return newCollector(zone, s.Stats) }

func newCollector(zone string, stats func() Stats) prometheus.Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("rempart_upstream_"+name, help, labels, prometheus.Labels{"zone": zone})
	}
	return &collector{
		stats:      stats,
		info:       d("info", "1, with the protocol by which the upstream is asked.", "upstream", "protocol"),
		healthy:    d("healthy", "1 if the upstream is not down and does not forward back to this server.", "upstream"),
		looping:    d("looping", "1 if the upstream forwards back to this server, and is not used.", "upstream"),
		cookies:    d("cookies", "1 if queries to the upstream carry DNS cookies, which it echoes.", "upstream"),
		queries:    d("queries_total", "Attempts at the upstream, those after a failure and hedges included, probes not.", "upstream"),
		failures:   d("failures_total", "Attempts that failed, by kind.", "upstream", "kind"),
		retries:    d("retries_total", "Queries sent again because an earlier one had failed, by another attempt, within an attempt or within a probe.", "upstream"),
		hedges:     d("hedges_total", "Attempts sent because another was slow.", "upstream"),
		foreign:    d("foreign_answers_total", "Messages that answer no question: forged or too late.", "upstream"),
		rtt:        d("rtt_seconds", "Smoothed round-trip time.", "upstream"),
		latency:    d("latency_seconds", "Round-trip time of the answers; the quantiles are those of the newest 512 answers.", "upstream"),
		p95:        d("rtt_p95_seconds", "Estimated 95th percentile of the round-trip time, after which a hedge is sent.", "upstream"),
		questions:  d("questions_total", "Questions asked of the upstreams together."),
		unanswered: d("unanswered_total", "Questions that no upstream answered."),
		shed:       d("shed_total", "Questions for which there was no room among those that are asked again."),
		denied:     d("denied_total", "Questions of which a retry or hedge was held back, because those sent on suspicion are limited to a tenth of all questions."),
		inFlight:   d("in_flight", "Questions that wait for an upstream now."),
	}
}

type collector struct {
	stats                                                                                           func() Stats
	info, healthy, looping, cookies, queries, failures, retries, hedges, foreign, rtt, latency, p95 *prometheus.Desc
	questions, unanswered, shed, denied, inFlight                                                   *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	s := c.stats()
	for _, u := range s.Upstreams {
		send(c.info, prometheus.GaugeValue, 1, u.Upstream, u.Protocol)
		send(c.healthy, prometheus.GaugeValue, flag(u.Healthy), u.Upstream)
		send(c.looping, prometheus.GaugeValue, flag(u.Looping), u.Upstream)
		send(c.cookies, prometheus.GaugeValue, flag(u.Cookies), u.Upstream)
		send(c.queries, prometheus.CounterValue, float64(u.Queries), u.Upstream)
		send(c.retries, prometheus.CounterValue, float64(u.Retries), u.Upstream)
		send(c.hedges, prometheus.CounterValue, float64(u.Hedges), u.Upstream)
		send(c.foreign, prometheus.CounterValue, float64(u.Foreign), u.Upstream)
		send(c.rtt, prometheus.GaugeValue, u.RTT.Seconds(), u.Upstream)
		send(c.p95, prometheus.GaugeValue, u.EstimatedP95.Seconds(), u.Upstream)
		ch <- prometheus.MustNewConstSummary(c.latency, u.Answers, u.AnswerTime.Seconds(), quantiles(&u), u.Upstream)
		for kind, n := range u.Failures {
			send(c.failures, prometheus.CounterValue, float64(n), u.Upstream, transport.Failure(kind).String())
		}
	}
	send(c.questions, prometheus.CounterValue, float64(s.Queries))
	send(c.unanswered, prometheus.CounterValue, float64(s.Unanswered))
	send(c.shed, prometheus.CounterValue, float64(s.Shed))
	send(c.denied, prometheus.CounterValue, float64(s.Denied))
	send(c.inFlight, prometheus.GaugeValue, float64(s.InFlight))
}

// quantiles returns the quantiles of the round-trip time, which are not a number before the first answer.
func quantiles(u *Stat) map[float64]float64 {
	if u.Answers == 0 {
		return map[float64]float64{0.5: math.NaN(), 0.95: math.NaN(), 0.99: math.NaN()}
	}
	return map[float64]float64{0.5: u.P50.Seconds(), 0.95: u.P95.Seconds(), 0.99: u.P99.Seconds()}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
