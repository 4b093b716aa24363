package rpz

import (
	"bytes"

	"rempart/blocklist"
)

// zone is one policy zone; it does not change.
type zone struct {
	name       []byte // canonical wire form
	text       string
	categories blocklist.Categories
	target     []byte // of a block's CNAME, wire form
	noAllows   bool
	keys       map[*key]bool // nil for all
}

const (
	maxName     = 255 // octets (RFC 1035 section 2.3.4)
	maxZoneName = 128 // leaves room for what is blocked
	wildcardLen = 2   // of "*." before a name
	passthru    = "\x0crpz-passthru\x00"
)

// class is what a zone says of a name.
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

// records are what a zone holds of one name.
type records struct {
	own   rule // at the name
	below rule // at "*." before it
}

// record is one record: an owner without the zone, wire form without the root, and what it says.
type record struct {
	owner string
	rule  rule
}

// The zone must make a resolver say of every name what Match says. Resolvers look for the name itself, then for the longest wildcard above it;
// some, as BIND, as DNS does (RFC 4592 section 3.3.1: a wildcard does not reach past a name that exists, even one that exists only because
// something stands below it), others whatever exists in between. Written so that both find the same:
//
//   - A listed name has records where Match says something else of it, or of what is below it, than of what is below its
//     parent. Both are then written, unless there is nothing to say and no wildcard above to stop.
//   - A name that exists only because such a listed name stands below it repeats the wildcard above: it is a stand-in.
//
// Names below a block that differ from it are few, since a block below a block differs in nothing: only what passes there does.
func (z *zone) records(l look, name []byte) records {
	if len(name) == 1 { // the root: at the zone's own name nothing can stand
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

// written is the rule for a class under a wildcard of the class above.
func written(c, above class) rule {
	switch {
	case c == blocks:
		return block
	case c == allows || above != passes:
		return pass
	}
	return none
}

// standIns calls each for the names between a name that has records and the wildcard it stands under, and what they hold.
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

// look looks at a view at one moment.
type look struct {
	view *blocklist.View
	at   int64
	due  *int64 // lowered to when time alone changes what was seen; may be nil
}

// class is what the zone says of a name. While enforcement is suspended it says nothing.
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

// below is what the view says of a name below that nobody lists. The name has room for one.
func (l look) below(z *zone, name []byte) class {
	var buf [maxName]byte
	child := append(append(buf[:0], 1, 0), name...)
	for len(l.view.Claims(child)) > 0 && child[1] < 255 {
		child[1]++
	}
	return l.class(z, child)
}

// parent is the name without its first label; the root's is the root.
func parent(name []byte) []byte {
	if len(name) <= 1 {
		return name
	}
	return name[1+int(name[0]):]
}

// writable is what of r can stand in the zone, and how many records cannot.
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

// isPlain reports whether a name stands for itself as an owner. A label "*" is a wildcard, and a name under "rpz-ip" or its like would not be blocked:
// it would tell of addresses, and those of all the resolver's clients among them.
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
