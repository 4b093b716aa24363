package refuse

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/blocklist"
)

// The outcomes that connections are counted by: the verdict on the requested name, as a blocklist.Action, or one of these.
const (
	none     = int(blocklist.Actions) + iota // the ClientHello contains no name, or one that is no domain name
	unread                                   // no ClientHello was read: nothing was sent, something other than TLS, or there were too many connections
	outcomes                                 // the number of outcomes
)

// counts are refused connections by outcome.
type counts [outcomes]atomic.Uint64

// outcome returns the outcome for the server name of a ClientHello, of which err is the error of reading it.
func (s *Server) outcome(name string, err error) int {
	if err != nil {
		return unread
	}
	if _, err := netip.ParseAddr(name); err == nil || name == "" { // an address is no server name (RFC 6066 section 3)
		return none
	}
	wire, err := blocklist.AppendName(nil, name)
	if err != nil {
		return none
	}
	return int(s.config.View().Match(wire, s.config.Enforced, time.Now().Unix()).Action)
}

// Collector returns the collector of the metrics. No name and no address is in them.
func (s *Server) Collector() prometheus.Collector {
	return &collector{s, prometheus.NewDesc("rempart_page_https_refused_total",
		"Connections to port 443 of the warning page that were refused, by the verdict on the requested name (SNI); none: without a name, unread: without a ClientHello.", []string{"verdict"}, nil)}
}

type collector struct {
	s       *Server
	refused *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for i, name := range [outcomes]string{
		blocklist.Pass: blocklist.Pass.String(), blocklist.Allowed: blocklist.Allowed.String(), blocklist.BlockedBy: blocklist.BlockedBy.String(),
		none: "none", unread: "unread",
	} {
		ch <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(c.s.counts[i].Load()), name)
	}
}
