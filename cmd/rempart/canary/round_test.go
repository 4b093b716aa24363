package canary

import (
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
