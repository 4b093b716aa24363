package canary

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/blocklist"
	"rempart/resolver/upstream/transport"
)

// TestSilentNodeDoesNotDelayTheOthers runs a round with a node that does not answer: the round ends soon, and every question to that node has no answer.
func TestSilentNodeDoesNotDelayTheOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for answers")
	}
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	e, err := transport.ParseEndpoint("udp://" + c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := &plan{nodes: []node{{name: "silent", endpoints: []transport.Endpoint{e}}}}
	for i := range 20 {
		names, err := parseNames("passed", []string{fmt.Sprintf("n%d.example", i)})
		if err != nil {
			t.Fatal(err)
		}
		p.passed = append(p.passed, names...)
	}
	registry := prometheus.NewRegistry()
	r := &runner{log: slog.New(slog.DiscardHandler), names: &names{plan: p}, askers: newAskers(t.Context(), p.nodes, nil), nodes: p.nodes, results: newResults(registry)}
	began := time.Now()
	if right, err := r.round(t.Context()); right || err != nil {
		t.Fatalf("right %v, %v", right, err)
	}
	if took, most := time.Since(began), (mostSilent+1)*(2*answerPatience+againAfter); took > most {
		t.Errorf("the round took %v, want at most %v", took, most)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "rempart_canary_wrong_answers" && f.Metric[0].GetGauge().GetValue() != float64(len(p.passed)) {
			t.Errorf("wrong and missing answers: %v, want %d", f.Metric[0].GetGauge().GetValue(), len(p.passed))
		}
	}
}

// TestNothingToAskIsAnError checks that a canary without a name to ask for does not report that all is well.
func TestNothingToAskIsAnError(t *testing.T) {
	for _, p := range []*plan{{}, {listed: 50}} {
		if _, err := newNames(p, nil); err == nil {
			t.Errorf("%+v: no error", p)
		}
	}
	var compiled bytes.Buffer
	err := blocklist.Compile(&compiled, blocklist.Info{})
	if err != nil {
		t.Fatal(err)
	}
	view, err := blocklist.OpenView(compiled.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{log: slog.New(slog.DiscardHandler), names: &names{plan: &plan{listed: 50}, set: blocklist.NewSet(view)}, results: newResults(prometheus.NewRegistry())}
	if right, err := r.round(t.Context()); right || err != nil {
		t.Errorf("a round without names: right %v, %v", right, err)
	}
}

// TestEndpointsOfOneTransportAreSummed checks that a dead endpoint is seen in the metrics although the node answers at another endpoint of the same transport.
func TestEndpointsOfOneTransportAreSummed(t *testing.T) {
	wrong := newTally(nil)
	dead, well := &asker{series: series{"n", "udp"}}, &asker{series: series{"n", "udp"}}
	wrong.add(dead, 11)
	wrong.add(well, 0)
	registry := prometheus.NewRegistry()
	newResults(registry).end(wrong, 0, time.Now())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "rempart_canary_wrong_answers" && f.Metric[0].GetGauge().GetValue() != 11 {
			t.Errorf("wrong and missing answers: %v, want 11", f.Metric[0].GetGauge().GetValue())
		}
	}
}

// TestVersionThatIsNoNumber checks that a node whose version is not a number is not taken for up to date.
func TestVersionThatIsNoNumber(t *testing.T) {
	r := &runner{log: slog.New(slog.DiscardHandler), names: &names{plan: &plan{}}, nodes: []node{{name: "n", metrics: "http://192.0.2.1"}}, results: newResults(prometheus.NewRegistry()),
		version: func(context.Context, string) (float64, error) { return math.NaN(), nil }}
	if !r.compareVersions(t.Context()) {
		t.Error("it is taken for up to date")
	}
}
