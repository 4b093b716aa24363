package setup

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/internal/config"
	"rempart/internal/dnstap"
)

// Tap sends a sample of the answers to the collector of REMPART_DNSTAP. It is a prometheus.Collector of its metrics.
type Tap struct{ *dnstap.Tap }

// NewTap returns a Tap for the collector of REMPART_DNSTAP; nil if none is set. except is the canonical name of a zone: answers for its names are not sent.
func NewTap(c *config.Config, except []byte, version string, log *slog.Logger) *Tap {
	if c.Dnstap.Addr == nil {
		return nil
	}
	clients := map[config.DnstapClients]dnstap.Clients{"cut": dnstap.Cut, "keyed": dnstap.Keyed, "none": dnstap.None}[c.DnstapClients]
	return &Tap{dnstap.New(dnstap.Config{Sink: c.Dnstap.Addr, Every: c.DnstapSample, Clients: clients, Except: except, Node: c.Node, Version: version, Log: log})}
}

func tapDesc() *prometheus.Desc {
	return prometheus.NewDesc("rempart_dnstap_messages_total", "Messages for the dnstap collector, by result: passed on, or dropped because the collector does not take them.", []string{"result"}, nil)
}

// Describe implements prometheus.Collector.
func (t *Tap) Describe(to chan<- *prometheus.Desc) { to <- tapDesc() }

// Collect implements prometheus.Collector.
func (t *Tap) Collect(to chan<- prometheus.Metric) {
	sent, dropped := t.Stats()
	to <- prometheus.MustNewConstMetric(tapDesc(), prometheus.CounterValue, float64(sent), "sent")
	to <- prometheus.MustNewConstMetric(tapDesc(), prometheus.CounterValue, float64(dropped), "dropped")
}
