package resolver

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// clients decides which clients may ask. Its readers take no lock.
type clients struct {
	table   atomic.Pointer[clientTable]
	refused atomic.Uint32 // one bit per kind of address; set if a client of that kind was refused
	notices chan string   // receives each of these kinds once; has room for all
}

// clientTable is immutable.
type clientTable struct {
	everyone bool
	prefixes []netip.Prefix
}

// kind is the kind of a client's address, for notices that must not hold the address itself.
type kind uint8

const (
	loopbackAddress kind = iota
	privateIPv4
	linkLocal
	providerIPv4
	globalIPv4
	uniqueLocal
	globalIPv6
	kinds
)

func (k kind) String() string {
	return [...]string{"loopback", "private IPv4", "link-local", "provider's shared IPv4 (100.64.0.0/10)", "global IPv4",
		"unique local IPv6", "global IPv6"}[k]
}

var sharedIPv4 = netip.MustParsePrefix("100.64.0.0/10")

func kindOf(addr netip.Addr) kind {
	switch addr = addr.Unmap(); {
	case addr.IsLoopback():
		return loopbackAddress
	case addr.IsLinkLocalUnicast():
		return linkLocal
	case addr.IsPrivate() && addr.Is4():
		return privateIPv4
	case addr.IsPrivate():
		return uniqueLocal
	case sharedIPv4.Contains(addr):
		return providerIPv4
	case addr.Is4():
		return globalIPv4
	}
	return globalIPv6
}

// SetClients replaces the networks whose clients may ask. If prefixes is empty, no client may ask.
func (r *Resolver) SetClients(prefixes []netip.Prefix) {
	r.clients.table.Store(&clientTable{prefixes: slices.Clone(prefixes)})
}

// Refused returns a channel that receives each kind of client address, in words, when a client of that kind is refused
// for the first time.
func (r *Resolver) Refused() <-chan string { return r.clients.notices }

// MayAsk reports whether a client may ask, like Serves, but does not record a refusal. It is for requests that are not DNS queries.
func (r *Resolver) MayAsk(client netip.Addr) bool { return r.clients.table.Load().holds(client) }

// Serves reports whether a client may ask. If not, it records the refusal, for the channel of Refused.
func (r *Resolver) Serves(client netip.Addr) bool {
	if r.clients.table.Load().holds(client) {
		return true
	}
	r.clients.refuse(client)
	return false
}

func (t *clientTable) holds(client netip.Addr) bool {
	for _, p := range t.prefixes {
		if p.Contains(client) {
			return true
		}
	}
	return t.everyone
}

// refuse records that a client was refused.
func (c *clients) refuse(client netip.Addr) {
	k := kindOf(client)
	if bit := uint32(1) << k; c.refused.Load()&bit == 0 && c.refused.Or(bit)&bit == 0 {
		c.notices <- k.String()
	}
}
