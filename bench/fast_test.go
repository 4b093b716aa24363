package bench

import (
	"testing"

	"rempart/internal/wire"
	"rempart/resolver"
	"rempart/resolver/limits"
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

// BenchmarkLimits measures Fast and the limits, with batches of 32 queries with EDNS for 10,000 cached names: without limits; with limits, for one client and for 65,536
// networks in turn; and for clients with cookies. One operation is one query.
func BenchmarkLimits(b *testing.B) {
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
	packets, err := Queries(popular, true)
	if err != nil {
		b.Fatal(err)
	}
	Warm(r, w, client, packets)
	alone, err := WithCookies(w, packets, false)
	if err != nil {
		b.Fatal(err)
	}
	valid, err := WithCookies(w, packets, true)
	if err != nil {
		b.Fatal(err)
	}
	for _, load := range []struct {
		name    string
		packets [][]byte
		limiter *limits.Limiter
		spread  bool
	}{
		{"none", packets, nil, false},
		{"none, 65536 networks", packets, nil, true},
		{"one client", packets, Limiter(), false},
		{"65536 networks", packets, Limiter(), true},
		{"client cookie", alone, Limiter(), false},
		{"client cookie, 65536 networks", alone, Limiter(), true},
		{"valid cookie", valid, Limiter(), false},
	} {
		b.Run(load.name, func(b *testing.B) {
			batch := Batch()
			b.ReportAllocs()
			at, full := 0, 0
			for i := 0; b.Loop(); i++ {
				slot := i % BatchSize
				batch[slot].Packet = load.packets[at]
				if at++; at == len(load.packets) {
					at = 0
				}
				if slot < BatchSize-1 {
					continue
				}
				if load.spread {
					Spread(batch, full, 1<<16)
					full++
				}
				if Limited(w, load.limiter, batch); batch[0].Outcome != wire.Answered {
					b.Fatal("a query was not answered")
				}
			}
		})
	}
}

func runFast(b *testing.B, r *resolver.Resolver, w *resolver.Worker, names []string, edns bool) {
	packets, err := Queries(names, edns)
	if err != nil {
		b.Fatal(err)
	}
	Warm(r, w, client, packets)
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
