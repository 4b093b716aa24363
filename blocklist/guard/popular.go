package guard

import (
	"io"
	"strings"
)

// EachPopular calls each for the names of a popularity list, in the list's order, until it returns an error, which it
// returns. r is a list as Config.Popular is; nil is the shipped one. name is canonical and borrowed for the call. Lines that are no
// names of hosts are passed over.
func EachPopular(r io.Reader, each func(rank int, name []byte) error) error {
	if r == nil {
		r = shippedPopular()
	}
	r, err := unpacked(r)
	if err != nil {
		return err
	}
	var buf [maxName]byte
	lines := 0
	return eachLine(r, maxPopular, func(_ int, line string) error {
		line = strings.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			return nil
		}
		if lines++; lines > maxPopularLines {
			return errTooLarge
		}
		rank, text, ok := splitRank(line, lines)
		if !ok {
			return nil
		}
		name, _, ok := readName(buf[:0], text)
		if !ok {
			return nil
		}
		return each(rank, name)
	})
}
