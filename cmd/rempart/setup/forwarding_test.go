package setup

import (
	"testing"

	"rempart/internal/config"
	"rempart/resolver/upstream"
)

// TestStrategyOfZone checks that a zone is found however it is written, and that zones without a strategy use the one for all upstreams.
func TestStrategyOfZone(t *testing.T) {
	zones, err := parseZones([]config.Forward{{Zone: "Corp.example.", Upstream: "udp://192.0.2.1"}, {Zone: "home.arpa", Upstream: "udp://192.0.2.2"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseStrategies([]string{"fastest", "corp.EXAMPLE=spread"}, zones)
	if err != nil {
		t.Fatal(err)
	}
	if s.main != upstream.Fastest || s.of(zones[0].name) != upstream.Spread || s.of(zones[1].name) != upstream.Fastest {
		t.Errorf("strategies %v", s)
	}
	for _, wrong := range [][]string{{"spread", "ordered"}, {"other.example=spread"}, {"home.arpa=any"}, {"home..arpa=spread"}} {
		if _, err := parseStrategies(wrong, zones); err == nil {
			t.Errorf("%q was accepted", wrong)
		}
	}
}
