package blocklist

import (
	"net/netip"
	"runtime"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// categoryBits of an entry's number are its category, the others the hash of its name.
const categoryBits = 7

// entryID returns the number of the entry of a name, or a prefix, in a category.
func entryID(hash uint64, c Category) uint64 { return hash&^categoryBits | uint64(c) }

// EntryCategory returns the category that is a part of an entry's number.
func EntryCategory(entry uint64) Category { return Category(entry & categoryBits) }

func prefixHash(p netip.Prefix) uint64 {
	var key [prefixKeyLen]byte
	return xxhash.Sum64(appendPrefix(key[:0], p))
}

// Named returns the entry that decided a verdict of this view, or of an earlier one, by its number: its name, or its prefix of addresses, and all sources that
// block it in its category. It returns false if the view contains no such block, for example because it was withdrawn since. The number is a hash: two names of
// a set have the same one only by chance, and then one of both is returned. For an entry that is gone all prefixes are read.
func (v *View) Named(entry uint64) (Entry, bool) {
	defer runtime.KeepAlive(v)
	for _, s := range []*Snapshot{v.over, v.base} {
		if s == nil {
			continue
		}
		if name, ids := s.named(entry &^ categoryBits); len(ids) > 0 { // if the overlay contains a name, only its records apply
			return s.blockOf(name, ids, Category(entry&categoryBits))
		}
	}
	return Entry{}, false
}

// named finds a name or a prefix by its hash without categoryBits, and its facts.
func (s *Snapshot) named(hash uint64) (name string, ids []uint32) {
	buckets := uint64(len(s.index) - 1)
	for b := scale(hash, buckets); b <= scale(hash|categoryBits, buckets); b++ { // one bucket or two
		at, end := s.narrow(int(s.index[b]), min(int(s.index[b+1]), len(s.names)), hash, hash|categoryBits, nil)
		for at < end {
			key, id, next := record(s.names, at)
			if next == 0 {
				break
			}
			if at = next; xxhash.Sum64(key)&^categoryBits == hash {
				ids = append(ids, id)
				name = NameText(append(slices.Clone(key), 0))
			}
		}
	}
	if len(ids) > 0 {
		return name, ids
	}
	for i := range len(s.prefixData) / prefixLen {
		if p, id := s.prefix(i); prefixHash(p)&^categoryBits == hash {
			ids = append(ids, id)
			name = p.String()
		}
	}
	return name, ids
}

// blockOf returns the blocks among the facts of a name that are in force, as one entry.
func (s *Snapshot) blockOf(name string, ids []uint32, c Category) (e Entry, ok bool) {
	for _, id := range ids {
		f, sound := s.fact(id)
		if !sound || f.Decision != Block || f.muted || f.Category&categoryBits != c {
			continue
		}
		if !ok {
			e, ok = s.entry(f), true
			e.Name = name
			continue
		}
		for _, source := range s.entry(f).Sources {
			if !slices.Contains(e.Sources, source) {
				e.Sources = append(e.Sources, source)
			}
		}
	}
	return e, ok
}
