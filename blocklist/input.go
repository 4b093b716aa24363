package blocklist

import "github.com/cespare/xxhash/v2"

// Input is what Compile merges: the listings of one or more sources, in the order of their
// names' hashes. It can be walked any number of times, by one goroutine at a time.
type Input struct {
	sources []Source
	claims  []sourcedClaim
	size    int
	walk    func() cursor
}

// sourcedClaim is a claim with the sources, as indices of Input.sources, that make it.
type sourcedClaim struct {
	claim
	sources []uint16
}

// cursor yields listings ordered by (hash, name); name is without the root and borrowed
// until the next call.
type cursor interface {
	next() (hash uint64, name []byte, claim uint32, ok bool)
}

// Len is the number of listings, each claim of a name counted.
func (in *Input) Len() int { return in.size }

func (b *Builder) input(src Source) *Input {
	claims := make([]sourcedClaim, len(b.claims))
	for i, c := range b.claims {
		claims[i] = sourcedClaim{c, []uint16{0}}
	}
	return &Input{
		sources: []Source{src}, claims: claims, size: len(b.listings),
		walk: func() cursor { return &builderCursor{b: b} },
	}
}

type builderCursor struct {
	b  *Builder
	at int
}

func (c *builderCursor) next() (uint64, []byte, uint32, bool) {
	if c.at == len(c.b.listings) {
		return 0, nil, 0, false
	}
	l := c.b.listings[c.at]
	c.at++
	return l.hash, c.b.name(l), uint32(l.claim), true
}

// Input is the snapshot's content, to be merged into another. The snapshot's bytes stay borrowed.
func (s *Snapshot) Input() *Input {
	claims := make([]sourcedClaim, len(s.facts))
	for i, f := range s.facts {
		claims[i] = sourcedClaim{f.claim, s.sets[f.set]}
	}
	return &Input{
		sources: s.sources, claims: claims, size: s.records,
		walk: func() cursor { return &snapshotCursor{names: s.names} },
	}
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
