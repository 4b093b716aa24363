package blocklist

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Info describes a snapshot.
type Info struct {
	Version uint64    // the version of the set
	Created time.Time // to the second
	Expiry  time.Time // to the second: a newer snapshot should have replaced it by then; the zero time means never
	Content uint64    // the caller's fingerprint of the inputs
	Base    uint64    // for an overlay, the checksum of its snapshot; 0 for a snapshot
}

// Compile merges inputs into one snapshot and writes it to w. Equal claims of several sources about a name become one record with all these sources; sources
// with the same name are one source. Compile reads the inputs twice, and holds only the filter and the index in memory: about 3 bytes per name.
func Compile(w io.Writer, info Info, inputs ...*Input) error {
	c := newCompiler(w, info)
	return c.run(inputs)
}

// Copy is the content of one list, to be written as a snapshot without the tables for queries.
type Copy struct {
	Info       Info
	Inputs     []*Input    // the listings of the list, in any number of parts
	Exceptions *Exceptions // the list's own exceptions; nil for none
	Before     *Input      // the previous content of the list, which dates the first listing of names; nil for none
	Seen       time.Time   // the date of the first listing of names that have no date in Inputs or Before
}

// Write writes the copy to w. OpenInput opens the written bytes as an input of Compile.
func (cp Copy) Write(w io.Writer) error {
	c := newCompiler(w, cp.Info)
	c.copyOnly, c.exceptions, c.seen = true, cp.Exceptions, dayOf(unix(cp.Seen))
	inputs := cp.Inputs
	if cp.Exceptions != nil && len(cp.Exceptions.scopes) > 0 && len(inputs) > 0 {
		excepts, err := cp.Exceptions.input(inputs[0].sources[0])
		if err != nil {
			return err
		}
		inputs = append(slices.Clone(inputs), excepts)
	}
	if cp.Before != nil {
		if err := c.addInput(cp.Before, mergedInput{renews: true}); err != nil {
			return fmt.Errorf("compiling the set: %w", err)
		}
	}
	return c.run(inputs)
}

func newCompiler(w io.Writer, info Info) *compiler {
	return &compiler{out: sectionWriter{w: w}, info: info, facts: map[fact]uint32{}, sets: map[string]uint32{}, ids: map[string]uint32{}}
}

type compiler struct {
	out        sectionWriter
	info       Info
	copyOnly   bool
	keepGone   bool
	exceptions *Exceptions
	seen       day
	inputs     []mergedInput
	sources    []Source
	quorum     quorum

	names  int      // distinct names
	labels uint64   // a mask of the numbers of labels that names have
	above  []uint64 // hashes of names below which a name may pass
	crowds crowds

	records  uint64
	index    []uint32
	filter   filter
	prefixes []keyed
	facts    map[fact]uint32
	factList []fact
	sets     map[string]uint32
	setList  [][]uint16
	ids      map[string]uint32
	idList   []string
}

func (c *compiler) run(inputs []*Input) error {
	for _, in := range inputs {
		if err := c.addInput(in, mergedInput{}); err != nil {
			return fmt.Errorf("compiling the set: %w", err)
		}
	}
	c.quorum = newQuorum(c.sources)
	err := error(nil)
	if !c.copyOnly { // a copy has no filter and no index, whose sizes must be known before names are written
		err = c.survey()
	}
	if err == nil {
		err = c.write()
	}
	if err != nil {
		return fmt.Errorf("compiling the set: %w", err)
	}
	return nil
}

// addInput adds an input as the last one.
func (c *compiler) addInput(in *Input, as mergedInput) error {
	number := make([]uint16, len(in.sources))
	for i, src := range in.sources {
		at := slices.IndexFunc(c.sources, func(s Source) bool { return s.Name == src.Name })
		switch {
		case at >= 0 && src.Fetched.After(c.sources[at].Fetched):
			c.sources[at].Fetched = src.Fetched
		case at < 0:
			if at = len(c.sources); at == math.MaxUint16 {
				return fmt.Errorf("more than %d sources", math.MaxUint16)
			}
			c.sources = append(c.sources, src)
		}
		number[i] = uint16(at)
	}
	as.Input = in
	as.claims = make([]sourcedClaim, len(in.claims))
	as.factOf = make([]uint32, len(in.claims))
	for i, cl := range in.claims {
		as.claims[i] = cl
		as.claims[i].sources = make([]uint16, 0, len(cl.sources))
		for _, s := range cl.sources {
			as.claims[i].sources = append(as.claims[i].sources, number[s])
		}
		slices.Sort(as.claims[i].sources)
		as.claims[i].sources = slices.Compact(as.claims[i].sources)
	}
	c.inputs = append(c.inputs, as)
	return nil
}

// survey reads the inputs for the first time. It counts the names, which determine the sizes of the filter and the index, and finds crowded parents
// and the names below which a name may pass.
func (c *compiler) survey() error {
	total := 0
	for _, in := range c.inputs {
		total += in.size
	}
	c.crowds = newCrowds(total)
	above := map[uint64]struct{}{}
	m := newMerge(c.inputs, c.keepGone)
	for m.next() {
		if !isName(m.key) {
			continue
		}
		c.names++
		labels := labelsOf(m.key)
		c.labels |= labelBit(labels)
		c.crowds.add(m.key, labels)
		if m.passes() {
			for s := parent(m.key); len(s) > 0; s = parent(s) {
				above[xxhash.Sum64(s)] = struct{}{}
			}
			if m.allowsBelow() {
				above[m.hash] = struct{}{}
			}
		}
	}
	for h := range above {
		c.above = append(c.above, h)
	}
	slices.Sort(c.above)
	return m.error
}

// passes reports whether the current name has an allow or an exception, for itself or for the names below it.
func (m *merge) passes() bool {
	if m.single != nil {
		d := m.single.in.claims[m.claim].Decision
		return d == Allow || d == Except
	}
	return slices.ContainsFunc(m.claims, func(c sourcedClaim) bool { return c.Decision == Allow || c.Decision == Except })
}

// allowsBelow reports whether the current name has an allow for the names below it.
func (m *merge) allowsBelow() bool {
	allows := func(c sourcedClaim) bool { return c.Decision == Allow && c.Scope&Below != 0 }
	if m.single != nil {
		return allows(m.single.in.claims[m.claim])
	}
	return slices.ContainsFunc(m.claims, allows)
}

func labelsOf(key []byte) (n int) {
	for len(key) > 0 {
		key = parent(key)
		n++
	}
	return n
}

// write reads the inputs for the second time, and writes the snapshot.
func (c *compiler) write() error {
	if !c.copyOnly {
		c.index = make([]uint32, bucketCount(c.names)+1)
		c.filter = newFilter(make([]uint64, filterLines(c.names)*lineBits/64))
	}
	c.out.header(c.info, c.names, c.labels)
	c.out.begin()
	if err := c.writeNames(); err != nil {
		return err
	}
	c.out.end()
	writeWords(&c.out, c.index, 4, binary.LittleEndian.PutUint32)
	writeWords(&c.out, c.filter.words, 8, binary.LittleEndian.PutUint64)
	c.out.facts(c.factList, c.ids)
	c.out.sets(c.setList)
	c.out.sources(c.sources)
	c.out.ids(c.idList)
	c.out.prefixes(c.prefixes)
	writeWords(&c.out, c.above, 8, binary.LittleEndian.PutUint64)
	return c.out.trailer(c.records)
}

func (c *compiler) writeNames() error {
	bucket, buckets := 0, uint64(max(0, len(c.index)-1))
	var buf []byte
	m := newMerge(c.inputs, c.keepGone)
	for m.next() {
		if !isName(m.key) {
			for _, f := range c.factsOf(m) {
				c.records++
				c.prefixes = append(c.prefixes, keyed{m.hash, slices.Clone(m.key), f})
			}
			continue
		}
		if !c.copyOnly {
			for b := int(scale(m.hash, buckets)); bucket <= b; bucket++ {
				c.index[bucket] = uint32(c.out.size)
			}
			c.filter.add(m.key, m.hash, c.crowds)
		}
		buf = buf[:0]
		for _, f := range c.factsOf(m) {
			c.records++
			buf = append(buf, byte(len(m.key)))
			buf = append(buf, m.key...)
			buf = binary.AppendUvarint(buf, uint64(f))
		}
		if uint64(c.out.size+len(buf)) > math.MaxUint32 {
			return ErrFull
		}
		c.out.write(buf)
	}
	for ; bucket < len(c.index); bucket++ {
		c.index[bucket] = uint32(c.out.size)
	}
	return m.error
}

// factsOf returns the numbers of the current entry's facts, in the order of the entry; muted facts are last. The next call overwrites the result.
func (c *compiler) factsOf(m *merge) []uint32 {
	plain := m.single != nil && len(m.since) == 0 && !c.copyOnly
	if plain {
		if f := m.single.in.factOf[m.claim]; f > 0 {
			m.facts = append(m.facts[:0], f-1)
			return m.facts
		}
	}
	entry := m.entry(c.exceptions)
	m.facts = m.facts[:0]
	for _, muted := range []bool{false, true} {
		for i, cl := range entry {
			if c.quorum.mutes(entry, i) != muted {
				continue
			}
			if c.copyOnly && cl.since == 0 {
				cl.since = c.seen
			}
			m.facts = append(m.facts, c.fact(fact{cl.claim, cl.since, muted, c.set(cl.sources)}))
		}
	}
	if plain && len(m.facts) == 1 {
		m.single.in.factOf[m.claim] = m.facts[0] + 1
	}
	return m.facts
}

func (c *compiler) fact(f fact) uint32 {
	if n := len(c.factList); n > 0 && c.factList[n-1] == f {
		return uint32(n - 1)
	}
	id, ok := c.facts[f]
	if !ok {
		id = uint32(len(c.factList))
		c.facts[f] = id
		c.factList = append(c.factList, f)
		if _, known := c.ids[f.ID]; f.ID != "" && !known {
			c.idList = append(c.idList, f.ID)
			c.ids[f.ID] = uint32(len(c.idList))
		}
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
