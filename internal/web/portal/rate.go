package portal

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rempart/internal/fair"
)

const (
	searchRate  = 1      // searches per second of a client
	searchBurst = 30     // searches of a client at once
	netFactor   = 16     // by which a network may search more than a client
	maxRates    = 20_000 // clients and networks that are remembered
)

// rates limits the searches of each client and of each network, in memory only. A client is forgotten as soon as it may search searchBurst times again.
type rates struct {
	mu sync.Mutex
	by map[netip.Prefix]*rate.Limiter
}

func newRates() *rates { return &rates{by: map[netip.Prefix]*rate.Limiter{}} }

// allow reports whether a client may search now.
func (l *rates) allow(client netip.Addr, now time.Time) bool {
	if !client.IsValid() {
		return true
	}
	own, network := fair.Client(client)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limiter(network, netFactor, now).AllowN(now, 1) && l.limiter(own, 1, now).AllowN(now, 1)
}

// limiter returns the limiter of a client or network. If too many are remembered, all that are at rest are forgotten, or else all.
func (l *rates) limiter(of netip.Prefix, factor int, now time.Time) *rate.Limiter {
	if known := l.by[of]; known != nil {
		return known
	}
	if len(l.by) >= maxRates {
		for key, known := range l.by {
			if known.TokensAt(now) >= float64(known.Burst()) {
				delete(l.by, key)
			}
		}
		if len(l.by) >= maxRates {
			clear(l.by)
		}
	}
	made := rate.NewLimiter(rate.Limit(searchRate*factor), searchBurst*factor)
	l.by[of] = made
	return made
}
