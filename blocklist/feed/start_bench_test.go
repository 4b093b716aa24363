package feed

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rempart/blocklist"
)

// BenchmarkStart measures a start with one text list of a million names and no copy of the list. The list is the file in
// REMPART_BENCH_LIST, or is made up.
func BenchmarkStart(b *testing.B) {
	list := os.Getenv("REMPART_BENCH_LIST")
	if list == "" {
		list = filepath.Join(b.TempDir(), "list.txt")
		f, err := os.Create(list)
		if err != nil {
			b.Fatal(err)
		}
		w := bufio.NewWriter(f)
		for i := range 1_000_000 {
			fmt.Fprintf(w, "name%x.example%d.com\n", uint32(i)*2654435761, i%1000)
		}
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
	for b.Loop() {
		l, err := New(Config{Lists: []string{list}, Dir: filepath.Join(b.TempDir(), fmt.Sprint(b.N))})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		if l.Set().View().Stats().Names == 0 {
			b.Fatalf("the set is empty; status %+v", l.Status())
		}
		ctx, cancel := context.WithCancel(b.Context())
		cancel()
		if err := l.Run(ctx); err != nil {
			b.Fatal(err)
		}
		_ = blocklist.Info{}
	}
}
