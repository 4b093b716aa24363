package guard

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

// threats returns wire names spread over the real ones, or made-up names if the real ones are not available. They are adjacent in memory, like those of a list
// that is read.
func threats(b *testing.B) (names [][]byte) {
	const count = 1 << 17
	var texts []string
	if file, err := os.Open(filepath.Join(realData, "scale/threat-names-5041083.sorted.txt.gz")); err == nil {
		file.Close()
		i := 0
		eachReal(b, "scale/threat-names-5041083.sorted.txt.gz", func(line string) {
			if i++; i%37 == 0 {
				texts = append(texts, line)
			}
		})
	}
	for i := len(texts); i < count; i++ {
		texts = append(texts, fmt.Sprintf("sub%d.made-up-%d.example", i%7, uint32(i)*2654435761%999983))
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
	all := make([]byte, 0, count*64)
	for _, text := range texts[:count] {
		from := len(all)
		all = append(all, dnstest.WireName(b, text)...)
		names = append(names, all[from:len(all):len(all)])
	}
	return names
}

func BenchmarkCheck(b *testing.B) {
	g := newGuards(b, Config{})
	names := threats(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		g.Check(blocklist.Listing{Name: names[i&(len(names)-1)], Scope: blocklist.Subtree})
		i++
	}
}

func BenchmarkSharedHost(b *testing.B) {
	g := newGuards(b, Config{})
	name := dnstest.WireName(b, "www.some-site.example")
	b.ReportAllocs()
	for b.Loop() {
		g.SharedHost(name)
	}
}

func BenchmarkNew(b *testing.B) {
	var list bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&list, "%d,site-number-%d.example\n", i+1, i)
	}
	for name, c := range map[string]func() Config{
		"shipped":      func() Config { return Config{} },
		"100000-names": func() Config { return Config{Popular: bytes.NewReader(list.Bytes())} },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := New(c()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestCheckDoesNotAllocate checks that no memory is allocated for ordinary names of feeds, or for names to which a guard objects.
func TestCheckDoesNotAllocate(t *testing.T) {
	g := newGuards(t, Config{})
	for _, name := range []string{"evil.example", "www.evil.co.uk", "evil.github.io", "github.io", "google.com", "www.impots.gouv.fr", "com"} {
		l := blocklist.Listing{Name: dnstest.WireName(t, name), Scope: blocklist.Subtree}
		if n := testing.AllocsPerRun(100, func() { g.Check(l) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
