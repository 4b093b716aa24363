package rpz

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of connections. Secondaries are few. A stranger is a connection whose client has not shown yet that it may ask.
const (
	maxConns          = 512 // of known clients
	maxConnsPerClient = 32
	maxStrangers      = 128
	maxPerStranger    = 8
	maxKnown          = 4096
)

// places are the connections that are open. Clients that were authenticated before have places of their own, which strangers cannot take, however many
// they are and from however many addresses. Its methods may be called concurrently.
type places struct {
	mu        sync.Mutex
	stopped   bool
	conns     int // that are open for known clients at most
	per       int // the same per address
	known     map[netip.Addr]bool
	open      map[net.Conn]*place
	holds     map[netip.Addr]*held
	strange   int // strangers
	atStart   func(netip.Addr) bool
	strangers int // that are open at most
}

// place is one connection.
type place struct {
	from    netip.Addr
	strange bool
	since   time.Time
}

// held is what one address holds.
type held struct{ known, strange int }

// newPlaces returns places of which none is taken. known reports whether an address is a secondary's by the configuration.
func newPlaces(known func(netip.Addr) bool) *places {
	return &places{
		conns: maxConns, per: maxConnsPerClient, strangers: maxStrangers, atStart: known,
		known: map[netip.Addr]bool{}, open: map[net.Conn]*place{}, holds: map[netip.Addr]*held{},
	}
}

// take takes a place for a connection, and reports whether there is one. The place of a stranger may be another stranger's: that one is closed.
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
	strange := !p.known[from] && !p.atStart(from)
	switch {
	case strange && h.strange >= min(p.per, maxPerStranger), !strange && (h.known >= p.per || len(p.open)-p.strange >= p.conns):
		return false
	case strange && p.strange >= p.strangers && !p.evict():
		return false
	}
	p.open[conn] = &place{from, strange, time.Now()}
	p.holds[from] = h
	if strange {
		h.strange++
		p.strange++
	} else {
		h.known++
	}
	return true
}

// evict closes the oldest stranger of the address with most of them, and reports whether there is one with more than one.
func (p *places) evict() bool {
	var oldest net.Conn
	for conn, at := range p.open {
		if !at.strange {
			continue
		}
		if oldest == nil {
			oldest = conn
			continue
		}
		than := p.open[oldest]
		if n, most := p.holds[at.from].strange, p.holds[than.from].strange; n > most || n == most && at.since.Before(than.since) {
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

// authenticated notes that the client of a connection may ask: it is a stranger no more, nor are others of its address.
func (p *places) authenticated(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.open[conn]
	if at == nil || !at.strange {
		return
	}
	if len(p.known) < maxKnown {
		p.known[at.from] = true
	}
	at.strange = false
	p.strange--
	h := p.holds[at.from]
	h.strange--
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
	if at.strange {
		p.strange--
		h.strange--
	} else {
		h.known--
	}
	if h.strange+h.known == 0 {
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
