package blocklist

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"rempart/internal/dnstest"
)

// TestNamedReturnsEntryOfVerdict checks that the number in a verdict identifies its entry: in a snapshot, in an overlay and for prefixes, but not after the
// entry was withdrawn.
func TestNamedReturnsEntryOfVerdict(t *testing.T) {
	prefix := NewBuilder()
	if err := prefix.Add(Listing{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Category: Botnet}); err != nil {
		t.Fatal(err)
	}
	v := compiled(t, source(t, "a", "evil.test", "phishing:both.test", "*.below.test"), source(t, "b", "evil.test", "both.test"), copied(t, prefix, Source{Name: "ip"}))
	words := func(v *View, number uint64) string {
		e, ok := v.Named(number)
		if !ok {
			return "none"
		}
		slices.Sort(e.Sources)
		return fmt.Sprint(e.Name, " ", e.Category, " ", e.Sources)
	}
	numbers := map[string]uint64{}
	for name, want := range map[string]string{
		"www.evil.test": "evil.test malicious [a b]", "both.test": "both.test phishing [a]", "x.y.below.test": "below.test malicious [a]",
	} {
		numbers[name] = v.Match(dnstest.WireName(t, name), AllCategories, 0).Entry
		if got := words(v, numbers[name]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := words(v, v.MatchAddr(netip.MustParseAddr("203.0.113.7"), AllCategories, 0).Entry); got != "203.0.113.0/24 botnet [ip]" {
		t.Errorf("an address: %s", got)
	}
	if n := v.Match(dnstest.WireName(t, "good.test"), AllCategories, 0).Entry; n != 0 || words(v, n) != "none" {
		t.Errorf("a verdict without an entry has the number %x", n)
	}
	listing := Listing{Name: dnstest.WireName(t, "evil.test"), Scope: Subtree}
	over, err := v.With(Info{Version: 8}, []Change{
		{Source: Source{Name: "a"}, Listing: listing, Withdraw: true}, {Source: Source{Name: "c"}, Listing: listing},
		{Source: Source{Name: "a"}, Listing: Listing{Name: dnstest.WireName(t, "below.test"), Scope: Below}, Withdraw: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"www.evil.test": "evil.test malicious [b c]", "both.test": "both.test phishing [a]", "x.y.below.test": "none"} {
		if got := words(over, numbers[name]); got != want {
			t.Errorf("by an overlay, %s: %s, want %s", name, got, want)
		}
	}
	if got := EntryCategory(numbers["both.test"]); got != Phishing {
		t.Errorf("the number's category is %s", got)
	}
}

// TestCategoriesFitEntryID checks that each category fits the bits that entryID reserves for it.
func TestCategoriesFitEntryID(t *testing.T) {
	if categoryCount > categoryBits+1 {
		t.Errorf("%d categories do not fit the bits of an entry's number", categoryCount)
	}
}
