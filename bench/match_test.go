package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/bits-and-blooms/bloom/v3"
	"github.com/cespare/xxhash/v2"

	"rempart/blocklist"
)

// Listed is the environment variable that sets the number of listed names in the benchmarks. The default is a million.
const Listed = "REMPART_BENCH_LISTED"

// listed returns the set that all benchmarks share, and its names. The set is compiled once.
var listed = sync.OnceValues(func() (set, error) {
	n := 1_000_000
	if text := os.Getenv(Listed); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			return set{}, fmt.Errorf("%s: %w", Listed, err)
		}
	}
	names, err := Blocked(n)
	if err != nil {
		return set{}, err
	}
	view, err := View(names)
	if err != nil {
		return set{}, err
	}
	wire, err := Wire(names)
	return set{view, wire}, err
})

type set struct {
	view  *blocklist.View
	names [][]byte
}

func shared(b testing.TB) set {
	b.Helper()
	s, err := listed()
	if err != nil {
		b.Fatal(err)
	}
	// The garbage of compiling is collected now, so that no collection happens during the benchmark.
	runtime.GC()
	runtime.GC()
	usual := debug.SetGCPercent(-1)
	b.Cleanup(func() { debug.SetGCPercent(usual) })
	return s
}

func wireNames(b testing.TB, names []string, err error) [][]byte {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	out, err := Wire(names)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// popularNames returns popular names with a prefix, in random order so that no cache helps.
func popularNames(b testing.TB, before string) [][]byte {
	names, err := Popular(100_000)
	if err == nil {
		names = append([]string(nil), names...)
		rng := rand.New(rand.NewPCG(3, 3))
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for i := range names {
			names[i] = before + names[i]
		}
	}
	return wireNames(b, names, err)
}

// unlisted returns those of the names that the view does not block.
func unlisted(v *blocklist.View, names [][]byte) [][]byte {
	kept := names[:0:0]
	for _, n := range names {
		if v.Match(n, blocklist.AllCategories, 1).Action == blocklist.Pass {
			kept = append(kept, n)
		}
	}
	return kept
}

// BenchmarkMatch measures Match, and MatchBatch, in which the memory reads of several names overlap.
func BenchmarkMatch(b *testing.B) {
	s := shared(b)
	b.Logf("%.2f bytes per name in %d names", float64(s.view.Stats().Bytes)/float64(s.view.Stats().Names), s.view.Stats().Names)
	run := func(name string, names [][]byte) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); {
				s.view.Match(names[i], blocklist.AllCategories, 1)
				if i++; i == len(names) {
					i = 0
				}
			}
		})
		b.Run(name+", batches of 32", func(b *testing.B) {
			b.ReportAllocs()
			var verdicts [32]blocklist.Verdict
			for i, n := 0, 0; n < b.N; n += 32 {
				s.view.MatchBatch(names[i:i+32], blocklist.AllCategories, 1, verdicts[:])
				if i += 32; i+32 > len(names) {
					i = 0
				}
			}
		})
	}
	run("listed", s.names)
	run("popular", unlisted(s.view, popularNames(b, "")))
	run("three labels", unlisted(s.view, popularNames(b, "www.")))
}

// BenchmarkFilter compares the snapshot's filter, the filter of the bloom library, and a search without a filter. The names have a label more than popular
// names, and are not listed.
func BenchmarkFilter(b *testing.B) {
	s := shared(b)
	names := unlisted(s.view, popularNames(b, "www."))
	locations := func(name []byte) [6]uint64 {
		h := xxhash.Sum64(name)
		var locs [6]uint64
		for i := range locs {
			locs[i] = h + uint64(i)*(h>>32|1)
		}
		return locs
	}
	plain := bloom.New(uint(12*len(s.names)), 6)
	for _, n := range s.names {
		locs := locations(n)
		for _, l := range locs {
			plain.BitSet().Set(uint(l % uint64(plain.Cap())))
		}
	}
	run := func(what string, passes func(name []byte) bool) {
		b.Run(what, func(b *testing.B) {
			maybe := 0
			i := 0
			for b.Loop() {
				if passes(names[i]) {
					maybe++
				}
				if i++; i == len(names) {
					i = 0
				}
			}
			b.ReportMetric(100*float64(maybe)/float64(b.N), "%maybe")
		})
	}
	run("a line a name", s.view.Snapshot().MayHold)
	run("the library's spread", func(name []byte) bool {
		for ; name[0] != 0; name = name[1+name[0]:] {
			if locs := locations(name); plain.TestLocations(locs[:]) {
				return true
			}
		}
		return false
	})
	run("none", func(name []byte) bool {
		for ; name[0] != 0; name = name[1+name[0]:] {
			if len(s.view.Claims(name)) > 0 {
				return true
			}
		}
		return false
	})
}

// TestNoFalseVerdict checks the verdicts on every listed name, and on names that are made from popular names and at random: 20 million if REMPART_BENCH_LISTED
// is set, otherwise 200,000.
func TestNoFalseVerdict(t *testing.T) {
	count := 200_000
	if os.Getenv(Listed) != "" {
		count = 20_000_000
	}
	s := shared(t)
	view := s.view
	is := make(map[string]bool, len(s.names))
	for _, n := range s.names {
		is[blocklist.NameText(n)] = true
		if view.Match(n, blocklist.AllCategories, 1).Action != blocklist.BlockedBy {
			t.Fatalf("%s is listed, and is not blocked", blocklist.NameText(n))
		}
	}
	popular, err := Popular(50_000)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range count {
		name := fmt.Sprintf("%s%x.%s", []string{"www.", "", "a.b."}[i%3], rng.Uint32(), []string{"com", "fr", "github.io"}[rng.IntN(3)])
		if i%2 == 0 {
			name = []string{"", "www.", "cdn.a."}[i/2%3] + popular[rng.IntN(len(popular))]
		}
		wire, err := blocklist.AppendName(nil, name)
		if err != nil {
			t.Fatal(err)
		}
		got := view.Match(wire, blocklist.AllCategories, 1).Action
		want := blocklist.Pass
		for at := name; at != ""; _, at, _ = strings.Cut(at, ".") {
			if is[at] {
				want = blocklist.BlockedBy
			}
		}
		if got != want {
			t.Fatalf("%s: %v, want %v", name, got, want)
		}
	}
}

// BenchmarkCompile measures how long it takes to compile the listed names into a snapshot and to open it.
func BenchmarkCompile(b *testing.B) {
	names, err := Blocked(len(shared(b).names))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := View(names); err != nil {
			b.Fatal(err)
		}
	}
}
