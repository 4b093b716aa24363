package upstream

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Strategy is how a pool chooses the upstream that a question is sent to first, among the healthy ones. The others are asked if that one fails or is slow.
type Strategy uint8

const (
	Ordered Strategy = iota // the first one in the configured order
	Fastest                 // the one with the lowest mean round-trip time; one question in exploreEvery is sent to a random one, to measure the others
	Spread                  // a random one, in proportion to the weights of the endpoints
)

// exploreEvery is the number of questions of which, with Fastest, one measures a random upstream.
const exploreEvery = 50

// ParseStrategy reads "ordered", "fastest" or "spread".
func ParseStrategy(text string) (Strategy, error) {
	all := []string{Ordered: "ordered", Fastest: "fastest", Spread: "spread"}
	if i := slices.Index(all, text); i >= 0 {
		return Strategy(i), nil
	}
	return 0, fmt.Errorf("%.40q is not a strategy: write ordered, fastest or spread", text)
}

// weight returns the share of m's questions with Spread.
func (m *member) weight() uint64 { return uint64(max(m.endpoint.Weight, 1)) }

// drawn adds the weight of m to total, and reports whether m replaces the upstream that was drawn from those before it. If this is done for several upstreams in turn,
// the chance of each to be the last one drawn is its weight divided by the final total.
func (m *member) drawn(total *uint64) bool {
	*total += m.weight()
	return rand.Uint64N(*total) < m.weight()
}

// preferred returns the upstream to which new questions are sent, chosen by the strategy among the healthy ones; nil if none is healthy. alone is set if no
// other upstream is healthy.
func (p *Pool) preferred() (first *member, alone bool) {
	explore := p.strategy == Fastest && rand.Uint64N(exploreEvery) == 0
	var total uint64 // weight of the healthy upstreams so far
	var best time.Duration
	for _, m := range p.members {
		if m.looping.Load() {
			continue
		}
		state := m.health.state()
		if state.down {
			continue
		}
		alone = first == nil
		switch {
		case p.strategy == Spread:
			if m.drawn(&total) {
				first = m
			}
		case explore:
			total++
			if rand.Uint64N(total) == 0 {
				first = m
			}
		case first == nil || p.strategy == Fastest && state.mean < best:
			first, best = m, state.mean
		case p.strategy == Ordered:
			return first, false
		}
	}
	return first, alone
}

// arrange puts healthy lanes, which are in the configured order, in the order of the strategy.
func (p *Pool) arrange(healthy []lane) {
	switch p.strategy {
	case Fastest:
		slices.SortStableFunc(healthy, func(a, b lane) int { return cmp.Compare(a.mean, b.mean) })
		if n := len(healthy); n > 1 && rand.Uint64N(exploreEvery) == 0 {
			i := rand.IntN(n)
			healthy[0], healthy[i] = healthy[i], healthy[0]
		}
	case Spread:
		for i := range healthy {
			j := i + drawByWeight(healthy[i:])
			healthy[i], healthy[j] = healthy[j], healthy[i]
		}
	}
}

// drawByWeight returns the index of a lane: the chance of each is in proportion to its weight.
func drawByWeight(lanes []lane) (drawn int) {
	var total uint64
	for i, l := range lanes {
		if l.member.drawn(&total) {
			drawn = i
		}
	}
	return drawn
}
