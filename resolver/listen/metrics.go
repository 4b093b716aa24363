package listen

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/internal/wire"
	"rempart/resolver/limits"
)

// Collector returns the collector of the sockets' metrics.
func (s *Server) Collector() prometheus.Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("rempart_"+name, help, labels, nil)
	}
	return &collector{
		s:        s,
		drops:    d("udp_receive_drops_total", "Queries the kernel dropped because a socket's receive queue was full."),
		failures: d("udp_send_failures_total", "UDP answers the kernel did not take."),
		ignored:  d("udp_queries_ignored_total", "UDP packets that got no answer, by reason: sent from a port that no client uses (REMPART_IGNORED_PORTS) or, forged, from the server's own address.", "reason"),
		limited:  d("udp_answers_limited_total", "UDP answers above the limit of their client's network (REMPART_LIMITS), by the kind of limit and by what was done (REMPART_LIMITS_ACTION).", "limit", "action"),
		cookies:  d("udp_cookies_total", "UDP queries with a DNS cookie, by what the cookie was: a client cookie alone, a valid, a wrong or expired server cookie, or malformed.", "cookie"),
		slow:     d("slow_queries", "Queries on the slow path now."),
		conns:    d("connections", "Connections open now, by transport.", "transport"),
		refused:  d("connections_refused_total", "Connections closed at once: too many, in all or of one client; too many handshakes of one network; over TLS and QUIC also of clients that may not ask."),
		evicted:  d("connections_evicted_total", "Connections closed because another client needed the place, or because their client left too many answers unread."),
		shaken:   d("handshakes_total", "TLS and QUIC handshakes, by result.", "result"),
		shakes:   d("handshakes_limited_total", "Handshakes above the limit of their client's network (REMPART_HANDSHAKES), by what was done (REMPART_LIMITS_ACTION).", "action"),
		proxy:    d("proxy_failures_total", "Connections, datagrams and requests of REMPART_PROXIES that did not name a client as they must."),
	}
}

type collector struct {
	s                                          *Server
	drops, failures, ignored, limited, cookies *prometheus.Desc
	slow, conns, refused, evicted              *prometheus.Desc
	shaken, shakes, proxy                      *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	var drops, failures, proxyFailures uint64
	var ignored [ignoreReasons]uint64
	var cookies [wire.Cookies]uint64
	for _, w := range c.s.workers {
		drops += w.drops()
		failures += w.counts.sendFailures.Load()
		proxyFailures += w.counts.proxyFailures.Load()
		sum(ignored[:], w.counts.ignored[:])
		sum(cookies[:], w.counts.cookies[:])
	}
	send(c.drops, prometheus.CounterValue, float64(drops))
	send(c.failures, prometheus.CounterValue, float64(failures))
	for i, reason := range [...]string{ignoredPort: "port", ignoredOwnAddress: "own-address"} {
		send(c.ignored, prometheus.CounterValue, float64(ignored[i]), reason)
	}
	for _, cookie := range [...]wire.Cookie{wire.MalformedCookie, wire.ClientCookie, wire.WrongCookie, wire.ValidCookie} {
		send(c.cookies, prometheus.CounterValue, float64(cookies[cookie]), cookie.String())
	}
	if numbers := c.s.limiter.Stats(); numbers != nil {
		for k := range limits.Kinds {
			for a := range limits.Actions {
				send(c.limited, prometheus.CounterValue, float64(numbers[k][a]), k.String(), a.String())
			}
		}
	}
	send(c.slow, prometheus.GaugeValue, float64(c.s.pool.Running()))
	c.collectStreams(send, proxyFailures)
}

// collectStreams collects the metrics of connections, and the failures of proxies, which happen over UDP as well.
func (c *collector) collectStreams(send func(*prometheus.Desc, prometheus.ValueType, float64, ...string), udpProxyFailures uint64) {
	stats := c.s.streams.Stats()
	for t := wire.TCP; t < wire.Transports; t++ {
		send(c.conns, prometheus.GaugeValue, float64(stats.Open[t]), t.String())
	}
	send(c.refused, prometheus.CounterValue, float64(stats.Refused))
	send(c.evicted, prometheus.CounterValue, float64(stats.Evicted))
	send(c.shaken, prometheus.CounterValue, float64(stats.Handshakes), "completed")
	send(c.shaken, prometheus.CounterValue, float64(stats.Failed), "failed")
	if stats.Limited != nil {
		for _, a := range []limits.Action{limits.Drop, limits.Observe} {
			send(c.shakes, prometheus.CounterValue, float64(stats.Limited[limits.Answers][a]), a.String())
		}
	}
	send(c.proxy, prometheus.CounterValue, float64(udpProxyFailures+stats.ProxyFailures))
}

// sum adds the numbers of one worker to those of all.
func sum(all []uint64, one []atomic.Uint64) {
	for i := range one {
		all[i] += one[i].Load()
	}
}
