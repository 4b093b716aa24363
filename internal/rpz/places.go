package rpz

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"rempart/internal/fair"
)

// Bounds of connections. There are few secondaries. A connection is unknown until its client has proved that it may ask.
const (
	maxConns            = 512 // of known clients
	maxConnsPerClient   = 32
	maxUnknown          = 128
	maxUnknownPerClient = 8
	maxKnownClients     = 4096
)

// The classes of connections. Unknown clients cannot take the places of known ones, from any number of addresses. If the places of unknown clients are in use,
// a new connection replaces the oldest connection of the clients with the most connections.
const (
	known = iota
	unknown
)

// place is one connection.
type place struct {
	conn  net.Conn
	from  netip.Addr
	since int64 // when it was opened, Unix nanoseconds
}

// places are the open connections. The methods may be called concurrently.
type places struct {
	*fair.Admission[*place]
	isConfigured func(netip.Addr) bool // reports whether the configuration allows an address to ask, or names it as a secondary

	mu      sync.Mutex
	clients map[netip.Addr]bool // addresses that were authenticated
}

// newPlaces returns free places.
func newPlaces(isConfigured func(netip.Addr) bool) *places {
	p := &places{isConfigured: isConfigured, clients: map[netip.Addr]bool{}}
	p.Admission = fair.NewAdmission(func(at *place) int64 { return at.since }, fair.Class{}, fair.Class{})
	p.bound(maxConnsPerClient)
	return p
}

// bound sets the maximum of connections per client.
func (p *places) bound(perClient int) {
	p.SetClass(known, fair.Class{Conns: maxConns, PerClient: perClient})
	p.SetClass(unknown, fair.Class{Conns: maxUnknown, PerClient: min(perClient, maxUnknownPerClient), Evict: true})
}

// take takes a place for a connection and returns it, or returns nil if no place is free. If all
// places of unknown connections are taken, it closes one of these connections to make room.
func (p *places) take(conn net.Conn, from netip.Addr) *place {
	at := &place{conn, from, time.Now().UnixNano()}
	class := unknown
	p.mu.Lock()
	if p.clients[from] || p.isConfigured(from) {
		class = known
	}
	p.mu.Unlock()
	ok, evicted := p.Admit(at, from, class)
	if evicted != nil {
		evicted.conn.Close()
	}
	if !ok {
		return nil
	}
	return at
}

// markKnown records that the client of a connection was authenticated: the connection is known from now on, and so are later ones from the same address.
func (p *places) markKnown(at *place) {
	p.mu.Lock()
	if len(p.clients) < maxKnownClients {
		p.clients[at.from] = true
	}
	p.mu.Unlock()
	p.Move(at, known)
}

// stop closes all connections, and makes take refuse new ones.
func (p *places) stop() {
	p.Close()
	p.Each(func(at *place) { at.conn.Close() })
}

// taken returns the number of open connections.
func (p *places) taken() int { return p.Len(known) + p.Len(unknown) }

// isConfigured reports whether the configuration allows an address to ask without a key, or names it as a secondary to notify.
func (s *Server) isConfigured(from netip.Addr) bool {
	return s.keyless(from) || slices.ContainsFunc(s.cfg.Secondaries, func(sec Secondary) bool { return sec.Addr.Addr().Unmap() == from })
}
