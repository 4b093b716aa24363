package stream

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkAppend measures Append with records of 1 KiB, one after the other, on the disk of the temporary folder.
func BenchmarkAppend(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir()})
	data := make([]byte, 1<<10)
	b.SetBytes(1 << 10)
	after := uint64(0)
	for b.Loop() {
		var err error
		if after, err = s.Append(b.Context(), after, "change", data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkFollow measures the time from an acknowledgement until the record arrives at a second reader.
func BenchmarkFollow(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir()})
	node := connect(b, s)
	arrived := make(chan time.Time, 1)
	go node.Follow(b.Context(), 0, func(Record) error { arrived <- time.Now(); return nil })
	data := make([]byte, 1<<10)
	appendOK(b, s, 0, "change", data)
	<-arrived
	var late []time.Duration
	after := uint64(1)
	for b.Loop() {
		appendOK(b, s, after, "change", data)
		kept := time.Now()
		late = append(late, max(0, (<-arrived).Sub(kept)))
		after++
	}
	slices.Sort(late)
	b.ReportMetric(float64(late[len(late)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(late[len(late)*99/100].Microseconds()), "µs-p99")
	b.ReportMetric(float64(late[len(late)-1].Microseconds()), "µs-max")
}

// BenchmarkCatchUp measures how long a reader takes to receive ten thousand existing records of 1 KiB.
func BenchmarkCatchUp(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir()})
	const n = 10_000
	data := make([]byte, 1<<10)
	for i := range uint64(n) {
		appendOK(b, s, i, "change", data)
	}
	node := connect(b, s)
	for b.Loop() {
		left := n
		node.Follow(b.Context(), 0, func(Record) error {
			if left--; left == 0 {
				return errEnough
			}
			return nil
		})
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
