package guard

import "io"

// EachPopular calls each for the names of a popularity list, in the list's order, until each returns an error, which it returns. r is a list like
// Config.Popular; nil is the shipped one. name is canonical and borrowed for the call. Lines that are no host names are skipped.
func EachPopular(r io.Reader, each func(rank int, name []byte) error) error {
	if r == nil {
		r = shippedPopular()
	}
	var buf [maxName]byte
	return eachRanked(r, func() {}, func(rank int, text string) error {
		name, _, ok := readName(buf[:0], text)
		if !ok {
			return nil
		}
		return each(rank, name)
	})
}
