package blocklist

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// extents returns where the sections of a snapshot begin and end, as far as its trailer can be read.
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

// resum corrects the checksums of an altered snapshot, so that the checks after the checksum are tested too.
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

// padding reports whether byte i of a snapshot is between sections.
func padding(data []byte, i int) bool {
	_, all := extents(data)
	for _, e := range all {
		if uint64(i) >= e.offset && uint64(i) < e.offset+e.length {
			return false
		}
	}
	return i >= headerLen && i < len(data)-trailerLen
}
