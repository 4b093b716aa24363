package portal

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rempart/internal/fair"
)

const (
	pageRate    = 20.0      // requests per second of a client
	pageBurst   = 200       // requests of a client at once
	searchRate  = 1.0       // searches per second of a client
	searchBurst = 30        // searches of a client at once
	appealRate  = 5. / 3600 // requests for a review per second of a client
	appealBurst = 5         // requests for a review of a client at once
	netFactor   = 16        // by which a network may do more than a client
	maxRates    = 20_000    // clients and networks that are remembered
)

// rates limits the requests of each client and each network, in memory only. When many clients are remembered, those that may make all their requests again are forgotten.
type rates struct {
	each  rate.Limit // of a client
	burst int

	mu sync.Mutex
	by map[netip.Prefix]*rate.Limiter
}

func newRates(each rate.Limit, burst int) *rates {
	return &rates{each: each, burst: burst, by: map[netip.Prefix]*rate.Limiter{}}
}

// allow reports whether a client may make a request now, and counts the request.
func (l *rates) allow(client netip.Addr, now time.Time) bool {
	var own, network netip.Prefix // those of all clients with an unknown address
	if client.IsValid() {
		own, network = fair.Client(client)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if own == network {
		return l.limiter(network, netFactor, now).AllowN(now, 1)
	}
	return l.limiter(network, netFactor, now).AllowN(now, 1) && l.limiter(own, 1, now).AllowN(now, 1)
}

// limiter returns the limiter of a client or network. If too many are remembered, limiter forgets those that may make all their requests again, or all if there are none.
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
	made := rate.NewLimiter(l.each*rate.Limit(factor), l.burst*factor)
	l.by[of] = made
	return made
}
