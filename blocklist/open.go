package blocklist

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/bits-and-blooms/bloom/v3"
	"github.com/cespare/xxhash/v2"
)

// Snapshot is an opened snapshot: immutable, read in place from the bytes given to Open, safe
// for concurrent use for as long as they stay as they are.
type Snapshot struct {
	info     Info
	checksum uint64
	size     int
	count    int // names
	records  int
	depth    int

	names   []byte
	index   []uint32
	lines   uint64
	filter  *bloom.BloomFilter
	facts   []fact
	sets    [][]uint16
	sources []Source
}

// Info, Checksum, Size, Names and Sources tell what the snapshot is. Checksum covers all its
// octets, Size counts them, Names counts distinct names.
func (s *Snapshot) Info() Info        { return s.info }
func (s *Snapshot) Checksum() uint64  { return s.checksum }
func (s *Snapshot) Size() int         { return s.size }
func (s *Snapshot) Names() int        { return s.count }
func (s *Snapshot) Sources() []Source { return s.sources }

// Open checks data, every checksum and table of it, and borrows it. Any error wraps ErrSnapshot.
func Open(data []byte) (*Snapshot, error) {
	s, err := open(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, nil
}

func open(data []byte) (*Snapshot, error) {
	if len(data) < headerLen+trailerLen || string(data[:len(magic)]) != magic {
		return nil, fmt.Errorf("it does not begin as one, or is cut short (%d octets)", len(data))
	}
	if string(data[len(data)-len(magic):]) != magic {
		return nil, fmt.Errorf("its end is missing")
	}
	le := binary.LittleEndian
	if v := le.Uint32(data[8:]); v != formatVersion {
		return nil, fmt.Errorf("its format is version %d, this program reads %d", v, formatVersion)
	}
	sum := le.Uint64(data[len(data)-len(magic)-8:])
	if xxhash.Sum64(data[:len(data)-len(magic)-8]) != sum {
		return nil, fmt.Errorf("its checksum does not match its content")
	}
	s := &Snapshot{
		info: Info{
			Version: le.Uint64(data[16:]), Content: le.Uint64(data[32:]),
			Created: time.Unix(int64(le.Uint64(data[24:])), 0).UTC(),
		},
		checksum: sum, size: len(data),
		depth: int(le.Uint32(data[12:])), count: int(le.Uint64(data[40:])),
	}
	sections, err := readTrailer(data)
	if err != nil {
		return nil, err
	}
	s.names = sections[sectionNames]
	s.index = wordsOf(sections[sectionIndex], le.Uint32)
	words := wordsOf(sections[sectionFilter], le.Uint64)
	s.lines = uint64(len(words)) * 64 / lineBits
	if s.count < 0 || len(s.index) != bucketCount(s.count)+1 || int(s.lines) != filterLines(s.count) {
		return nil, fmt.Errorf("its tables do not fit its count of names (%d)", s.count)
	}
	s.filter = bloom.FromWithM(words, uint(len(words)*64), filterHashes)
	if err := s.readFacts(sections); err != nil {
		return nil, err
	}
	return s, s.check()
}

// readTrailer cuts data into its sections.
func readTrailer(data []byte) (sections [sectionCount][]byte, err error) {
	table := data[len(data)-trailerLen:]
	limit := uint64(len(data) - trailerLen)
	for i := range sections {
		e := extent{
			binary.LittleEndian.Uint64(table[24*i:]), binary.LittleEndian.Uint64(table[24*i+8:]),
			binary.LittleEndian.Uint64(table[24*i+16:]),
		}
		if e.offset > limit || e.length > limit-e.offset {
			return sections, fmt.Errorf("section %d lies outside of it", i)
		}
		sections[i] = data[e.offset : e.offset+e.length]
		if xxhash.Sum64(sections[i]) != e.checksum {
			return sections, fmt.Errorf("section %d does not match its checksum", i)
		}
	}
	return sections, nil
}

// readFacts decodes the small tables.
func (s *Snapshot) readFacts(sections [sectionCount][]byte) error {
	le := binary.LittleEndian
	for b := sections[sectionSets]; len(b) >= 2; {
		n := int(le.Uint16(b))
		if b = b[2:]; len(b) < 2*n {
			return fmt.Errorf("a set of sources is cut short")
		}
		set := make([]uint16, n)
		for i := range set {
			set[i] = le.Uint16(b[2*i:])
		}
		s.sets = append(s.sets, set)
		b = b[2*n:]
	}
	for b := sections[sectionSources]; len(b) > 0; {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return fmt.Errorf("a source's name is cut short")
		}
		name := string(b[w : w+int(n)])
		fetched, v := binary.Varint(b[w+int(n):])
		if v <= 0 {
			return fmt.Errorf("a source's date is cut short")
		}
		s.sources = append(s.sources, Source{name, fromUnix(fetched)})
		b = b[w+int(n)+v:]
	}
	for b := sections[sectionFacts]; len(b) >= factLen; b = b[factLen:] {
		f := fact{
			claim: claim{
				Decision(b[0]), Scope(b[1]), Category(b[2]), Mark(b[3]),
				int64(le.Uint64(b[16:])), int64(le.Uint64(b[24:])),
			},
			set: uint32(le.Uint64(b[8:])), holdsPass: b[4] == 1,
		}
		if int(f.set) >= len(s.sets) {
			return fmt.Errorf("a fact names sources that are not there")
		}
		s.facts = append(s.facts, f)
	}
	for _, set := range s.sets {
		for _, m := range set {
			if int(m) >= len(s.sources) {
				return fmt.Errorf("a set names a source that is not there")
			}
		}
	}
	return nil
}

// check walks the records once, so that a lookup can trust what it meets.
func (s *Snapshot) check() error {
	for i := 1; i < len(s.index); i++ {
		if s.index[i] < s.index[i-1] {
			return fmt.Errorf("its index is out of order")
		}
	}
	if int(s.index[len(s.index)-1]) != len(s.names) || s.index[0] != 0 {
		return fmt.Errorf("its index does not cover its names")
	}
	bucket := 0
	for at := 0; at < len(s.names); {
		for bucket < len(s.index) && int(s.index[bucket]) <= at {
			if int(s.index[bucket]) != at {
				return fmt.Errorf("bucket %d begins inside a record", bucket)
			}
			bucket++
		}
		name, f, next := record(s.names, at)
		if next == 0 || int(f) >= len(s.facts) || !sound(name) {
			return fmt.Errorf("record %d is malformed", s.records)
		}
		s.records++
		at = next
	}
	return nil
}

// sound reports whether a name without its root is made of whole labels.
func sound(name []byte) bool {
	at := 0
	for at < len(name) && name[at] != 0 && name[at] < 64 {
		at += 1 + int(name[at])
	}
	return at == len(name)
}
