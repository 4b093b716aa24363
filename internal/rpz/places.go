package rpz

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of connections. Secondaries are few. A connection is unknown until its client has shown that it may ask.
const (
	maxConns            = 512 // of known clients
	maxConnsPerClient   = 32
	maxUnknown          = 128
	maxUnknownPerClient = 8
	maxKnownClients     = 4096
)

// places are the connections that are open. Clients that were authenticated before have places of their own, which unknown ones cannot take, however many
// they are and from however many addresses. Its methods may be called concurrently.
type places struct {
	conns, perClient int                   // connections of known clients at most
	unknowns         int                   // unknown connections at most
	configured       func(netip.Addr) bool // reports whether the configuration names an address as a secondary's

	mu      sync.Mutex
	stopped bool
	clients map[netip.Addr]bool // that were authenticated
	open    map[net.Conn]*place
	holds   map[netip.Addr]*held
	unknown int
}

// place is one connection.
type place struct {
	from    netip.Addr
	unknown bool
	since   time.Time
}

// held is the number of connections of one address.
type held struct{ known, unknown int }

// newPlaces returns places of which none is taken.
func newPlaces(configured func(netip.Addr) bool) *places {
	return &places{
		conns: maxConns, perClient: maxConnsPerClient, unknowns: maxUnknown, configured: configured,
		clients: map[netip.Addr]bool{}, open: map[net.Conn]*place{}, holds: map[netip.Addr]*held{},
	}
}

// take takes a place for a connection, and reports whether there is one. An unknown connection may get the place of another one, which is closed.
func (p *places) take(conn net.Conn, from netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	h := p.holds[from]
	if h == nil {
		h = &held{}
	}
	unknown := !p.clients[from] && !p.configured(from)
	switch {
	case unknown && h.unknown >= min(p.perClient, maxUnknownPerClient), !unknown && (h.known >= p.perClient || len(p.open)-p.unknown >= p.conns):
		return false
	case unknown && p.unknown >= p.unknowns && !p.evict():
		return false
	}
	p.open[conn] = &place{from, unknown, time.Now()}
	p.holds[from] = h
	if unknown {
		h.unknown++
		p.unknown++
	} else {
		h.known++
	}
	return true
}

// evict closes the oldest unknown connection of the address with most of them, and reports whether there is one.
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
		if n, most := p.holds[at.from].unknown, p.holds[than.from].unknown; n > most || n == most && at.since.Before(than.since) {
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

// authenticated notes that the client of a connection may ask: it is known from now on, and so are later connections from its address.
func (p *places) authenticated(conn net.Conn) {
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
	h := p.holds[at.from]
	h.unknown--
	h.known++
}

// give gives the place of a connection back.
func (p *places) give(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free(conn)
}

func (p *places) free(conn net.Conn) {
	at := p.open[conn]
	if at == nil {
		return
	}
	delete(p.open, conn)
	h := p.holds[at.from]
	if at.unknown {
		p.unknown--
		h.unknown--
	} else {
		h.known--
	}
	if h.unknown+h.known == 0 {
		delete(p.holds, at.from)
	}
}

// stop closes all connections; none is taken in any more.
func (p *places) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for conn := range p.open {
		conn.Close()
	}
}

// taken is how many connections are open.
func (p *places) taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// configured reports whether an address is one that the configuration lets in without a key, or a secondary that is notified.
func (s *Server) configured(from netip.Addr) bool {
	return s.keyless(from) || slices.ContainsFunc(s.cfg.Secondaries, func(sec Secondary) bool { return sec.Addr.Addr().Unmap() == from })
}
