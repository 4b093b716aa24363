package blocklist

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// ErrFull is returned when a source or a snapshot outgrows the 32-bit offsets of the format.
var ErrFull = errors.New("more than 4 GiB of names")

// Builder gathers one source's listings and applies that source's own exceptions. It is
// not safe for concurrent use.
type Builder struct {
	names    []byte // of each listing in turn: its name, without the root
	listings []builtListing
	claims   []claim
	claimOf  map[claim]uint32
	excepted bool
	canceled map[string]uint8 // by name: bit s for a scope s whose blocks are dropped
}

// builtListing is one listing: where its name stands in Builder.names, and which claim it makes.
type builtListing struct {
	hash  uint64
	name  uint32
	size  uint8
	claim uint16
}

// claim is all of a listing but its name; few distinct ones occur in a source.
type claim struct {
	Decision Decision
	Scope    Scope
	Category Category
	Mark     Mark
	Start    int64
	Expiry   int64
}

const maxClaims = math.MaxUint16

// NewBuilder returns an empty builder.
func NewBuilder() *Builder {
	return &Builder{claimOf: map[claim]uint32{}, canceled: map[string]uint8{}}
}

// Len is the number of listings added, repeated and cancelled ones included.
func (b *Builder) Len() int { return len(b.listings) }

// Add takes a listing in, copying its name, which is a sound canonical name. Its error is ErrFull.
func (b *Builder) Add(l Listing) error {
	name := l.Name[:len(l.Name)-1]
	if uint64(len(b.names)+len(name)) > math.MaxUint32 {
		return ErrFull
	}
	id, ok := b.claim(claim{l.Decision, l.Scope, l.Category, l.Mark, l.Start, l.Expiry})
	if !ok {
		return ErrFull
	}
	b.excepted = b.excepted || l.Decision == Except
	b.listings = append(b.listings, builtListing{xxhash.Sum64(name), uint32(len(b.names)), uint8(len(name)), uint16(id)})
	b.names = append(b.names, name...)
	return nil
}

// Cancel drops the source's block of exactly that name and scope, wherever it stands ($badfilter).
func (b *Builder) Cancel(name []byte, scope Scope) {
	b.canceled[string(name[:len(name)-1])] |= 1 << scope
}

// claim interns c.
func (b *Builder) claim(c claim) (uint32, bool) {
	id, ok := b.claimOf[c]
	if !ok {
		if len(b.claims) >= maxClaims {
			return 0, false
		}
		id = uint32(len(b.claims))
		b.claims = append(b.claims, c)
		b.claimOf[c] = id
	}
	return id, true
}

// Input sorts what was added, applies cancellations and the source's own exceptions, and
// returns it for Compile. The builder is used up.
func (b *Builder) Input(src Source) *Input {
	slices.SortFunc(b.listings, func(x, y builtListing) int {
		if c := cmp.Compare(x.hash, y.hash); c != 0 {
			return c
		}
		if c := bytes.Compare(b.name(x), b.name(y)); c != 0 {
			return c
		}
		return cmp.Compare(x.claim, y.claim)
	})
	b.listings = slices.CompactFunc(b.listings, func(x, y builtListing) bool {
		return x.hash == y.hash && x.claim == y.claim && bytes.Equal(b.name(x), b.name(y))
	})
	if len(b.canceled) > 0 {
		b.listings = slices.DeleteFunc(b.listings, func(l builtListing) bool {
			c := b.claims[l.claim]
			return c.Decision == Block && b.canceled[string(b.name(l))]&(1<<c.Scope) != 0
		})
	}
	if b.excepted {
		b.applyExceptions()
	}
	return b.input(src)
}

func (b *Builder) name(l builtListing) []byte { return b.names[l.name : l.name+uint32(l.size)] }

// applyExceptions takes out of each block what the source's own exceptions reach, and keeps
// of the exceptions those that a block of a shorter name still reaches.
func (b *Builder) applyExceptions() {
	excepts := map[string]Scope{}
	for _, l := range b.listings {
		if c := b.claims[l.claim]; c.Decision == Except {
			excepts[string(b.name(l))] |= c.Scope
		}
	}
	blocks := map[string]bool{} // the blocked ancestors, and only those, of exceptions
	for name := range excepts {
		for s := parent([]byte(name)); len(s) > 0; s = parent(s) {
			blocks[string(s)] = false
		}
	}
	kept := b.listings[:0]
	for _, l := range b.listings {
		c := b.claims[l.claim]
		name := b.name(l)
		if c.Decision == Block {
			left := c.Scope &^ excepts[string(name)]
			for s := parent(name); len(s) > 0 && left != 0; s = parent(s) {
				if excepts[string(s)]&Below != 0 {
					left = 0
				}
			}
			if left == 0 {
				continue
			}
			if left != c.Scope {
				c.Scope = left
				id, ok := b.claim(c)
				if !ok {
					continue // fail towards answering: the block goes, not the exception
				}
				l.claim = uint16(id)
			}
			if _, ok := blocks[string(name)]; ok && left&Below != 0 {
				blocks[string(name)] = true
			}
		}
		kept = append(kept, l)
	}
	b.listings = slices.DeleteFunc(kept, func(l builtListing) bool {
		if b.claims[l.claim].Decision != Except {
			return false
		}
		for s := parent(b.name(l)); len(s) > 0; s = parent(s) {
			if blocks[string(s)] {
				return false
			}
		}
		return true
	})
}

// parent is the name without its first label; both are without the root.
func parent(name []byte) []byte {
	if len(name) == 0 {
		return nil
	}
	return name[1+int(name[0]):]
}
