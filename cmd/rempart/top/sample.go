package top

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"rempart/blocklist/feed"
	"rempart/internal/local"
)

// sample is what a server says of itself at one moment.
type sample struct {
	at        time.Time
	status    local.Status
	lists     feed.Status
	upstreams []local.UpstreamGroup
	metrics   map[string]*dto.MetricFamily
}

// take asks a server.
func take(ctx context.Context, client *local.Client) (s sample, err error) {
	s.at = time.Now()
	if s.status, err = client.Status(ctx); err != nil {
		return s, err
	}
	if err = json.Unmarshal(s.status.Feeds, &s.lists); err != nil {
		return s, err
	}
	if s.upstreams, err = client.Upstreams(ctx); err != nil {
		return s, err
	}
	return s, client.Metrics(ctx, func(r io.Reader) (err error) {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		s.metrics, err = parser.TextToMetricFamilies(r)
		return err
	})
}

// sum returns the sum of the values of a metric whose labels have all the given values; labels are pairs of a name and a value.
func (s sample) sum(name string, labels ...string) (total float64) {
	for _, m := range s.metrics[name].GetMetric() {
		if !matches(m, labels) {
			continue
		}
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
	}
	return total
}

func matches(m *dto.Metric, labels []string) bool {
	for pair := range slices.Chunk(labels, 2) {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == pair[0] && l.GetValue() == pair[1] }) {
			return false
		}
	}
	return true
}

// values returns the values of a label of a metric, in their order.
func (s sample) values(name, label string) (all []string) {
	for _, m := range s.metrics[name].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == label && !slices.Contains(all, l.GetValue()) {
				all = append(all, l.GetValue())
			}
		}
	}
	slices.Sort(all)
	return all
}

// rate returns how much a metric grew per second since an earlier sample; 0 if the server was started in the meantime.
func (s sample) rate(before sample, name string, labels ...string) float64 {
	seconds := s.at.Sub(before.at).Seconds()
	if seconds <= 0 || !s.status.Started.Equal(before.status.Started) {
		return 0
	}
	return max(0, s.sum(name, labels...)-before.sum(name, labels...)) / seconds
}

const durations = "rempart_query_duration_seconds"

// quantile returns the time that this share of the queries since an earlier sample did not exceed, as the bound of a bucket. There is none if there were no queries.
func (s sample) quantile(before sample, share float64) (time.Duration, bool) {
	now, then := s.buckets(), before.buckets()
	if !s.status.Started.Equal(before.status.Started) {
		then = nil
	}
	grown := func(bound float64) float64 { return now[bound] - then[bound] }
	all := grown(math.Inf(1))
	if all <= 0 {
		return 0, false
	}
	bounds := make([]float64, 0, len(now))
	for bound := range now {
		bounds = append(bounds, bound)
	}
	slices.Sort(bounds)
	for _, bound := range bounds {
		if grown(bound) >= share*all && !math.IsInf(bound, 1) {
			return time.Duration(bound * float64(time.Second)), true
		}
	}
	return math.MaxInt64, true // above the largest bound
}

// buckets returns the numbers of queries by the upper bound of their time, cumulated.
func (s sample) buckets() map[float64]float64 {
	all := map[float64]float64{}
	for _, m := range s.metrics[durations].GetMetric() {
		for _, b := range m.GetHistogram().GetBucket() {
			all[b.GetUpperBound()] += float64(b.GetCumulativeCount())
		}
		if _, ok := all[math.Inf(1)]; !ok {
			all[math.Inf(1)] = float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}
