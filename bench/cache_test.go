package bench

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/maypok86/otter/v2"
	"github.com/miekg/dns"

	"rempart/internal/wire"
	"rempart/resolver/cache"
)

// BenchmarkCacheGet compares our table with the alternative, otter. It measures hits and misses with a thousand answers, which fit in the processor's caches,
// and with a hundred thousand, which do not.
func BenchmarkCacheGet(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { cacheGet(b, n) })
	}
}

func cacheGet(b *testing.B, n int) {
	ours, err := cache.New(256 << 20)
	if err != nil {
		b.Fatal(err)
	}
	theirs, err := otter.New(&otter.Options[otterKey, *cache.Answer]{
		MaximumWeight: 256 << 20, Weigher: func(otterKey, *cache.Answer) uint32 { return 400 },
	})
	if err != nil {
		b.Fatal(err)
	}
	keys := make([]cache.Key, 2*n)
	for i := range keys {
		name, err := wire.AppendName(nil, fmt.Sprintf("www.site%d.example", i))
		if err != nil {
			b.Fatal(err)
		}
		keys[i] = cache.Key{Name: name, Type: wire.TypeA, Class: wire.ClassIN}
		if i%2 == 1 {
			continue // these names are not stored, so that a lookup is a miss
		}
		m := new(dns.Msg).SetQuestion(wire.Text(name)+".", dns.TypeA)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: []byte{192, 0, 2, 1}}}
		packed, err := m.Pack()
		if err != nil {
			b.Fatal(err)
		}
		e, err := cache.NewAnswer(keys[i], packed, false, 0)
		if err != nil {
			b.Fatal(err)
		}
		ours.Put(e, 0)
		theirs.Set(keyForOtter(&keys[i]), e)
	}
	index := func(i, odd int) *cache.Key { return &keys[(i*7919%n)*2+odd] }
	for odd, name := range []string{"hit", "miss"} {
		b.Run("ours/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				ours.Get(index(i, odd))
			}
		})
		b.Run("otter/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				theirs.GetIfPresent(keyForOtter(index(i, odd)))
			}
		})
		b.Run("ours, in parallel/"+name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					ours.Get(index(i, odd))
				}
			})
		})
		b.Run("otter, in parallel/"+name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					theirs.GetIfPresent(keyForOtter(index(i, odd)))
				}
			})
		})
	}
}

// otterKey holds the whole key in a comparable value, so that a lookup does not allocate.
type otterKey [64]byte

func keyForOtter(k *cache.Key) (key otterKey) {
	copy(key[:], k.Name)
	binary.BigEndian.PutUint16(key[60:], k.Type)
	binary.BigEndian.PutUint16(key[62:], k.Class)
	return key
}
