package guard

import (
	_ "embed"
	"io"
	"strings"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist"
)

//go:generate go run ./generate -lists ../../../misp-warninglists

// The shipped lists; README.md documents their origin.
var (
	//go:embed essential.txt
	essentialText string
	//go:embed suffixes.txt
	suffixesText string
	//go:embed shared.txt
	sharedText string
	//go:embed popular.csv.gz
	popularGzip string
)

// Revision changes when the shipped lists or the checks change: earlier decisions are then made again.
func Revision() uint64 {
	d := xxhash.New()
	for _, text := range []string{essentialText, suffixesText, sharedText, popularGzip} {
		_, _ = d.WriteString(text) // never fails
	}
	return d.Sum64() + checksRevision
}

// checksRevision is raised when the checks themselves change.
const checksRevision = 1

// shippedNames is approximately the number of names in the shipped lists, with the names above them.
const shippedNames = 40_000

func shippedPopular() io.Reader { return strings.NewReader(popularGzip) }

// readShipped reads the shipped lists except the popularity list.
func (g *Guards) readShipped() error {
	if err := g.readEssential(strings.NewReader(essentialText)); err != nil {
		return err
	}
	for text := range strings.Lines(suffixesText) {
		text, wildcard := strings.CutPrefix(strings.TrimSpace(text), "*.")
		f := isSuffix
		if wildcard {
			f = isWildcard
		}
		if err := g.addShipped(text, f, holdsSuffix); err != nil {
			return err
		}
	}
	for text := range strings.Lines(sharedText) {
		if err := g.addShipped(strings.TrimSpace(text), isShared, 0); err != nil {
			return err
		}
	}
	return nil
}

// addShipped adds a fact of a name, and one of those above it.
func (g *Guards) addShipped(text string, of, above fact) error {
	var buf [maxName]byte
	name, err := blocklist.AppendName(buf[:0], text)
	if err != nil {
		return err
	}
	g.names.add(name, of)
	if above != 0 {
		g.names.addAbove(name, above)
	}
	return nil
}
