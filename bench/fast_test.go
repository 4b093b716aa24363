package bench

import (
	"testing"

	"rempart/internal/wire"
	"rempart/resolver"
)

// BenchmarkFast measures Fast with batches of 32 queries for 10,000 cached or blocked names, with a million listed names. One operation is one query.
func BenchmarkFast(b *testing.B) {
	r, err := Resolver(shared(b).view)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.Close)
	w := r.NewWorker()
	popular, err := Popular(10_000)
	if err != nil {
		b.Fatal(err)
	}
	blocked, err := Blocked(10_000)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("hit", func(b *testing.B) { runFast(b, r, w, popular, false) })
	b.Run("hit with EDNS", func(b *testing.B) { runFast(b, r, w, popular, true) })
	b.Run("block", func(b *testing.B) { runFast(b, r, w, blocked, false) })
	b.Run("block with EDNS", func(b *testing.B) { runFast(b, r, w, blocked, true) })
}

func runFast(b *testing.B, r *resolver.Resolver, w *resolver.Worker, names []string, edns bool) {
	packets, err := Queries(names, edns)
	if err != nil {
		b.Fatal(err)
	}
	Warm(r, w, packets)
	batch := Batch()
	b.ReportAllocs()
	at := 0
	for i := 0; b.Loop(); i++ {
		slot := i % BatchSize
		batch[slot].Packet = packets[at]
		if at++; at == len(packets) {
			at = 0
		}
		if slot == BatchSize-1 {
			w.Fast(batch)
			if batch[0].Outcome != wire.Answered {
				b.Fatal("Fast did not answer a query")
			}
		}
	}
}
