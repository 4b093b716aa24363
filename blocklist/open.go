package blocklist

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Snapshot is an opened snapshot: immutable, read in place from the bytes given to Open, and safe for concurrent use as long as these do not change.
type Snapshot struct {
	tables
	deepest int // largest number of labels of a name
	names   []byte
	index   []uint32
	crowded []crowdedBucket // of index
	filter  filter
	above   []uint64
	large   []extent // the sections that Open did not check
	data    []byte
}

// tables are the small sections of a snapshot, checked when opened.
type tables struct {
	info       Info
	checksum   uint64
	size       int
	count      int // names
	records    int
	labels     uint64 // mask of numbers of labels
	factData   []byte
	sets       [][]uint16
	sourceList []Source
	ids        []string
	prefixData []byte
	allows     bool           // some fact is an allow
	bits       []netip.Prefix // the families and lengths of prefixes, longest first, each with the zero address
}

// Info, Checksum, Size, Names and Sources describe the snapshot. Checksum covers all its bytes, Size is their number, Names is the number of distinct names.
func (t *tables) Info() Info        { return t.info }
func (t *tables) Checksum() uint64  { return t.checksum }
func (t *tables) Size() int         { return t.size }
func (t *tables) Names() int        { return t.count }
func (t *tables) Sources() []Source { return t.sourceList }

// Open checks header, trailer and tables of data, and borrows it. It reads the index, but not names and filter,
// because that takes long for a large set. Verify checks all three; before that, damage in them may hide a listing,
// but does no other harm. Any error wraps ErrSnapshot.
func Open(data []byte) (*Snapshot, error) {
	s, err := open(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, nil
}

func open(data []byte) (*Snapshot, error) {
	s := &Snapshot{data: data}
	sections, err := s.read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	s.large = sections[:sectionFacts]
	cut := func(e extent) []byte { return data[e.offset : e.offset+e.length : e.offset+e.length] }
	s.factData, s.prefixData = cut(sections[sectionFacts]), cut(sections[sectionPrefixes]) // in place, not on the heap
	le := binary.LittleEndian
	s.names = cut(sections[sectionNames])
	s.index = wordsOf(cut(sections[sectionIndex]), le.Uint32)
	s.filter = newFilter(wordsOf(cut(sections[sectionFilter]), le.Uint64))
	s.above = wordsOf(cut(sections[sectionAbove]), le.Uint64)
	s.deepest = deepest(s.labels)
	if len(s.index) == 0 && s.filter.lines == 0 {
		return nil, fmt.Errorf("it is a list's copy, which is not for queries")
	}
	if len(s.index) != bucketCount(s.count)+1 || int(s.filter.lines) != filterLines(s.count) {
		return nil, fmt.Errorf("its tables do not fit its count of names (%d)", s.count)
	}
	s.crowded = crowdedBuckets(s.index, s.names)
	return s, nil
}

// Verify reads and checks the whole snapshot. It may run while queries use the snapshot. Its error wraps ErrSnapshot.
func (s *Snapshot) Verify() error {
	for i, e := range s.large {
		if xxhash.Sum64(s.data[e.offset:e.offset+e.length]) != e.checksum {
			return fmt.Errorf("%w: section %d does not match its checksum", ErrSnapshot, i)
		}
	}
	return nil
}

// read reads header, trailer and tables of a snapshot of that size.
func (t *tables) read(r io.ReaderAt, size int64) (sections [sectionCount]extent, err error) {
	if size < int64(headerLen+trailerLen) {
		return sections, fmt.Errorf("it is truncated (%d bytes)", size)
	}
	var header [headerLen]byte
	var trailer [trailerLen]byte
	if err := readFull(r, header[:], 0); err != nil {
		return sections, err
	}
	if err := readFull(r, trailer[:], size-int64(trailerLen)); err != nil {
		return sections, err
	}
	le := binary.LittleEndian
	switch {
	case string(header[:len(magic)]) != magic:
		return sections, fmt.Errorf("it does not begin as one")
	case le.Uint64(header[8:]) != formatVersion:
		return sections, fmt.Errorf("its format is version %d, this program reads %d", le.Uint64(header[8:]), formatVersion)
	case string(trailer[trailerLen-len(magic):]) != magic:
		return sections, fmt.Errorf("its end is missing")
	case wholeSum(header[:], trailer[:tableLen]) != le.Uint64(trailer[tableLen:]):
		return sections, fmt.Errorf("its header or trailer does not match its checksum")
	}
	*t = tables{
		info: Info{
			Version: le.Uint64(header[16:]), Content: le.Uint64(header[40:]),
			Created: time.Unix(int64(le.Uint64(header[24:])), 0).UTC(), Expiry: fromUnix(int64(le.Uint64(header[32:]))),
			Base: le.Uint64(header[48:]),
		},
		checksum: le.Uint64(trailer[tableLen:]), size: int(size), count: int(le.Uint64(header[56:])), labels: le.Uint64(header[64:]),
		records: int(le.Uint64(trailer[tableLen-8:])),
	}
	if sections, err = readSections(trailer[:tableLen], uint64(size)-uint64(trailerLen)); err != nil {
		return sections, err
	}
	if t.count < 0 || t.records < 0 || uint64(t.count) > sections[sectionNames].length/2 || uint64(t.records) > uint64(size)/2 {
		return sections, fmt.Errorf("it counts more names than it holds")
	}
	return sections, t.readTables(r, sections)
}

func readFull(r io.ReaderAt, p []byte, at int64) error {
	if n, err := r.ReadAt(p, at); n < len(p) {
		return fmt.Errorf("reading it: %w", err)
	}
	return nil
}

// readSections reads the places of sections: one after the other, up to limit.
func readSections(table []byte, limit uint64) (sections [sectionCount]extent, err error) {
	le := binary.LittleEndian
	at := uint64(headerLen)
	for i := range sections {
		e := extent{le.Uint64(table[24*i:]), le.Uint64(table[24*i+8:]), le.Uint64(table[24*i+16:])}
		if e.offset < at || e.offset > limit || e.length > limit-e.offset || e.offset%alignment != 0 {
			return sections, fmt.Errorf("section %d lies outside of it", i)
		}
		at = e.offset + e.length
		sections[i] = e
	}
	return sections, nil
}

// maxTable bounds the tables that are read whole, in bytes.
const maxTable = 1 << 30

// readTables reads the small sections, from facts on.
func (t *tables) readTables(r io.ReaderAt, sections [sectionCount]extent) error {
	var data [sectionCount][]byte
	for i := sectionFacts; i < sectionCount; i++ {
		e := sections[i]
		if e.length > maxTable {
			return fmt.Errorf("section %d is too large", i)
		}
		data[i] = make([]byte, e.length)
		if err := readFull(r, data[i], int64(e.offset)); err != nil {
			return err
		}
		if xxhash.Sum64(data[i]) != e.checksum {
			return fmt.Errorf("section %d does not match its checksum", i)
		}
	}
	t.factData, t.prefixData = data[sectionFacts], data[sectionPrefixes]
	if err := t.readSets(data[sectionSets]); err != nil {
		return err
	}
	if err := t.readSources(data[sectionSources]); err != nil {
		return err
	}
	for b := data[sectionIDs]; len(b) > 0; {
		id, rest, ok := cutText(b)
		if !ok {
			return fmt.Errorf("the id of a decision is truncated")
		}
		t.ids, b = append(t.ids, id), rest
	}
	return t.check()
}

func (t *tables) readSets(b []byte) error {
	for len(b) >= 2 {
		n := int(binary.LittleEndian.Uint16(b))
		if b = b[2:]; len(b) < 2*n {
			return fmt.Errorf("a set of sources is truncated")
		}
		set := make([]uint16, n)
		for i := range set {
			set[i] = binary.LittleEndian.Uint16(b[2*i:])
		}
		t.sets = append(t.sets, set)
		b = b[2*n:]
	}
	return nil
}

func (t *tables) readSources(b []byte) error {
	for len(b) > 0 {
		name, rest, ok := cutText(b)
		fetched, n := binary.Varint(rest)
		weight, m := binary.Uvarint(rest[max(n, 0):])
		quorum, o := binary.Uvarint(rest[max(n, 0)+max(m, 0):])
		if !ok || n <= 0 || m <= 0 || o <= 0 || weight > 1<<31-1 || quorum > 1<<31-1 {
			return fmt.Errorf("a source is truncated")
		}
		t.sourceList = append(t.sourceList, Source{name, fromUnix(fetched), int(weight), int(quorum)})
		b = rest[n+m+o:]
	}
	return nil
}

func cutText(b []byte) (text string, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return "", nil, false
	}
	return string(b[w : w+int(n)]), b[w+int(n):], true
}

// check reads the tables once, so that a lookup can trust their content.
func (t *tables) check() error {
	for i := range t.factCount() {
		f, ok := t.fact(uint32(i))
		if !ok || int(f.set) >= len(t.sets) || f.Decision >= decisionCount || f.Scope > Subtree || f.Category >= 32 {
			return fmt.Errorf("fact %d is malformed", i)
		}
		t.allows = t.allows || f.Decision == Allow
	}
	for _, set := range t.sets {
		for i, m := range set {
			if int(m) >= len(t.sourceList) || i > 0 && m <= set[i-1] {
				return fmt.Errorf("a set names a source that is not there, or one twice")
			}
		}
	}
	for i := range len(t.prefixData) / prefixLen {
		p, f := t.prefix(i)
		if !p.IsValid() || int(f) >= t.factCount() {
			return fmt.Errorf("prefix %d is malformed", i)
		}
		if length, err := zeroOf(p.Addr()).Prefix(p.Bits()); err == nil && !slices.Contains(t.bits, length) {
			t.bits = append(t.bits, length)
		}
	}
	slices.SortFunc(t.bits, func(a, b netip.Prefix) int { return b.Bits() - a.Bits() })
	return nil
}

func (t *tables) factCount() int { return len(t.factData) / factLen }

// fact reads fact number i in place; false if there is none.
func (t *tables) fact(i uint32) (fact, bool) {
	if int(i) >= t.factCount() {
		return fact{}, false
	}
	le := binary.LittleEndian
	b := t.factData[int(i)*factLen:][:factLen]
	f := fact{
		claim: claim{
			Decision: Decision(b[0]), Scope: Scope(b[1]), Category: Category(b[2]), Mark: Mark(b[3]),
			Start: int64(le.Uint64(b[16:])), Expiry: int64(le.Uint64(b[24:])),
		},
		muted: b[4] == 1, since: day(le.Uint16(b[6:])), set: le.Uint32(b[8:]),
	}
	if id := le.Uint32(b[12:]); id > 0 && int(id) <= len(t.ids) {
		f.ID = t.ids[id-1]
	}
	return f, true
}

// sources returns a set of sources.
func (t *tables) sources(set uint32) []uint16 {
	if int(set) >= len(t.sets) {
		return nil
	}
	return t.sets[set]
}

// prefix reads prefix number i; not valid if it is malformed.
func (t *tables) prefix(i int) (p netip.Prefix, fact uint32) {
	b := t.prefixData[i*prefixLen:][:prefixLen]
	p, _ = prefixOf(append([]byte{prefixMark}, b[:prefixKeyLen-1]...))
	return p, binary.LittleEndian.Uint32(b[prefixLen-4:])
}

func (t *tables) prefixesByHash() []keyed {
	var all []keyed
	for i := range len(t.prefixData) / prefixLen {
		p, f := t.prefix(i)
		key := appendPrefix(nil, p)
		all = append(all, keyed{xxhash.Sum64(key), key, f})
	}
	slices.SortStableFunc(all, keyed.compare)
	return all
}

func zeroOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
