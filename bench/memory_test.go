package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
)

// BenchmarkMemory measures the time of one memory read on this machine. Each read returns the address of the next one, so that reads cannot overlap.
func BenchmarkMemory(b *testing.B) {
	for _, mb := range []int{8, 256} {
		b.Run(fmt.Sprintf("%d MB", mb), func(b *testing.B) {
			const line = 16 // number of words in a cache line
			lines := mb << 20 / 64
			chain := make([]uint32, lines*line)
			order := rand.New(rand.NewPCG(1, 1)).Perm(lines)
			for i, at := range order {
				chain[at*line] = uint32(order[(i+1)%lines] * line)
			}
			at := uint32(0)
			for b.Loop() {
				at = chain[at]
			}
			runtime.KeepAlive(at)
		})
	}
}
