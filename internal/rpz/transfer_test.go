package rpz

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

// linesOf returns records in presentation format, sorted, without those at the zone's name.
func linesOf(all []dns.RR) (lines []string) {
	for _, rr := range all {
		if rr.Header().Rrtype == dns.TypeCNAME {
			lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	slices.Sort(lines)
	return lines
}

// manyNames returns a view of names below many parents.
func manyNames(t testing.TB, n int) *blocklist.View {
	var changes []blocklist.Change
	for i := range n {
		changes = append(changes, listing("a", fmt.Sprintf("n%d.d%d.example", i, i%97), blocklist.Subtree, blocklist.Block))
	}
	return viewOf(t, 1, changes...)
}

func TestTransfers(t *testing.T) {
	s := serve(t, manyNames(t, 5000), nil)
	whole, messages := s.transfer(t, axfr())
	if len(whole) != 2*5000+3 || messages < 3 {
		t.Fatalf("%d records in %d messages", len(whole), messages)
	}
	for _, i := range []int{0, len(whole) - 1} {
		if soa, ok := whole[i].(*dns.SOA); !ok || soa.Serial != 1 {
			t.Fatalf("record %d is %v", i, whole[i])
		}
	}
	if want := "*.n4999.d52.example.rpz.test. 30 IN CNAME page.filter.test."; !slices.Contains(linesOf(whole), want) {
		t.Errorf("no %s", want)
	}

	s.changed(t, listing("a", "new.example", blocklist.Exact, blocklist.Block), listing("operator", "n1.d1.example", blocklist.Exact, blocklist.Allow))
	gone := listing("a", "n2.d2.example", blocklist.Subtree, blocklist.Block)
	gone.Withdraw = true
	s.changed(t, gone)

	difference, _ := s.transfer(t, ixfr(1))
	var got []string
	for _, rr := range difference {
		text := strings.Join(strings.Fields(rr.String())[0:1], " ")
		switch rr := rr.(type) {
		case *dns.SOA:
			text = fmt.Sprint(rr.Serial)
		case *dns.CNAME:
			text += " " + rr.Target
		}
		got = append(got, text)
	}
	want := "3 1 n1.d1.example.rpz.test. page.filter.test. 2 new.example.rpz.test. page.filter.test. n1.d1.example.rpz.test. rpz-passthru. " +
		"2 n2.d2.example.rpz.test. page.filter.test. *.n2.d2.example.rpz.test. page.filter.test. 3 3"
	if strings.Join(got, " ") != want {
		t.Errorf("IXFR:\n%s, want\n%s", strings.Join(got, " "), want)
	}
	for _, serial := range []uint32{3, 4, 1 << 31} { // the same, and newer ones (RFC 1995 section 2)
		if all, _ := s.transfer(t, ixfr(serial)); len(all) != 1 {
			t.Errorf("IXFR from %d: %d records", serial, len(all))
		}
	}
	if all, _ := s.transfer(t, ixfr(0)); len(all) != 2*5000+3-1 { // older than the history
		t.Errorf("IXFR from 0: %d records", len(all))
	}
	for kind, want := range map[string]float64{"axfr": 1, "ixfr": 1, "current": 3, "axfr_for_ixfr": 1} {
		dnstest.Eventually(t, fmt.Sprintf("%v transfers of kind %s", want, kind), func() bool { return s.transferred(t, kind) >= want }) // counted after the last byte
		if got := s.transferred(t, kind); got != want {
			t.Errorf("%v transfers of kind %s, want %v", got, kind, want)
		}
	}

	var file strings.Builder
	if err := s.WriteZone(&file, testZoneName); err != nil {
		t.Fatal(err)
	}
	var read []dns.RR
	for p := dns.NewZoneParser(strings.NewReader(file.String()), "", ""); ; {
		rr, ok := p.Next()
		if !ok {
			if p.Err() != nil {
				t.Fatalf("parsing the zone: %v", p.Err())
			}
			break
		}
		read = append(read, rr)
	}
	now, _ := s.transfer(t, axfr())
	if !slices.Equal(linesOf(read), linesOf(now)) {
		t.Error("the zone in the file differs from the transferred zone")
	}
}
