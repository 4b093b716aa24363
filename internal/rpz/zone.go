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
	target     []byte // target of a block's CNAME, wire format
	noAllows   bool
	keys       map[*key]bool // nil for all
}

const (
	maxName     = 255 // bytes (RFC 1035 section 2.3.4)
	maxZoneName = 128 // leaves room for the blocked names
	wildcardLen = 2   // of "*." before a name
	passthru    = "\x0crpz-passthru\x00"
)

// class is what a zone does with a name.
type class uint8

const (
	passes class = iota // nothing
	blocks
	allows
)

// rule is what a record makes a resolver do.
type rule uint8

const (
	none  rule = iota // no record
	block             // CNAME of the zone's target
	pass              // CNAME rpz-passthru.
)

// records are a zone's records of one name.
type records struct {
	own   rule // at the name
	below rule // at "*." before it
}

// record is one record: an owner without the zone, wire format without the root, and its rule.
type record struct {
	owner string
	rule  rule
}

// records returns the zone's records of a name. With these records, a resolver must give every name the verdict of Match. A resolver looks up the name itself, then the longest
// wildcard above it. Some resolvers, such as BIND, do that as DNS does (RFC 4592 section 3.3.1): a wildcard does not match below an existing name, even one that
// exists only because another name is below it. Other resolvers ignore names in between. The records are written so that both kinds of resolvers find the same rule:
//
//   - A listed name has records if the verdict of Match on it, or on the names below it, differs from the verdict on the names below its parent. Both rules are then
//     written, unless the verdict is a pass and there is no wildcard above to stop.
//   - A name that exists only because such a listed name is below it repeats the wildcard above: it is a stand-in.
//
// Few names below a block differ from it: a block below a block does not, only a name that passes does.
func (z *zone) records(l look, name []byte) records {
	if len(name) == 1 { // the root: the zone's own name can have no rule
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

// written returns the rule for a class below a wildcard of the class above.
func written(c, above class) rule {
	switch {
	case c == blocks:
		return block
	case c == allows || above != passes:
		return pass
	}
	return none
}

// standIns calls each for the names between a name that has records and the wildcard above it, with their records.
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

// look reads a view as of one time.
type look struct {
	view *blocklist.View
	at   int64
	due  *int64 // lowered to the time at which the result changes; may be nil
}

// class returns the class of a name: passes while enforcement is suspended.
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

// below returns the class of a name below that nobody lists. The name has room for one label more.
func (l look) below(z *zone, name []byte) class {
	var buf [maxName]byte
	child := append(append(buf[:0], 1, 0), name...)
	for len(l.view.Claims(child)) > 0 && child[1] < 255 {
		child[1]++
	}
	return l.class(z, child)
}

// parent returns the name without its first label; the root's is the root.
func parent(name []byte) []byte {
	if len(name) <= 1 {
		return name
	}
	return name[1+int(name[0]):]
}

// writable returns the part of r that the zone can contain, and the number of records that it cannot.
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

// isPlain reports whether a name means itself as an owner. A label "*" is a wildcard, and a name below "rpz-ip" or the like would not be blocked: it would be a
// rule about addresses, possibly those of all the resolver's clients.
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

func (r records) count() (n int) {
	if r.own != none {
		n++
	}
	if r.below != none {
		n++
	}
	return n
}

// each calls f for the records of a name.
func (r records) each(name []byte, f func(record)) {
	key := string(name[:len(name)-1])
	if r.own != none {
		f(record{key, r.own})
	}
	if r.below != none {
		f(record{"\x01*" + key, r.below})
	}
}
