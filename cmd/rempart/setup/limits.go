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

// HandshakeLimits returns the limits of handshakes: REMPART_HANDSHAKES for each network that has a limit of answers.
func HandshakeLimits(c *config.Config) limits.Config {
	l := AnswerLimits(c)
	for i := range l.Limits {
		limit := &l.Limits[i]
		limit.Bytes = 0
		if limit.Answers > 0 {
			limit.Answers = int64(c.Handshakes)
		}
	}
	if l.Action == limits.Truncate {
		l.Action = limits.Drop // a handshake cannot be truncated
	}
	return l
}
