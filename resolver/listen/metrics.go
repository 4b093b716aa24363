package listen

import "github.com/prometheus/client_golang/prometheus"

// Collector returns the collector of the sockets' metrics.
func (s *Server) Collector() prometheus.Collector {
	d := func(name, help string) *prometheus.Desc { return prometheus.NewDesc("rempart_"+name, help, nil, nil) }
	return &collector{
		s:        s,
		drops:    d("udp_receive_drops_total", "Queries the kernel dropped because a socket's receive queue was full."),
		failures: d("udp_send_failures_total", "UDP answers the kernel did not take."),
		amplify:  d("udp_answers_limited_total", "UDP answers that were truncated because the client's network exceeded its limit (REMPART_LIMITS)."),
		slow:     d("slow_queries", "Queries on the slow path now."),
		conns:    d("tcp_connections", "TCP connections open now."),
		refused:  d("tcp_connections_refused_total", "TCP connections closed at once: too many, in all or of one client."),
		evicted:  d("tcp_connections_evicted_total", "TCP connections closed because another client needed the place, or because their client left too many answers unread."),
	}
}

type collector struct {
	s                                                       *Server
	drops, failures, amplify, slow, conns, refused, evicted *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
		ch <- prometheus.MustNewConstMetric(d, t, v)
	}
	var drops, failures uint64
	for _, w := range c.s.workers {
		drops += w.drops()
		failures += w.sendFailures.Load()
	}
	send(c.drops, prometheus.CounterValue, float64(drops))
	send(c.failures, prometheus.CounterValue, float64(failures))
	if a := c.s.amplify; a != nil {
		send(c.amplify, prometheus.CounterValue, float64(a.truncated.Load()))
	}
	send(c.slow, prometheus.GaugeValue, float64(c.s.pool.running.Load()))
	send(c.conns, prometheus.GaugeValue, float64(c.s.streams.count()))
	send(c.refused, prometheus.CounterValue, float64(c.s.streams.refused.Load()))
	send(c.evicted, prometheus.CounterValue, float64(c.s.streams.evicted.Load()))
}
