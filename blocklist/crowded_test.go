package blocklist

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/internal/dnstest"
)

// namesOfBucket returns n+others names whose hashes fall into one bucket of a set of n names: n names to list, and others names that are not listed.
func namesOfBucket(n, others int) (list, other []string) {
	const bucket = 5
	var names []string
	for i := 0; len(names) < n+others; i++ {
		text := fmt.Sprintf("n%d.example", i)
		name, _ := AppendName(nil, text)
		if scale(xxhash.Sum64(name[:len(name)-1]), uint64(bucketCount(n))) == bucket {
			names = append(names, text)
		}
	}
	return names[:n], names[n:]
}

// TestCrowdedBucketNeedsFewReads lists names that were chosen to share one bucket: each listed name is found by reading few records, and no other name is
// found.
func TestCrowdedBucketNeedsFewReads(t *testing.T) {
	lines, others := namesOfBucket(2000, 500)
	for _, v := range []*View{compiled(t, source(t, "a", lines...), source(t, "b", lines[:100]...)), overlaid(t, lines)} {
		s := v.base
		if v.over != nil {
			s = v.over
		}
		if len(s.crowded) == 0 {
			t.Fatal("expected a crowded bucket")
		}
		for _, text := range lines {
			name := dnstest.WireName(t, text)
			key := name[:len(name)-1]
			hash := xxhash.Sum64(key)
			at, end := s.bucket(hash)
			if at, end = s.narrow(at, end, hash, hash, key); end-at > crowdedSize {
				t.Fatalf("%s: %d bytes of records were read", text, end-at)
			}
			verdict := v.Match(name, AllCategories, 1)
			if verdict.Action != BlockedBy {
				t.Fatalf("Match(%s): %v, want BlockedBy", text, verdict.Action)
			}
			if e, ok := v.Named(verdict.Entry); !ok || e.Name != text {
				t.Fatalf("%s: the entry is %q, %v", text, e.Name, ok)
			}
		}
		for _, text := range append(others, "other.example") {
			if verdict := v.Match(dnstest.WireName(t, text), AllCategories, 1); verdict.Action != Pass {
				t.Errorf("Match(%s): %v, want Pass", text, verdict.Action)
			}
		}
		name := dnstest.WireName(t, lines[0])
		if n := testing.AllocsPerRun(100, func() { v.Match(name, AllCategories, 1) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// overlaid returns a view that lists names in its overlay.
func overlaid(t *testing.T, texts []string) *View {
	t.Helper()
	var changes []Change
	for _, text := range texts {
		changes = append(changes, Change{Source: Source{Name: "a"}, Listing: Listing{Name: dnstest.WireName(t, text), Scope: Subtree}})
	}
	v, err := compiled(t).With(Info{Version: 2}, changes)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestDamagedIndexReadsRecordsOnce checks that no record is read more than once if the index of a damaged snapshot is not in order.
func TestDamagedIndexReadsRecordsOnce(t *testing.T) {
	names := bytes.Repeat([]byte("\x08\x07example\x00"), 4000)
	index := make([]uint32, 1001)
	for i := range index {
		index[i] = uint32(i % 2 * len(names))
	}
	records := 0
	for _, b := range crowdedBuckets(index, names) {
		records += len(b.records)
	}
	if records > 4000 {
		t.Errorf("%d records were read, want at most 4000", records)
	}
}

// TestClaimsExaminedPerNameAreBounded checks a name that a source lists for thousands of periods: a query examines only a limited number of these claims, among
// them those with the latest expiry, and the claims of other sources are not affected.
func TestClaimsExaminedPerNameAreBounded(t *testing.T) {
	const many = 20_000
	name := dnstest.WireName(t, "often.example")
	b := NewBuilder()
	var changes []Change
	for i := range int64(many) {
		l := Listing{Name: name, Scope: Subtree, Start: 1000 * i, Expiry: 1000*i + 500}
		changes = append(changes, Change{Source: Source{Name: "often"}, Listing: l})
		if err := b.Add(l); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	base := compiled(t, copied(t, b, Source{Name: "often", Quorum: 2}), source(t, "once", "often.example", "other.example"))
	over, err := compiled(t, source(t, "once", "often.example")).With(Info{Version: 2}, changes)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > time.Minute {
		t.Errorf("compiling took %v, want at most a minute", d)
	}
	for _, v := range []*View{base, over} {
		_, ids := v.lookup(name[:len(name)-1])
		if len(ids) > maxClaims+1 || len(ids) < maxClaims {
			t.Errorf("%d claims about one name are examined", len(ids))
		}
		for _, now := range []int64{1, 1000*(many-1) + 1, 1000 * many} {
			if verdict := v.Match(name, AllCategories, now); verdict.Action != BlockedBy {
				t.Errorf("at %d: %v", now, verdict.Action)
			}
		}
	}
	if verdict := over.Match(name, AllCategories, 1000*(many-1)+1); verdict.Until != Forever && verdict.Until < 1000*(many-1) {
		t.Errorf("the verdict is valid until %d, want a time in the last period", verdict.Until)
	}
}
