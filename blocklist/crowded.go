package blocklist

import (
	"bytes"
	"cmp"
	"sort"

	"github.com/cespare/xxhash/v2"
)

// crowdedSize is the length, in bytes, from which a bucket of the index is crowded. A bucket of names that nobody chose holds 90 bytes in the mean, and never
// so many by chance.
const crowdedSize = 4 << 10

// crowdedBucket is a bucket of names that were chosen so that their hashes are near each other, as whoever publishes a list can do: xxhash has no secret.
// It is searched by halves, so that looking up a name of it costs tens of reads and not tens of thousands.
type crowdedBucket struct {
	at      int      // where it begins in the snapshot's names
	records []uint32 // where each of its records begins, in the order of the names: by hash, then by the bytes of the name
}

// crowdedBuckets returns the crowded buckets of an index, in their order. It reads the index, and of names the crowded buckets only.
func crowdedBuckets(index []uint32, names []byte) (crowded []crowdedBucket) {
	from := 0 // a damaged index must not have one part of names read many times
	for i, next := range index[1:] {
		at, end := int(index[i]), int(next)
		if end-at <= crowdedSize || at < from || end > len(names) {
			continue
		}
		from = end
		b := crowdedBucket{at: at}
		for at < end {
			b.records = append(b.records, uint32(at))
			if _, _, at = record(names, at); at == 0 {
				break
			}
		}
		crowded = append(crowded, b)
	}
	return crowded
}

// narrow returns the part of a bucket whose names have a hash from low to high, and, if key is not nil, are key. A bucket that is not crowded is returned
// whole: reading it costs less than searching it.
func (s *Snapshot) narrow(at, end int, low, high uint64, key []byte) (int, int) {
	if end-at <= crowdedSize {
		return at, end
	}
	i := sort.Search(len(s.crowded), func(i int) bool { return s.crowded[i].at >= at })
	if i == len(s.crowded) || s.crowded[i].at != at {
		return at, end
	}
	records := s.crowded[i].records
	compare := func(j int, hash uint64) int {
		name, _, _ := record(s.names, int(records[j]))
		c := cmp.Compare(xxhash.Sum64(name), hash)
		if c == 0 && key != nil {
			c = bytes.Compare(name, key)
		}
		return c
	}
	first := sort.Search(len(records), func(j int) bool { return compare(j, low) >= 0 })
	last := sort.Search(len(records), func(j int) bool { return compare(j, high) > 0 })
	if first >= last {
		return at, at
	}
	if last < len(records) {
		end = int(records[last])
	}
	return int(records[first]), end
}
