package blocklist

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/bits-and-blooms/bloom/v3"

	"rempart/internal/wire"
)

// Info is what a snapshot says of itself.
type Info struct {
	Version uint64    // of the set; never reused, never lower
	Created time.Time // to the second
	Content uint64    // the caller's fingerprint of what it was made from
}

// Compile merges inputs into the bytes of a snapshot on w. Claims of several sources about a
// name become one record each where they agree, with the union of their sources. It walks
// inputs twice, and holds in memory the filter and the index only: about 2.5 octets a name.
func Compile(w io.Writer, info Info, inputs ...*Input) error {
	c := &compiler{
		out:   sectionWriter{w: w},
		info:  info,
		facts: map[fact]uint32{},
		sets:  map[string]uint32{},
	}
	for _, in := range inputs {
		if err := c.addInput(in); err != nil {
			return fmt.Errorf("compiling the set: %w", err)
		}
	}
	c.survey()
	if err := c.write(); err != nil {
		return fmt.Errorf("compiling the set: %w", err)
	}
	return nil
}

type compiler struct {
	out     sectionWriter
	info    Info
	inputs  []mergedInput
	sources []Source

	names     int             // distinct ones
	depth     int             // most labels of a name
	abovePass map[string]bool // proper ancestors of allowed and excepted names

	index    []uint32
	filter   *bloom.BloomFilter
	facts    map[fact]uint32
	factList []fact
	sets     map[string]uint32
	setList  [][]uint16
}

// mergedInput is an input with its sources renumbered for the whole.
type mergedInput struct {
	*Input
	claims []sourcedClaim
}

// fact is a claim as a record holds it: with its set of sources, interned.
type fact struct {
	claim
	set       uint32
	holdsPass bool // a name below passes: RFC 8020 forbids NXDOMAIN here
}

func (c *compiler) addInput(in *Input) error {
	base := len(c.sources)
	if base+len(in.sources) > math.MaxUint16 {
		return fmt.Errorf("%d sources are more than %d", base+len(in.sources), math.MaxUint16)
	}
	c.sources = append(c.sources, in.sources...)
	claims := make([]sourcedClaim, len(in.claims))
	for i, cl := range in.claims {
		claims[i].claim = cl.claim
		for _, s := range cl.sources {
			claims[i].sources = append(claims[i].sources, uint16(base)+s)
		}
	}
	c.inputs = append(c.inputs, mergedInput{in, claims})
	return nil
}

// survey is the first walk: it counts names, so that filter and index get their size, and
// finds what stands above a name that passes.
func (c *compiler) survey() {
	c.abovePass = map[string]bool{}
	for g := newMerge(c.inputs); g.next(); {
		c.names++
		c.depth = max(c.depth, wire.Labels(g.name))
		for _, cl := range g.claims {
			if cl.Decision == Block {
				continue
			}
			for s := parent(g.name); len(s) > 0; s = parent(s) {
				c.abovePass[string(s)] = true
			}
		}
	}
}

// write is the second walk.
func (c *compiler) write() error {
	c.index = make([]uint32, bucketCount(c.names)+1)
	lines := filterLines(c.names)
	c.filter = bloom.FromWithM(make([]uint64, lines*lineBits/64), uint(lines*lineBits), filterHashes)
	c.out.header(c.info, c.names, c.depth)

	c.out.begin()
	bucket, buckets := 0, uint64(len(c.index)-1)
	var buf []byte
	for g := newMerge(c.inputs); g.next(); {
		for b := int(scale(g.hash, buckets)); bucket <= b; bucket++ {
			c.index[bucket] = uint32(c.out.size)
		}
		for _, loc := range filterLocations(g.hash, uint64(lines)) {
			c.filter.BitSet().Set(uint(loc))
		}
		buf = buf[:0]
		for _, f := range c.entry(g) {
			buf = append(buf, byte(len(g.name)))
			buf = append(buf, g.name...)
			buf = binary.AppendUvarint(buf, uint64(c.fact(f)))
		}
		if uint64(c.out.size+len(buf)) > math.MaxUint32 {
			return ErrFull
		}
		c.out.write(buf)
	}
	for ; bucket < len(c.index); bucket++ {
		c.index[bucket] = uint32(c.out.size)
	}
	c.out.end()
	writeWords(&c.out, c.index, 4, binary.LittleEndian.PutUint32)
	writeWords(&c.out, c.filter.BitSet().Words(), 8, binary.LittleEndian.PutUint64)
	c.out.facts(c.factList)
	c.out.sets(c.setList)
	c.out.sources(c.sources)
	return c.out.trailer()
}

// entry is what the set holds of one name: allows first, exceptions, then blocks, exact before
// wider scopes, so that the first block that reaches a name is the one that decides.
func (c *compiler) entry(g *merge) []fact {
	claims := g.claims
	slices.SortFunc(claims, func(x, y sourcedClaim) int {
		return cmp.Or(
			-cmp.Compare(x.Decision, y.Decision),
			cmp.Compare(x.Scope&Below, y.Scope&Below), cmp.Compare(y.Scope, x.Scope),
			cmp.Compare(x.Category, y.Category), cmp.Compare(x.Mark, y.Mark),
			cmp.Compare(x.Start, y.Start), cmp.Compare(x.Expiry, y.Expiry),
		)
	})
	holds := len(c.abovePass) > 0 && c.abovePass[string(g.name)]
	g.facts = g.facts[:0]
	for i := 0; i < len(claims); {
		sources := claims[i].sources
		j := i + 1
		if j < len(claims) && claims[j].claim == claims[i].claim {
			sources = slices.Clone(sources)
			for ; j < len(claims) && claims[j].claim == claims[i].claim; j++ {
				sources = append(sources, claims[j].sources...)
			}
			slices.Sort(sources)
			sources = slices.Compact(sources)
		}
		g.facts = append(g.facts, fact{claims[i].claim, c.set(sources), holds})
		i = j
	}
	return g.facts
}

func (c *compiler) fact(f fact) uint32 {
	id, ok := c.facts[f]
	if !ok {
		id = uint32(len(c.factList))
		c.facts[f] = id
		c.factList = append(c.factList, f)
	}
	return id
}

func (c *compiler) set(sources []uint16) uint32 {
	var key [64]byte
	b := key[:0]
	for _, s := range sources {
		b = binary.LittleEndian.AppendUint16(b, s)
	}
	id, ok := c.sets[string(b)]
	if !ok {
		id = uint32(len(c.setList))
		c.sets[string(b)] = id
		c.setList = append(c.setList, slices.Clone(sources))
	}
	return id
}

// merge walks inputs together, name by name.
type merge struct {
	hash   uint64
	name   []byte
	claims []sourcedClaim // of all inputs about name
	facts  []fact         // scratch of compiler.entry

	heads []head // a heap, the lowest (hash, name) first
}

// head is one input with the listing it stands at.
type head struct {
	cursor
	claims []sourcedClaim
	hash   uint64
	name   []byte
	claim  uint32
}

func newMerge(inputs []mergedInput) *merge {
	m := &merge{}
	for _, in := range inputs {
		h := head{cursor: in.walk(), claims: in.claims}
		if h.advance() {
			m.heads = append(m.heads, h)
		}
	}
	for i := len(m.heads)/2 - 1; i >= 0; i-- {
		m.sink(i)
	}
	return m
}

func (h *head) advance() (ok bool) {
	h.hash, h.name, h.claim, ok = h.next()
	return ok
}

func (m *merge) next() bool {
	if len(m.heads) == 0 {
		return false
	}
	m.hash = m.heads[0].hash
	m.name = append(m.name[:0], m.heads[0].name...)
	m.claims = m.claims[:0]
	for len(m.heads) > 0 && m.heads[0].hash == m.hash && bytes.Equal(m.heads[0].name, m.name) {
		h := &m.heads[0]
		m.claims = append(m.claims, h.claims[h.claim])
		if !h.advance() {
			last := len(m.heads) - 1
			m.heads[0] = m.heads[last]
			m.heads = m.heads[:last]
		}
		m.sink(0)
	}
	return true
}

// sink restores the heap's order from i down.
func (m *merge) sink(i int) {
	for {
		low := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(m.heads); child++ {
			if m.heads[child].before(&m.heads[low]) {
				low = child
			}
		}
		if low == i {
			return
		}
		m.heads[i], m.heads[low] = m.heads[low], m.heads[i]
		i = low
	}
}

func (h *head) before(o *head) bool {
	if h.hash != o.hash {
		return h.hash < o.hash
	}
	return bytes.Compare(h.name, o.name) < 0
}

// scale maps a hash to [0, n), keeping order: buckets follow one another as hashes do.
func scale(hash, n uint64) uint64 {
	hi, _ := bits.Mul64(hash, n)
	return hi
}
