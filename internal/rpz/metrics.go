package rpz

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// refusal is the reason why a query got no zone.
type refusal uint8

const (
	refusedNoKey refusal = iota
	refusedBadKey
	refusedBadSignature
	refusedBadTime
	refusedUnknownZone
	refusedQuestion
	refusedMalformed
	refusedNotReady
	refusedBusy
	refusedConnections
	refusals
)

var refusalNames = [refusals]string{
	"no_key", "bad_key", "bad_signature", "bad_time", "unknown_zone", "question", "malformed", "not_ready", "busy", "connections",
}

// transferKind is the kind of a transfer.
type transferKind uint8

const (
	transferWhole      transferKind = iota // AXFR
	transferDifference                     // IXFR
	transferCurrent                        // IXFR: there is nothing new
	transferInstead                        // the whole zone for an IXFR: the history does not reach back
	transferKinds
)

var transferNames = [transferKinds]string{"axfr", "ixfr", "current", "axfr_for_ixfr"}

// metrics are counters. Their zero value is ready.
type metrics struct {
	refused   [refusals]atomic.Uint64
	transfers [maxZones][transferKinds][2]atomic.Uint64 // 1: done
	bytes     [maxZones]atomic.Uint64
	notifies  [2]atomic.Uint64 // 1: answered
}

func (m *metrics) transfer(zone int, kind transferKind, done bool, bytes int) {
	m.transfers[zone][kind][index(done)].Add(1)
	m.bytes[zone].Add(uint64(bytes))
}

func (m *metrics) notify(done bool) { m.notifies[index(done)].Add(1) }

func index(done bool) int {
	if done {
		return 1
	}
	return 0
}

var resultNames = [2]string{"failed", "ok"}

// Collector returns the collector of the zones' metrics. Labels are the configured zones and fixed words.
func (s *Server) Collector() prometheus.Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("rempart_rpz_"+name, help, labels, nil)
	}
	return &collector{
		s:         s,
		transfers: d("transfers_total", "Zone transfers by kind (axfr, ixfr, current: an IXFR without news, axfr_for_ixfr: the whole zone because the history does not reach back) and result.", "zone", "kind", "result"),
		bytes:     d("transfer_bytes_total", "Bytes of zone transfers.", "zone"),
		refused:   d("refused_total", "Queries and connections of secondaries that were refused, by reason.", "reason"),
		notifies:  d("notifies_total", "NOTIFY messages by result: ok was answered, failed was sent several times without an answer.", "result"),
		serial:    d("serial", "The zone's serial.", "zone"),
		leftOut:   d("left_out_records", "Records that the zone cannot hold.", "zone"),
		history:   d("history_records", "Records that the zone's differences hold, for IXFR.", "zone"),
	}
}

type collector struct {
	s                                                             *Server
	transfers, bytes, refused, notifies, serial, leftOut, history *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n *atomic.Uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n.Load()), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	m := &c.s.metrics
	for i, name := range refusalNames {
		counter(c.refused, &m.refused[i], name)
	}
	for i, name := range resultNames {
		counter(c.notifies, &m.notifies[i], name)
	}
	st := c.s.state.Load()
	for i, z := range c.s.zones {
		for kind, name := range transferNames {
			for result, text := range resultNames {
				counter(c.transfers, &m.transfers[i][kind][result], z.text, name, text)
			}
		}
		counter(c.bytes, &m.bytes[i], z.text)
		if st != nil {
			gauge(c.serial, float64(st.serial()), z.text)
			gauge(c.leftOut, float64(st.zones[i].leftOut), z.text)
			gauge(c.history, float64(st.zones[i].history.size), z.text)
		}
	}
}
