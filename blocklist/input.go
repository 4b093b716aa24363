package blocklist

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Input is an input of Compile: the listings of one or more sources, in the order of their names' hashes. It can be walked any number of times, by one
// goroutine at a time.
type Input struct {
	sources  []Source
	claims   []sourcedClaim
	size     int
	checksum uint64
	walk     func() cursor
}

// cursor yields listings ordered by (hash, key). key is a name without the root, or the key of an address prefix; it is valid until the next call. claim is an
// index of the input's claims. After the last listing, err reports whether there were more that could not be read.
type cursor interface {
	next() (hash uint64, key []byte, claim uint32, ok bool)
	err() error
}

// Len returns the number of listings, each claim about a name counted; repeated ones may be counted twice.
func (in *Input) Len() int { return in.size }

// Sources returns the sources of the claims.
func (in *Input) Sources() []Source { return slices.Clone(in.sources) }

// Checksum returns the checksum of the snapshot or copy that the input was opened from; 0 if there is none.
func (in *Input) Checksum() uint64 { return in.checksum }

// As returns the input, of one source, with the present properties of that source. The input itself does not change.
func (in *Input) As(src Source) *Input {
	of := *in
	of.sources = []Source{src}
	of.claims = slices.Clone(in.claims)
	for i := range of.claims {
		of.claims[i].sources = []uint16{0}
	}
	return &of
}

// Only returns the input without the claims of sources whose names keep rejects. The input itself does not change.
func (in *Input) Only(keep func(source string) bool) *Input {
	of := *in
	of.claims = slices.Clone(in.claims)
	for i, c := range of.claims {
		var kept []uint16
		for _, s := range c.sources {
			if keep(in.sources[s].Name) {
				kept = append(kept, s)
			}
		}
		of.claims[i].sources = kept
	}
	of.walk = func() cursor { return &onlyCursor{in.walk(), of.claims} }
	return &of
}

// onlyCursor skips claims without a source.
type onlyCursor struct {
	cursor
	claims []sourcedClaim
}

func (c *onlyCursor) next() (hash uint64, key []byte, claim uint32, ok bool) {
	for {
		hash, key, claim, ok = c.cursor.next()
		if !ok || int(claim) >= len(c.claims) || len(c.claims[claim].sources) > 0 {
			return hash, key, claim, ok
		}
	}
}

// Verify reads all names of the input, as a walk does. Its error wraps ErrSnapshot.
func (in *Input) Verify() error {
	g := newGroups(in)
	for g.ok {
		g.next()
	}
	return g.err()
}

// claims returns a snapshot's facts as claims.
func (t *tables) claims() []sourcedClaim {
	claims := make([]sourcedClaim, t.factCount())
	for i := range claims {
		if f, ok := t.fact(uint32(i)); ok {
			claims[i] = sourcedClaim{f.claim, f.since, t.sources(f.set)}
		}
	}
	return claims
}

// Input returns the snapshot's content, to be merged into another. It uses the snapshot's bytes.
func (s *Snapshot) Input() *Input {
	return &Input{
		sources: s.sourceList, claims: s.claims(), size: s.records,
		walk: func() cursor {
			return &withPrefixes{cursor: &snapshotCursor{names: s.names}, prefixes: s.prefixesByHash()}
		},
	}
}

// Input returns the view's content, with its overlay merged in, to be compared or merged. It keeps the view alive.
func (v *View) Input() *Input {
	base := v.base.Input()
	walkBase := base.walk
	if v.over == nil {
		base.walk = func() cursor { return &overCursor{view: v, base: walkBase()} }
		return base
	}
	over := v.over.Input()
	in := &Input{sources: slices.Clone(base.sources), claims: slices.Clone(base.claims), size: base.size + over.size}
	number := make([]uint16, len(over.sources))
	for i, src := range over.sources {
		if number[i] = uint16(max(0, v.twins[i])); v.twins[i] < 0 {
			number[i] = uint16(len(in.sources))
			in.sources = append(in.sources, src)
		}
	}
	for _, c := range over.claims {
		sources := make([]uint16, 0, len(c.sources))
		for _, s := range c.sources {
			sources = append(sources, number[s])
		}
		slices.Sort(sources)
		in.claims = append(in.claims, sourcedClaim{c.claim, c.since, sources})
	}
	in.walk = func() cursor {
		return &overCursor{view: v, base: walkBase(), over: over.walk(), claims: in.claims, first: uint32(len(base.claims))}
	}
	return in
}

// overCursor walks a snapshot and its overlay: for a name that the overlay contains, only the overlay applies.
type overCursor struct {
	view       *View // whose bytes both read
	base, over cursor
	claims     []sourcedClaim
	first      uint32 // the number of the overlay's first claim

	low, high         keyed // the next records of base and over
	haveLow, haveHigh bool
	replaced          []byte // the last name that the overlay contained
}

func (c *overCursor) next() (uint64, []byte, uint32, bool) {
	if c.over == nil {
		return c.base.next()
	}
	for {
		if !c.haveLow {
			c.low.hash, c.low.key, c.low.claim, c.haveLow = c.base.next()
		}
		if !c.haveHigh {
			c.high.hash, c.high.key, c.high.claim, c.haveHigh = c.over.next()
		}
		switch {
		case !c.haveLow && !c.haveHigh:
			return 0, nil, 0, false
		case c.haveLow && (!c.haveHigh || c.low.compare(c.high) < 0):
			c.haveLow = false
			if bytes.Equal(c.low.key, c.replaced) && c.replaced != nil {
				continue
			}
			return c.low.hash, c.low.key, c.low.claim, true
		}
		c.haveHigh = false
		c.replaced = append(c.replaced[:0], c.high.key...)
		id := c.first + c.high.claim
		if uint64(id) < uint64(len(c.claims)) && c.claims[id].Decision == gone {
			continue
		}
		return c.high.hash, c.high.key, id, true
	}
}

func (c *overCursor) err() error {
	if c.over == nil {
		return c.base.err()
	}
	return errors.Join(c.base.err(), c.over.err())
}

type snapshotCursor struct {
	names []byte
	at    int
}

func (c *snapshotCursor) next() (uint64, []byte, uint32, bool) {
	name, fact, next := record(c.names, c.at)
	if next == 0 {
		return 0, nil, 0, false
	}
	c.at = next
	return xxhash.Sum64(name), name, fact, true
}

func (c *snapshotCursor) err() error {
	if c.at != len(c.names) {
		return fmt.Errorf("%w: %w", ErrSnapshot, errDamaged)
	}
	return nil
}

// keyed is a record that is not stored among the names: an address prefix, or one made for an overlay.
type keyed struct {
	hash  uint64
	key   []byte
	claim uint32
}

func (k keyed) compare(o keyed) int {
	if c := cmp.Compare(k.hash, o.hash); c != 0 {
		return c
	}
	return bytes.Compare(k.key, o.key)
}

// keyedCursor walks records in memory.
type keyedCursor struct {
	records []keyed
	at      int
}

func (c *keyedCursor) next() (uint64, []byte, uint32, bool) {
	if c.at == len(c.records) {
		return 0, nil, 0, false
	}
	r := &c.records[c.at]
	c.at++
	return r.hash, r.key, r.claim, true
}

func (c *keyedCursor) err() error { return nil }

// withPrefixes walks names and, in the places of their keys' hashes, address prefixes.
type withPrefixes struct {
	cursor
	prefixes []keyed
	waiting  keyed // the name that follows the prefixes before it
	have     bool
}

func (c *withPrefixes) next() (uint64, []byte, uint32, bool) {
	if len(c.prefixes) == 0 && !c.have {
		return c.cursor.next()
	}
	if !c.have {
		c.waiting.hash, c.waiting.key, c.waiting.claim, c.have = c.cursor.next()
	}
	if len(c.prefixes) > 0 && (!c.have || c.prefixes[0].compare(c.waiting) < 0) {
		p := c.prefixes[0]
		c.prefixes = c.prefixes[1:]
		return p.hash, p.key, p.claim, true
	}
	have := c.have
	c.have = false
	return c.waiting.hash, c.waiting.key, c.waiting.claim, have
}
