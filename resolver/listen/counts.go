package listen

import (
	"sync/atomic"

	"rempart/internal/wire"
)

// Reasons for which a packet is ignored.
const (
	ignoredPort       = iota // its source is a port of ignoredPorts
	ignoredOwnAddress        // its source is the address that it was sent to
	ignoreReasons            // the number of reasons
)

// udpCounts are the numbers of one UDP worker, summed when they are scraped.
type udpCounts struct {
	sendFailures  atomic.Uint64
	proxyFailures atomic.Uint64 // datagrams of proxies without a valid header
	ignored       [ignoreReasons]atomic.Uint64
	cookies       [wire.Cookies]atomic.Uint64 // queries
}

// countCookies counts the cookies of queries that are not dropped.
func (c *udpCounts) countCookies(batch []wire.Query) {
	for i := range batch {
		if q := &batch[i]; q.Cookie != wire.NoCookie && q.Outcome != wire.Dropped {
			c.cookies[q.Cookie].Add(1)
		}
	}
}
