package rpz

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of connections. There are few secondaries. A connection is unknown until its client has proved that it may ask.
const (
	maxConns            = 512 // of known clients
	maxConnsPerClient   = 32
	maxUnknown          = 128
	maxUnknownPerClient = 8
	maxKnownClients     = 4096
)

// places are the open connections. Clients that were authenticated before have places of their own: unknown clients cannot take them, from any number of
// addresses. The methods may be called concurrently.
type places struct {
	conns, perClient int                   // maximum of connections of known clients, in all and per address
	unknowns         int                   // maximum of unknown connections
	isConfigured     func(netip.Addr) bool // reports whether the configuration lets an address ask, or notifies it

	mu      sync.Mutex
	stopped bool
	clients map[netip.Addr]bool // addresses that were authenticated
	open    map[net.Conn]*place
	counts  map[netip.Addr]*connCount
	unknown int // unknown connections now
}

// place is one connection.
type place struct {
	from    netip.Addr
	unknown bool
	since   time.Time
}

// connCount is the number of connections of one address.
type connCount struct{ known, unknown int }

// newPlaces returns free places.
func newPlaces(isConfigured func(netip.Addr) bool) *places {
	return &places{
		conns: maxConns, perClient: maxConnsPerClient, unknowns: maxUnknown, isConfigured: isConfigured,
		clients: map[netip.Addr]bool{}, open: map[net.Conn]*place{}, counts: map[netip.Addr]*connCount{},
	}
}

// take takes a place for a connection, and reports whether it got one. If all places of unknown connections are taken, it closes one of them for a new one.
func (p *places) take(conn net.Conn, from netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	h := p.counts[from]
	if h == nil {
		h = &connCount{}
	}
	unknown := !p.clients[from] && !p.isConfigured(from)
	switch {
	case unknown && h.unknown >= min(p.perClient, maxUnknownPerClient), !unknown && (h.known >= p.perClient || len(p.open)-p.unknown >= p.conns):
		return false
	case unknown && p.unknown >= p.unknowns && !p.evict():
		return false
	}
	p.open[conn] = &place{from, unknown, time.Now()}
	p.counts[from] = h
	if unknown {
		h.unknown++
		p.unknown++
	} else {
		h.known++
	}
	return true
}

// evict closes the oldest unknown connection of the address that has most unknown connections, and reports whether there was one.
func (p *places) evict() bool {
	var oldest net.Conn
	for conn, at := range p.open {
		if !at.unknown {
			continue
		}
		if oldest == nil {
			oldest = conn
			continue
		}
		than := p.open[oldest]
		if n, most := p.counts[at.from].unknown, p.counts[than.from].unknown; n > most || n == most && at.since.Before(than.since) {
			oldest = conn
		}
	}
	if oldest == nil {
		return false
	}
	p.free(oldest)
	oldest.Close()
	return true
}

// markKnown records that the client of a connection was authenticated: the connection is known from now on, and so are later ones from the same address.
func (p *places) markKnown(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.open[conn]
	if at == nil || !at.unknown {
		return
	}
	if len(p.clients) < maxKnownClients {
		p.clients[at.from] = true
	}
	at.unknown = false
	p.unknown--
	h := p.counts[at.from]
	h.unknown--
	h.known++
}

// release frees the place of a connection.
func (p *places) release(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free(conn)
}

// free frees the place of a connection, if it has one. It is called with mu held.
func (p *places) free(conn net.Conn) {
	at := p.open[conn]
	if at == nil {
		return
	}
	delete(p.open, conn)
	h := p.counts[at.from]
	if at.unknown {
		p.unknown--
		h.unknown--
	} else {
		h.known--
	}
	if h.unknown+h.known == 0 {
		delete(p.counts, at.from)
	}
}

// stop closes all connections, and makes take refuse new ones.
func (p *places) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for conn := range p.open {
		conn.Close()
	}
}

// taken returns the number of open connections.
func (p *places) taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// isConfigured reports whether the configuration lets an address ask without a key, or names it as a secondary to notify.
func (s *Server) isConfigured(from netip.Addr) bool {
	return s.keyless(from) || slices.ContainsFunc(s.cfg.Secondaries, func(sec Secondary) bool { return sec.Addr.Addr().Unmap() == from })
}
