package resolver

import (
	"rempart/internal/wire"
	"rempart/resolver/cache"
)

// stale returns an answer to key for the case that no upstream answers, or nil. If there is none under key, an answer that was cached for other flags is used,
// and stored under key as an expired answer (RFC 8767 section 5): with DO for a client without it; without DO for a client with it, if the answer is not known
// to be signed; with validation for a client that set CD. An answer that was fetched with CD may be bogus and is used for clients with CD only.
func (r *Resolver) stale(key cache.Key, now clock) *cache.Answer {
	if e := r.cache.Get(&key); e != nil && (e.Servable(now.mono) || e.Bogus()) {
		if e.Bogus() {
			return nil
		}
		return e
	}
	others := []cache.Key{{Name: key.Name, Type: key.Type, Class: key.Class, DO: !key.DO, CD: key.CD}}
	if key.CD {
		others = append(others,
			cache.Key{Name: key.Name, Type: key.Type, Class: key.Class, DO: key.DO},
			cache.Key{Name: key.Name, Type: key.Type, Class: key.Class, DO: !key.DO})
	}
	for _, other := range others {
		e := r.cache.Get(&other)
		if e == nil || !e.Servable(now.mono) || key.DO && !other.DO && e.Authenticated() {
			continue
		}
		if e = e.For(key); e != nil {
			e.Ended(now.mono)
			r.cache.Put(e, now.mono)
			return e
		}
	}
	return nil
}

// deniedTypes are the types whose answers show whether a name exists: those that nearly every client asks for first.
var deniedTypes = [...]uint16{wire.TypeA, wire.TypeAAAA, wire.TypeHTTPS}

// maxAncestors is the number of names above the asked name that denied looks up, the nearest first.
const maxAncestors = 8

// denied returns an answer to key if a cached answer of another type is NXDOMAIN, which applies to all types of the name (RFC 2308 section 5). If
// Config.DenyBelow is set, NXDOMAIN for a name above is used as well (RFC 8020). The answer is stored under key. It is nil if no cached answer denies the name.
func (r *Resolver) denied(key cache.Key, now clock) *cache.Answer {
	if e := r.deniedBy(key.Name, key, now); e != nil || !r.denyBelow {
		return e
	}
	name := key.Name
	for range maxAncestors {
		if name = name[1+name[0]:]; name[0] == 0 {
			break
		}
		if e := r.deniedBy(name, key, now); e != nil {
			return e
		}
	}
	return nil
}

// deniedBy does the work of denied for one name: the name of key, or a name above. It ignores an answer from other upstreams than key would be asked of: a
// forwarded zone cannot deny its own DS records, because the parent zone holds them.
func (r *Resolver) deniedBy(name []byte, key cache.Key, now clock) *cache.Answer {
	for _, typ := range deniedTypes {
		other := cache.Key{Name: name, Type: typ, Class: key.Class, DO: key.DO, CD: key.CD}
		if typ == key.Type && len(name) == len(key.Name) || r.exchanger(name, typ) != r.exchanger(key.Name, key.Type) {
			continue
		}
		e := r.cache.Get(&other)
		if e == nil || e.Rcode() != wire.NXDomain || !e.Fresh(now.mono) || e.HasTargets() {
			continue
		}
		if e = e.For(key); e != nil {
			r.cache.Put(e, now.mono)
			return e
		}
	}
	return nil
}
