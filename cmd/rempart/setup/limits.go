package setup

import (
	"rempart/internal/config"
	"rempart/resolver/limits"
)

// AnswerLimits returns the limits of UDP answers.
func AnswerLimits(c *config.Config) limits.Config {
	l := limits.Config{IPv4Bits: c.LimitNetworks.IPv4, IPv6Bits: c.LimitNetworks.IPv6}
	for _, limit := range c.Limits {
		l.Limits = append(l.Limits, limits.Limit(limit))
	}
	switch c.LimitsAction {
	case config.DropAbove:
		l.Action = limits.Drop
	case config.ObserveAbove:
		l.Action = limits.Observe
	}
	return l
}
