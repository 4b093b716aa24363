package canary

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// results are the metrics of the rounds.
type results struct {
	answers  *prometheus.CounterVec
	wrong    *prometheus.GaugeVec
	duration *prometheus.HistogramVec
	version  *prometheus.GaugeVec
	differ   prometheus.Gauge
	last     prometheus.Gauge
}

func newResults(registry prometheus.Registerer) *results {
	r := &results{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rempart_canary_answers_total",
			Help: "Answers of the nodes, by the expected verdict (block, pass) and the verdict in the answer (block, pass, none)."}, []string{"node", "transport", "want", "got"}),
		wrong: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rempart_canary_wrong_answers", Help: "Wrong and missing answers in the last round."}, []string{"node", "transport"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rempart_canary_answer_seconds",
			Help: "Time from question to answer, as the canary sees it.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"node", "transport"}),
		version: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rempart_canary_node_version", Help: "Version of the set of each node whose metrics are read."}, []string{"node"}),
		differ:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "rempart_canary_disputed_names", Help: "Names about which two nodes or transports gave different verdicts in the last round."}),
		last:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "rempart_canary_last_round_timestamp_seconds", Help: "When the last round ended; before the end of the first one, when the canary was started."}),
	}
	registry.MustRegister(r.answers, r.wrong, r.duration, r.version, r.differ, r.last)
	r.last.SetToCurrentTime()
	return r
}

// note records one answer.
func (r *results) note(a *asker, q question, got verdict, took time.Duration) {
	r.answers.WithLabelValues(a.node, a.transport, string(q.want()), string(got)).Inc()
	if got != none {
		r.duration.WithLabelValues(a.node, a.transport).Observe(took.Seconds())
	}
}

func (r *results) versionOf(node string, version float64) {
	r.version.WithLabelValues(node).Set(version)
}

// end records the end of a round.
func (r *results) end(wrong *tally, differ int, at time.Time) {
	for s, n := range wrong.all {
		r.wrong.WithLabelValues(s.node, s.transport).Set(float64(n))
	}
	r.differ.Set(float64(differ))
	r.last.Set(float64(at.Unix()))
}

// maxMetrics bounds the metrics of a node, in bytes, after decompression: reading them needs several times as much memory. A server with hundreds of lists has 1 MB.
const maxMetrics = 8 << 20

// readVersion reads the version of a node's set from its metrics.
func readVersion(ctx context.Context, url string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", url, res.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(res.Body, maxMetrics))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", url, err)
	}
	for _, m := range families["rempart_set_version"].GetMetric() {
		return m.GetGauge().GetValue() + m.GetUntyped().GetValue(), nil
	}
	return 0, fmt.Errorf("%s has no rempart_set_version", url)
}
