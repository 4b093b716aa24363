package blocklist

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// The format of a snapshot, all little-endian:
//
//	header    72 bytes: magic, format, version, created, expiry, content, base, names, mask of numbers of labels
//	names     of each record in turn: length, name without the root, fact number (uvarint),
//	          ordered by the name's hash
//	index     of each bucket of hashes: the place of its first record in names; one more at the end
//	filter    the bloom filter's words
//	facts     32 bytes each: a claim, its date, and the set of sources that make it
//	sets      of each set of sources: its size, then its members, 16 bits each
//	sources   of each: name (length and bytes), fetched, weight, quorum
//	ids       of decisions: length and bytes each
//	prefixes  of addresses: family, length in bits, address, fact number, in that order
//	above     hashes of the names that have a name below them that passes, ascending
//	trailer   offset, length and checksum of each section, number of records, checksum of header and
//	          trailer and so of the whole, magic
//
// Sections begin at multiples of 64, after zeros. A truncated file has no trailer, and is refused. A list's copy has the same format without index, filter and
// above, and does not count its names.
const (
	formatVersion = 2
	magic         = "REMPARTS"
	headerLen     = 72
	alignment     = 64
	factLen       = 32
	prefixLen     = 24
	tableLen      = sectionCount*24 + 8
	trailerLen    = tableLen + 8 + len(magic)
)

// The sections, in order.
const (
	sectionNames = iota
	sectionIndex
	sectionFilter
	sectionFacts
	sectionSets
	sectionSources
	sectionIDs
	sectionPrefixes
	sectionAbove
	sectionCount
)

// ErrSnapshot is wrapped by every error about the bytes of a snapshot.
var ErrSnapshot = errors.New("not a sound snapshot")

// errDamaged is the error of a record that violates the format.
var errDamaged = errors.New("it is damaged: its content does not match its checksum")

// extent is the place of a section.
type extent struct{ offset, length, checksum uint64 }

// sectionWriter writes a snapshot in order, and keeps the first error.
type sectionWriter struct {
	w        io.Writer
	err      error
	at       uint64 // bytes written in all
	size     int    // bytes written in the current section
	digest   xxhash.Digest
	head     []byte
	sections []extent
	buf      []byte
}

const writeBuffer = 64 << 10

func (s *sectionWriter) write(b []byte) {
	if len(s.buf)+len(b) > writeBuffer {
		s.flush()
	}
	s.buf = append(s.buf, b...)
	s.at += uint64(len(b))
	s.size += len(b)
}

func (s *sectionWriter) flush() {
	s.digest.Write(s.buf)
	if s.err == nil {
		_, s.err = s.w.Write(s.buf)
	}
	s.buf = s.buf[:0]
}

func (s *sectionWriter) begin() {
	s.write(make([]byte, -s.at%alignment))
	s.flush()
	s.digest.Reset()
	s.size = 0
}

func (s *sectionWriter) end() {
	s.flush()
	s.sections = append(s.sections, extent{s.at - uint64(s.size), uint64(s.size), s.digest.Sum64()})
}

func (s *sectionWriter) section(b []byte) {
	s.begin()
	s.write(b)
	s.end()
}

func (s *sectionWriter) header(info Info, names int, labels uint64) {
	b := append(make([]byte, 0, headerLen), magic...)
	b = binary.LittleEndian.AppendUint64(b, formatVersion)
	b = binary.LittleEndian.AppendUint64(b, info.Version)
	b = binary.LittleEndian.AppendUint64(b, uint64(info.Created.Unix()))
	b = binary.LittleEndian.AppendUint64(b, uint64(unix(info.Expiry)))
	b = binary.LittleEndian.AppendUint64(b, info.Content)
	b = binary.LittleEndian.AppendUint64(b, info.Base)
	b = binary.LittleEndian.AppendUint64(b, uint64(names))
	s.head = binary.LittleEndian.AppendUint64(b, labels)
	s.write(s.head)
}

// writeWords writes a section of words, each encoded by put in size bytes.
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

// facts refer to the IDs of decisions by number, from 1.
func (s *sectionWriter) facts(facts []fact, ids map[string]uint32) {
	var b []byte
	for _, f := range facts {
		muted := byte(0)
		if f.muted {
			muted = 1
		}
		b = append(b, byte(f.Decision), byte(f.Scope), byte(f.Category), byte(f.Mark), muted, 0)
		b = binary.LittleEndian.AppendUint16(b, uint16(f.since))
		b = binary.LittleEndian.AppendUint32(b, f.set)
		b = binary.LittleEndian.AppendUint32(b, ids[f.ID])
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
		b = appendText(b, src.Name)
		b = binary.AppendVarint(b, unix(src.Fetched))
		b = binary.AppendUvarint(b, uint64(max(0, src.Weight)))
		b = binary.AppendUvarint(b, uint64(max(0, src.Quorum)))
	}
	s.section(b)
}

func (s *sectionWriter) ids(ids []string) {
	var b []byte
	for _, id := range ids {
		b = appendText(b, id)
	}
	s.section(b)
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// prefixes are written in the order of their keys, for a binary search.
func (s *sectionWriter) prefixes(prefixes []keyed) {
	slices.SortStableFunc(prefixes, func(x, y keyed) int { return slices.Compare(x.key, y.key) })
	var b []byte
	for _, p := range prefixes {
		b = append(b, p.key[1:]...)
		b = append(b, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, p.claim)
	}
	s.section(b)
}

func (s *sectionWriter) trailer(records uint64) error {
	s.begin()
	var b []byte
	for _, e := range s.sections {
		b = binary.LittleEndian.AppendUint64(b, e.offset)
		b = binary.LittleEndian.AppendUint64(b, e.length)
		b = binary.LittleEndian.AppendUint64(b, e.checksum)
	}
	b = binary.LittleEndian.AppendUint64(b, records)
	sum := wholeSum(s.head, b)
	s.write(append(binary.LittleEndian.AppendUint64(b, sum), magic...))
	s.flush()
	return s.err
}

// wholeSum covers a snapshot: its sections by their own checksums.
func wholeSum(header, table []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	d.Write(header)
	d.Write(table)
	return d.Sum64()
}

// unix and fromUnix distinguish "never" from 1970.
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

// record reads the record at byte at of names. next is the place of the following record, and 0 if there is no whole record here.
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

// wordsOf returns b as little-endian words: in place if the machine and the alignment allow it, else as a copy.
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
