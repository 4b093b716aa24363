package bench

import (
	"sync"
	"testing"

	"rempart/blocklist"
)

// million is the set of a million names that benchmarks share, compiled once.
var million = sync.OnceValues(func() (*blocklist.View, error) {
	names, err := Blocked(1_000_000)
	if err != nil {
		return nil, err
	}
	return View(names)
})

func wireNames(b *testing.B, names []string, err error) [][]byte {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	out := make([][]byte, len(names))
	for i, n := range names {
		if out[i], err = blocklist.AppendName(nil, n); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

// BenchmarkMatch judges names against a million, in an order that no cache foresees.
func BenchmarkMatch(b *testing.B) {
	v, err := million()
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d octets a name in %d", v.Stats().Bytes/v.Stats().Names, v.Stats().Names)
	run := func(name string, names [][]byte, want blocklist.Action) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			other := 0
			for i := 0; b.Loop(); i++ {
				if v.Match(names[i%len(names)], blocklist.AllCategories, 1).Action != want {
					other++
				}
			}
			if want == blocklist.BlockedBy && other > 0 {
				b.Errorf("%d listed names passed", other)
			}
		})
	}
	blocked, err := Blocked(1_000_000)
	run("listed", wireNames(b, blocked, err), blocklist.BlockedBy)
	popular, err := Popular(100_000)
	plain := wireNames(b, popular, err)
	run("popular", plain, blocklist.Pass)
	www := make([]string, len(popular))
	for i, n := range popular {
		www[i] = "www." + n
	}
	run("popular with www", wireNames(b, www, nil), blocklist.Pass)
}

// BenchmarkCompile turns a million names into a snapshot and opens it.
func BenchmarkCompile(b *testing.B) {
	names, err := Blocked(1_000_000)
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
