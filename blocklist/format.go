package blocklist

import (
	"encoding/binary"
	"errors"
	"io"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// A snapshot is, all little-endian:
//
//	header   64 octets: magic, format, depth, version, created, content, names
//	names    of each record in turn: length, name without the root, fact number (uvarint),
//	         ordered by the name's hash
//	index    of each bucket of hashes: where its first record stands in names; one more at the end
//	filter   the bloom filter's words
//	facts    32 octets each
//	sets     of each set of sources: its size, then its members, 16 bits each
//	sources  of each: name (length and octets), fetched
//	trailer  offset, length and checksum of each section, checksum of all before, magic
//
// Sections begin at multiples of 64. A file cut short has no trailer, and is refused.
const (
	formatVersion = 1
	magic         = "REMPARTS"
	headerLen     = 64
	alignment     = 64
	factLen       = 32
	trailerLen    = sectionCount*24 + 8 + len(magic)
)

// The sections, in order.
const (
	sectionNames = iota
	sectionIndex
	sectionFilter
	sectionFacts
	sectionSets
	sectionSources
	sectionCount
)

// ErrSnapshot is what every refusal of a snapshot's bytes wraps.
var ErrSnapshot = errors.New("not a sound snapshot")

// extent is where a section stands.
type extent struct{ offset, length, checksum uint64 }

// sectionWriter writes a snapshot in order, keeping the first error.
type sectionWriter struct {
	w        io.Writer
	err      error
	at       uint64 // octets written in all
	size     int    // of them in the current section
	digest   xxhash.Digest
	whole    xxhash.Digest
	sections []extent
}

func (s *sectionWriter) write(b []byte) {
	if s.err == nil {
		_, s.err = s.w.Write(b)
	}
	s.digest.Write(b)
	s.whole.Write(b)
	s.at += uint64(len(b))
	s.size += len(b)
}

func (s *sectionWriter) begin() {
	if pad := -s.at % alignment; pad > 0 {
		s.write(make([]byte, pad))
	}
	s.digest.Reset()
	s.size = 0
}

func (s *sectionWriter) end() {
	s.sections = append(s.sections, extent{s.at - uint64(s.size), uint64(s.size), s.digest.Sum64()})
}

func (s *sectionWriter) section(b []byte) {
	s.begin()
	s.write(b)
	s.end()
}

func (s *sectionWriter) header(info Info, names, depth int) {
	s.digest.Reset()
	s.whole.Reset()
	b := append(make([]byte, 0, headerLen), magic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(depth))
	b = binary.LittleEndian.AppendUint64(b, info.Version)
	b = binary.LittleEndian.AppendUint64(b, uint64(info.Created.Unix()))
	b = binary.LittleEndian.AppendUint64(b, info.Content)
	b = binary.LittleEndian.AppendUint64(b, uint64(names))
	s.write(b[:headerLen])
}

// writeWords writes a section of words, each encoded by put in size octets.
func writeWords[W uint32 | uint64](s *sectionWriter, words []W, size int, put func([]byte, W)) {
	s.begin()
	var buf [4096]byte
	for len(words) > 0 {
		n := min(len(words), len(buf)/size)
		for i, w := range words[:n] {
			put(buf[size*i:], w)
		}
		s.write(buf[:size*n])
		words = words[n:]
	}
	s.end()
}

func (s *sectionWriter) facts(facts []fact) {
	var b []byte
	for _, f := range facts {
		holds := byte(0)
		if f.holdsPass {
			holds = 1
		}
		b = append(b, byte(f.Decision), byte(f.Scope), byte(f.Category), byte(f.Mark), holds, 0, 0, 0)
		b = binary.LittleEndian.AppendUint64(b, uint64(f.set))
		b = binary.LittleEndian.AppendUint64(b, uint64(f.Start))
		b = binary.LittleEndian.AppendUint64(b, uint64(f.Expiry))
	}
	s.section(b)
}

func (s *sectionWriter) sets(sets [][]uint16) {
	var b []byte
	for _, set := range sets {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(set)))
		for _, m := range set {
			b = binary.LittleEndian.AppendUint16(b, m)
		}
	}
	s.section(b)
}

func (s *sectionWriter) sources(sources []Source) {
	var b []byte
	for _, src := range sources {
		b = binary.AppendUvarint(b, uint64(len(src.Name)))
		b = append(b, src.Name...)
		b = binary.AppendVarint(b, unix(src.Fetched))
	}
	s.section(b)
}

func (s *sectionWriter) trailer() error {
	s.begin()
	var b []byte
	for _, e := range s.sections {
		b = binary.LittleEndian.AppendUint64(b, e.offset)
		b = binary.LittleEndian.AppendUint64(b, e.length)
		b = binary.LittleEndian.AppendUint64(b, e.checksum)
	}
	s.write(b)
	b = binary.LittleEndian.AppendUint64(nil, s.whole.Sum64())
	s.write(append(b, magic...))
	return s.err
}

// unix and fromUnix keep "never" apart from 1970.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromUnix(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

// record reads the record at octet at of names. next is where the one after it stands, and 0 if there
// is none here, or none that is whole.
func record(names []byte, at int) (name []byte, fact uint32, next int) {
	if at >= len(names) {
		return nil, 0, 0
	}
	end := at + 1 + int(names[at])
	if end >= len(names) {
		return nil, 0, 0
	}
	f, n := uint64(names[end]), 1
	if f >= 0x80 {
		if f, n = binary.Uvarint(names[end:]); n <= 0 {
			return nil, 0, 0
		}
	}
	return names[at+1 : end], uint32(f), end + n
}

// wordsOf views b as little-endian words in place where machine and alignment let it, and
// copies them where not.
func wordsOf[W uint32 | uint64](b []byte, decode func([]byte) W) []W {
	var w W
	size := int(unsafe.Sizeof(w))
	n := len(b) / size
	if n == 0 {
		return nil
	}
	one := uint16(1)
	little := *(*byte)(unsafe.Pointer(&one)) == 1
	if little && uintptr(unsafe.Pointer(&b[0]))%uintptr(size) == 0 {
		return unsafe.Slice((*W)(unsafe.Pointer(&b[0])), n)
	}
	words := make([]W, n)
	for i := range words {
		words[i] = decode(b[i*size:])
	}
	return words
}
