package blocklist

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// resum makes the checksums of an altered snapshot right again, so that what lies behind them is tested.
func resum(data []byte) {
	if len(data) < headerLen+trailerLen {
		return
	}
	table := data[len(data)-trailerLen:]
	limit := uint64(len(data) - trailerLen)
	for i := range sectionCount {
		offset, length := binary.LittleEndian.Uint64(table[24*i:]), binary.LittleEndian.Uint64(table[24*i+8:])
		if offset <= limit && length <= limit-offset {
			binary.LittleEndian.PutUint64(table[24*i+16:], xxhash.Sum64(data[offset:offset+length]))
		}
	}
	end := len(data) - len(magic) - 8
	binary.LittleEndian.PutUint64(data[end:], xxhash.Sum64(data[:end]))
}
