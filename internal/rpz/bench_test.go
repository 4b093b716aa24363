package rpz

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

// BenchmarkWhole measures the transfer of a zone of a million names over loopback to a client that only counts bytes. The metric bytes is the size of one
// transfer.
func BenchmarkWhole(b *testing.B) {
	view, _ := bigView(b, 1_000_000)
	s := serve(b, view, nil)
	bytes := 0
	for b.Loop() {
		bytes = drain(b, s.addr)
	}
	b.ReportMetric(float64(bytes), "bytes")
}

// drain asks for the zone and reads up to the last message, which ends with the SOA record and is shorter than the other messages. It returns the number of
// bytes.
func drain(b *testing.B, addr string) (bytes int) {
	b.Helper()
	packed, _, err := dns.TsigGenerate(axfr(), testSecret, "", false)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(dnstest.Framed(packed)); err != nil {
		b.Fatal(err)
	}
	in := bufio.NewReaderSize(conn, 64<<10)
	for {
		var size [2]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			b.Fatal(err)
		}
		n := int(binary.BigEndian.Uint16(size[:]))
		if _, err := in.Discard(n); err != nil {
			b.Fatal(err)
		}
		if bytes += n; n < maxMessage-maxRecord {
			return bytes
		}
	}
}

// BenchmarkSurvey measures how long it takes to find the records of a zone in a set of a million names: for the first time, and with an earlier state, as
// after a compilation.
func BenchmarkSurvey(b *testing.B) {
	view, _ := bigView(b, 1_000_000)
	after, err := view.With(blocklist.Info{Version: 2}, []blocklist.Change{listing("a", "new.example", blocklist.Subtree, blocklist.Block)})
	if err != nil {
		b.Fatal(err)
	}
	after = compacted(b, after)
	made := newBuilder([]*zone{testZone(testZoneName)})
	first, err := made.next(b.Context(), nil, view, 10, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			if _, err := made.next(b.Context(), nil, view, 10, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("next", func(b *testing.B) {
		for b.Loop() {
			if _, err := made.next(b.Context(), first, after, 10, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	names := [][]byte{wireOf("new.example")}
	b.Run("one name", func(b *testing.B) {
		for b.Loop() {
			if _, err := made.next(b.Context(), first, after, 10, names); err != nil {
				b.Fatal(err)
			}
		}
	})
}
