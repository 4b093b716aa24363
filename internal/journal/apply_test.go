package journal

import (
	"bytes"
	"fmt"
	"testing"

	"rempart/blocklist"
)

// BenchmarkApply applies a change set of a hundred thousand names to a set of a million names.
func BenchmarkApply(b *testing.B) {
	builder := blocklist.NewBuilder()
	for i := range 1_000_000 {
		name, _ := blocklist.AppendName(nil, fmt.Sprintf("listed%d.example", i))
		if err := builder.Add(blocklist.Listing{Name: name, Scope: blocklist.Subtree}); err != nil {
			b.Fatal(err)
		}
	}
	var buf bytes.Buffer
	if err := blocklist.Compile(&buf, blocklist.Info{Version: 1}, builder.Input(blocklist.Source{Name: "a list"})); err != nil {
		b.Fatal(err)
	}
	s, err := blocklist.Open(buf.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	view := blocklist.NewView(s, nil)
	const names = 100_000
	b.ReportAllocs()
	for b.Loop() {
		_, err := Apply(view, &ChangeSet{}, func(yield func(Change, error) bool) {
			for i := range names {
				if !yield(Change{Do: Block, Name: fmt.Sprintf("pushed%d.example", i), Category: "scam"}, nil) {
					return
				}
			}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/names, "ns/name")
}
