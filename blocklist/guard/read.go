package guard

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"rempart/blocklist"
)

// Bounds of the input.
const (
	maxLine         = 32 << 10  // bytes; longer lines are cut
	maxEssential    = 16 << 20  // bytes
	maxPopular      = 512 << 20 // bytes, after unpacking
	maxPopularLines = 5_000_000
)

var errTooLarge = errors.New("it is larger than a list of its kind can be")

// readEssential reads names in the format of essential.txt. An invalid line is an error: a name that somebody meant to protect must not be ignored.
func (g *Guards) readEssential(r io.Reader) error {
	return eachLine(r, maxEssential, func(number int, line string) error {
		text, _, _ := strings.Cut(line, "#")
		text = strings.TrimSpace(text)
		if text == "" {
			return nil
		}
		text, only := strings.CutPrefix(text, "=")
		name, why, ok := readName(nil, text)
		if !ok {
			return fmt.Errorf("line %d: %.80q cannot be protected: %s", number, text, reasonTexts[why])
		}
		if only {
			g.names.add(name, isProtected)
		} else {
			g.names.add(name, isRealm)
		}
		g.names.addAbove(name, holdsProtected)
		g.stats.Essential++
		return nil
	})
}

// CheckEssential returns an error with the reason if a name, in ASCII, cannot be protected.
func CheckEssential(text string) error {
	if _, why, ok := readName(nil, text); !ok {
		return fmt.Errorf("%.80q cannot be protected: %s", text, reasonTexts[why])
	}
	return nil
}

// readPopular reads a popularity list: lines of "rank,name", or of a name alone, whose rank is the number of its line; gzip or not. Invalid lines are counted
// and skipped. A list without names, or with more invalid lines than names, is an error.
func (g *Guards) readPopular(r io.Reader) error {
	var buf [maxName]byte
	bad := func() { g.stats.BadPopular++ }
	err := eachRanked(r, bad, func(rank int, text string) error {
		name, why, ok := readName(buf[:0], text)
		if !ok && why != singleLabel { // lists of queried names contain top-level domains
			bad()
			return nil
		}
		if g.names.add(name, fact(rank)<<rankShift).rank() == 0 {
			g.stats.Popular++
		}
		if rank <= g.bound {
			g.names.addAbove(name, holdsPopular)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case g.stats.Popular == 0:
		return errors.New("no line of it is a name, or a rank, a comma and a name")
	case g.stats.BadPopular > g.stats.Popular:
		return fmt.Errorf("it holds %d names, but %d lines that are none: is it a popularity list?", g.stats.Popular, g.stats.BadPopular)
	}
	return nil
}

// eachRanked calls each for the lines of a popularity list with their ranks, and bad for invalid lines.
func eachRanked(r io.Reader, bad func(), each func(rank int, text string) error) error {
	r, err := unpacked(r)
	if err != nil {
		return err
	}
	lines := 0
	return eachLine(r, maxPopular, func(_ int, line string) error {
		line = strings.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			return nil
		}
		if lines++; lines > maxPopularLines {
			return fmt.Errorf("%w: more than %d names", errTooLarge, maxPopularLines)
		}
		rank, text, ok := splitRank(line, lines)
		if !ok {
			bad()
			return nil
		}
		return each(rank, text)
	})
}

// splitRank splits a line into rank and name; byDefault is the rank of a line without one.
func splitRank(line string, byDefault int) (rank int, text string, ok bool) {
	number, text, ranked := strings.Cut(line, ",")
	if !ranked {
		return byDefault, line, true
	}
	for _, c := range []byte(number) {
		if c < '0' || c > '9' || rank > maxRank {
			return 0, "", false
		}
		rank = rank*10 + int(c-'0')
	}
	return rank, text, rank > 0 && rank <= maxRank
}

// unpacked returns the content of r, unpacked if it is gzip.
func unpacked(r io.Reader) (io.Reader, error) {
	in := bufio.NewReader(r)
	if magic, _ := in.Peek(2); string(magic) != "\x1f\x8b" {
		return in, nil
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("unpacking it: %w", err)
	}
	return z, nil
}

// readName appends the wire format of a name to dst; why is set if the name cannot be listed.
func readName(dst []byte, text string) (name []byte, why reason, ok bool) {
	name, err := blocklist.AppendName(dst, text)
	if err != nil {
		return nil, malformed, false
	}
	why, ok = checkName(name)
	return name, why, ok
}

// eachLine calls f for each line of r, numbered from 1 and without its end, cut to maxLine. It stops at the first error, and after max bytes with errTooLarge.
func eachLine(r io.Reader, max int, f func(number int, line string) error) error {
	buf := make([]byte, maxLine)
	number, kept, inLong := 1, 0, false
	for {
		n, err := r.Read(buf[kept:])
		if max -= n; max < 0 {
			return errTooLarge
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading it: %w", err)
		}
		whole, end := buf[:kept+n], 0 // end is that of the last whole line
		if i := bytes.LastIndexByte(whole[kept:], '\n'); i >= 0 {
			end = kept + i + 1
		}
		if err == io.EOF || end == 0 && len(whole) == len(buf) {
			end = len(whole)
		}
		for line := range strings.Lines(string(whole[:end])) { // a string of many lines: one for each would cost more than reading it
			if !inLong {
				if err := f(number, strings.TrimRight(line, "\r\n")); err != nil {
					return err
				}
			}
			if inLong = line[len(line)-1] != '\n'; !inLong {
				number++
			}
		}
		if err == io.EOF {
			return nil
		}
		kept = copy(buf, whole[end:])
	}
}
