//go:build linux && !race

package stream

import (
	"io"
	"testing"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/listen/fake"
)

// TestStreamAllocatesNothing checks that queries over an open connection allocate no memory.
func TestStreamAllocatesNothing(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, setup{}, nil)
	c := fake.Dial(t, "tcp", s.addrsOf(wire.TCP)[0].String())
	frames := dnstest.Framed(fake.Query(t, 1, "a.example"), fake.Query(t, 2, "b.example"))
	answers := make([]byte, len(frames)+2*len("\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x7f\x00\x00\x01"))
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := c.Write(frames); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, answers); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for two queries, want none", allocs)
	}
}
