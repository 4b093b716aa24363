package fair

import (
	"net/netip"
	"sync"
)

// Class is a kind of connections, such as those of known clients, with places of its own.
type Class struct {
	Conns     int  // maximum of open connections
	PerClient int  // maximum of open connections of one client
	Evict     bool // if the class is full, a new connection may replace a connection of the clients with the most connections in the class
	Margin    int  // for that, these clients must have at least this many connections more than the client of the new one already has
}

// Admission bounds the open connections of a server, in classes. A client is identified as Client does. C is a connection. The methods may be called concurrently.
type Admission[C comparable] struct {
	lastUse func(C) int64

	mu      sync.Mutex
	classes []Class
	closed  bool
	open    map[C]seat
	clients map[seat]int // open connections by client and class
	taken   []int        // open connections by class
}

// seat is the client and the class of a connection.
type seat struct {
	client netip.Prefix
	class  int
}

// NewAdmission returns an Admission without connections. The index of a class identifies it. lastUse returns the time of the last use of a connection, in any
// unit: of the connections of the clients with the most connections, the one with the lowest time is evicted.
func NewAdmission[C comparable](lastUse func(C) int64, classes ...Class) *Admission[C] {
	return &Admission[C]{lastUse: lastUse, classes: classes, open: map[C]seat{}, clients: map[seat]int{}, taken: make([]int, len(classes))}
}

// Admit admits a connection to a class, unless the class or the client has too many. If evicted is not the zero value, that connection lost its place, and the caller
// must close it. The caller calls Release for each admitted connection when it is closed.
func (a *Admission[C]) Admit(c C, from netip.Addr, class int) (ok bool, evicted C) {
	client, _ := Client(from)
	at := seat{client, class}
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.classes[class]
	if a.closed || a.clients[at] >= of.PerClient {
		return false, evicted
	}
	if a.taken[class] >= of.Conns {
		if evicted, ok = a.victim(at, of); !ok {
			return false, evicted
		}
		a.remove(evicted)
	}
	a.add(c, at)
	return true, evicted
}

// victim returns the connection that a new connection of at may replace: the one with the earliest last use, among all connections of the clients with the most
// connections in the class. It returns false if the class does not evict, or if these clients do not have Margin connections more than the client of at.
func (a *Admission[C]) victim(at seat, of Class) (victim C, ok bool) {
	if !of.Evict {
		return victim, false
	}
	most := 0
	for s, n := range a.clients {
		if s.class == at.class {
			most = max(most, n)
		}
	}
	if most < a.clients[at]+of.Margin {
		return victim, false
	}
	for c, s := range a.open {
		if s.class == at.class && a.clients[s] == most && (!ok || a.lastUse(c) < a.lastUse(victim)) {
			victim, ok = c, true
		}
	}
	return victim, ok
}

// Move moves an open connection to another class, whatever the bounds of that class are.
func (a *Admission[C]) Move(c C, class int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.open[c]; ok {
		a.remove(c)
		a.add(c, seat{at.client, class})
	}
}

// Release frees the place of a connection, if it has one.
func (a *Admission[C]) Release(c C) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(c)
}

// Close makes Admit refuse further connections.
func (a *Admission[C]) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
}

// Each calls f for every open connection. f must not call the methods of a.
func (a *Admission[C]) Each(f func(C)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.open {
		f(c)
	}
}

// Len returns the number of open connections of a class.
func (a *Admission[C]) Len(class int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.taken[class]
}

// SetClass changes the bounds of a class for connections from now on.
func (a *Admission[C]) SetClass(class int, of Class) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.classes[class] = of
}

func (a *Admission[C]) add(c C, at seat) {
	a.open[c] = at
	a.clients[at]++
	a.taken[at.class]++
}

func (a *Admission[C]) remove(c C) {
	at, ok := a.open[c]
	if !ok {
		return
	}
	delete(a.open, c)
	a.taken[at.class]--
	if a.clients[at]--; a.clients[at] == 0 {
		delete(a.clients, at)
	}
}
