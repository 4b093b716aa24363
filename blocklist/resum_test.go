package blocklist

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// extents are where the sections of a snapshot stand, as far as its trailer makes sense.
func extents(data []byte) (table []byte, all []extent) {
	table = data[len(data)-trailerLen:]
	for i := range sectionCount {
		offset, length := binary.LittleEndian.Uint64(table[24*i:]), binary.LittleEndian.Uint64(table[24*i+8:])
		if limit := uint64(len(data) - trailerLen); offset <= limit && length <= limit-offset {
			all = append(all, extent{offset, length, uint64(i)})
		}
	}
	return table, all
}

// resum makes the checksums of an altered snapshot right again, so that what lies behind them is tested.
func resum(data []byte) {
	if len(data) < headerLen+trailerLen {
		return
	}
	table, all := extents(data)
	for _, e := range all {
		binary.LittleEndian.PutUint64(table[24*e.checksum+16:], xxhash.Sum64(data[e.offset:e.offset+e.length]))
	}
	binary.LittleEndian.PutUint64(table[tableLen:], wholeSum(data[:headerLen], table[:tableLen]))
}

// padding reports whether octet i of a snapshot lies between sections, and says nothing.
func padding(data []byte, i int) bool {
	_, all := extents(data)
	for _, e := range all {
		if uint64(i) >= e.offset && uint64(i) < e.offset+e.length {
			return false
		}
	}
	return i >= headerLen && i < len(data)-trailerLen
}
