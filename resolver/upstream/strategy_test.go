package upstream

import (
	"fmt"
	"testing"
	"time"

	"rempart/internal/dnstest"
	"rempart/resolver/upstream/transport"
)

// shares asks many questions of a pool of three upstreams with a strategy, and returns the part of them that each upstream received first.
func shares(t *testing.T, strategy Strategy, prepare func(p *Pool), weights ...int) (parts [3]float64) {
	t.Helper()
	var c Config
	for i, w := range weights {
		e, err := transport.ParseEndpoint(fmt.Sprintf("udp://192.0.2.%d#weight=%d", i+1, w))
		if err != nil {
			t.Fatal(err)
		}
		c.Endpoints = append(c.Endpoints, e)
	}
	c.Strategy = strategy
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.group.end)
	prepare(p)
	const n = 20000
	for range n {
		chosen, _ := p.preferred()
		raced := p.order()[0].member
		for i, m := range p.members {
			if m == chosen {
				parts[i] += 0.5 / n
			}
			if m == raced {
				parts[i] += 0.5 / n
			}
		}
	}
	return parts
}

func checkShares(t *testing.T, got, want [3]float64) {
	t.Helper()
	for i := range got {
		if got[i] < want[i]-0.02 || got[i] > want[i]+0.02 {
			t.Errorf("shares %.3f, want %.3f", got, want)
			return
		}
	}
}

func TestOrderedAsksFirstHealthyUpstream(t *testing.T) {
	checkShares(t, shares(t, Ordered, func(p *Pool) {}, 1, 1, 1), [3]float64{1, 0, 0})
	checkShares(t, shares(t, Ordered, func(p *Pool) { p.members[0].health.fallLocked() }, 1, 1, 1), [3]float64{0, 1, 0})
}

func TestSpreadFollowsWeights(t *testing.T) {
	checkShares(t, shares(t, Spread, func(p *Pool) {}, 1, 1, 1), [3]float64{1. / 3, 1. / 3, 1. / 3})
	checkShares(t, shares(t, Spread, func(p *Pool) {}, 1, 2, 7), [3]float64{0.1, 0.2, 0.7})
	checkShares(t, shares(t, Spread, func(p *Pool) { p.members[2].health.fallLocked() }, 1, 3, 7), [3]float64{0.25, 0.75, 0})
	checkShares(t, shares(t, Spread, func(p *Pool) { p.members[0].looping.Store(true) }, 1, 1, 1), [3]float64{0, 0.5, 0.5})
}

func TestFastestAsksTheFastestAndExplores(t *testing.T) {
	answered := func(p *Pool) {
		for i, rtt := range []time.Duration{20, 10, 30} {
			p.members[i].health.answered(rtt*time.Millisecond, useful)
		}
	}
	explored := 1. / exploreEvery / 3
	checkShares(t, shares(t, Fastest, answered, 1, 1, 1), [3]float64{explored, 1 - 2*explored, explored})
	checkShares(t, shares(t, Fastest, func(p *Pool) {
		answered(p)
		p.members[1].health.fallLocked()
	}, 1, 1, 1), [3]float64{1 - explored, 0, explored})
	checkShares(t, shares(t, Fastest, func(p *Pool) { p.members[0].health.answered(time.Millisecond, useful) }, 1, 1, 1), [3]float64{0, 1, 0}) // one that is not measured yet
}

// TestSpreadUsesEveryUpstream checks that questions over sockets reach every upstream, and are all answered if one of them is dead.
func TestSpreadUsesEveryUpstream(t *testing.T) {
	a, b := dnstest.NewUpstream(t, nil), dnstest.NewUpstream(t, nil)
	silent := dnstest.NewUpstream(t, func(*dnstest.Query) {})
	p := newPoolOf(t, Config{Strategy: Spread}, overUDP(a), overTCP(b), overUDP(silent))
	for i := range 100 {
		exchange(t, p, fmt.Sprintf("n%d.example", i))
	}
	if a.Queries() < 20 || b.Queries() < 20 || silent.Queries() == 0 {
		t.Errorf("%d, %d and %d queries; want at least 20, 20 and 1", a.Queries(), b.Queries(), silent.Queries())
	}
}

func TestParseStrategy(t *testing.T) {
	for text, want := range map[string]Strategy{"ordered": Ordered, "fastest": Fastest, "spread": Spread} {
		if got, err := ParseStrategy(text); err != nil || got != want {
			t.Errorf("ParseStrategy(%q): %v, %v; want %v", text, got, err, want)
		}
	}
	if _, err := ParseStrategy("random"); err == nil {
		t.Error("an unknown strategy was accepted")
	}
}
