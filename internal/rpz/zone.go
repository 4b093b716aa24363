package rpz

import (
	"bytes"

	"rempart/blocklist"
)

// zone is one policy zone; it is immutable.
type zone struct {
	name       []byte // canonical wire form
	text       string
	categories blocklist.Categories
	target     []byte        // target of a block's CNAME, wire format
	noAllows   bool          // ZoneConfig.NoAllows
	keys       map[*key]bool // that may transfer the zone; nil for all
}

const (
	maxName     = 255 // bytes (RFC 1035 section 2.3.4)
	maxZoneName = 128 // bytes; leaves room for the blocked names
	wildcardLen = 2   // bytes of "*." before a name
	passthru    = "\x0crpz-passthru\x00"
)

// class is the effect of a zone on a name.
type class uint8

const (
	passes class = iota // no effect
	blocks
	allows
)

// rule is the action that a record requires of a resolver.
type rule uint8

const (
	none  rule = iota // no record
	block             // CNAME of the zone's target
	pass              // CNAME rpz-passthru.
)

// records holds the rules of a zone's records for one name.
type records struct {
	own   rule // of the record at the name
	below rule // of the wildcard record, at "*." before the name
}

// record is one record of a zone.
type record struct {
	owner string // wire format, relative to the zone and without the root label
	rule  rule
}

// records returns the zone's records for a name. With the records of all names, a resolver must find the verdict of Match for every name.
//
// A resolver looks up the name itself, then the longest wildcard above it. Some resolvers, such as BIND, follow RFC 4592 section 3.3.1: a wildcard does not match
// names below an existing name, even if that is an empty non-terminal. Other resolvers ignore existing names in between. Both kinds find the same rule because:
//
//   - A listed name has records if its verdict, or the verdict on the names below it, differs from the verdict on the names below its parent. Then both rules are
//     written, except a pass that has no wildcard above to override.
//   - A name that exists only because such a listed name is below it (an empty non-terminal) repeats the rule of the wildcard above. It is called a stand-in.
//
// There are few stand-ins: below a block, only names that are not blocked have records.
func (z *zone) records(l look, name []byte) records {
	if len(name) == 1 { // the root: a zone cannot have a rule for its own name
		return records{below: written(l.below(z, name), passes)}
	}
	above := l.below(z, parent(name))
	own, below := l.class(z, name), above
	if len(name)+wildcardLen <= maxName {
		below = l.below(z, name)
	}
	if own == above && below == above {
		return records{}
	}
	return records{written(own, above), written(below, above)}
}

// written returns the rule to write for a class; above is the class of the wildcard above.
func written(c, above class) rule {
	switch {
	case c == blocks:
		return block
	case c == allows || above != passes:
		return pass
	}
	return none
}

// standIns calls each for every stand-in between a name that has records and the wildcard above that name, with the records of the stand-in.
func (z *zone) standIns(l look, name []byte, each func(name []byte, r records)) {
	for a := parent(name); len(a) > 1; a = parent(a) {
		above := l.below(z, parent(a))
		if above == passes {
			return
		}
		if z.records(l, a) == (records{}) {
			each(a, records{written(above, above), written(above, above)})
		}
	}
}

// look matches names against a view at a fixed time.
type look struct {
	view *blocklist.View
	at   int64
	due  *int64 // lowered to the earliest time at which a verdict may change; may be nil
}

// class returns the class of a name. While enforcement is suspended, every name passes.
func (l look) class(z *zone, name []byte) class {
	if l.view.Suspended() {
		return passes
	}
	v := l.view.Match(name, z.categories, l.at)
	if l.due != nil {
		*l.due = min(*l.due, v.Until)
	}
	switch {
	case v.Action == blocklist.BlockedBy:
		return blocks
	case v.Action == blocklist.Allowed && !z.noAllows:
		return allows
	}
	return passes
}

// below returns the class of the names directly below name that have no claims of their own. The name must leave room for a label of one byte.
func (l look) below(z *zone, name []byte) class {
	var buf [maxName]byte
	child := append(append(buf[:0], 1, 0), name...)
	for len(l.view.Claims(child)) > 0 && child[1] < 255 {
		child[1]++
	}
	return l.class(z, child)
}

// parent returns the name without its first label. The parent of the root is the root.
func parent(name []byte) []byte {
	if len(name) <= 1 {
		return name
	}
	return name[1+int(name[0]):]
}

// writable returns the records of r that the zone can contain, and the number of records that it left out.
func (z *zone) writable(name []byte, r records) (records, int) {
	all := r.count()
	size := len(name) - 1 + len(z.name)
	if size > maxName || !isPlain(name) {
		r.own = none
	}
	if size+wildcardLen > maxName || !isPlain(name) {
		r.below = none
	}
	return r, all - r.count()
}

// isPlain reports whether a record at the name applies to the name itself. A label "*" makes a wildcard, and a record below "rpz-ip" or another label that begins
// with "rpz-" is another kind of rule instead, possibly one for the addresses of all clients of the resolver.
func isPlain(name []byte) bool {
	last := name
	for n := name; len(n) > 1; n = parent(n) {
		if n[0] == 1 && n[1] == '*' {
			return false
		}
		last = n
	}
	return !bytes.HasPrefix(last[1:], []byte("rpz-"))
}

// count returns the number of records.
func (r records) count() (n int) {
	if r.own != none {
		n++
	}
	if r.below != none {
		n++
	}
	return n
}

// each calls f for each record; name is the name that has the records.
func (r records) each(name []byte, f func(record)) {
	key := string(name[:len(name)-1])
	if r.own != none {
		f(record{key, r.own})
	}
	if r.below != none {
		f(record{"\x01*" + key, r.below})
	}
}
