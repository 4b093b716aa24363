package blocklist

import (
	"net/netip"
	"testing"

	"rempart/internal/dnstest"
)

// continueView returns a view of listings, which block the subtree of their names.
func continueView(t *testing.T, listings ...Listing) *View {
	t.Helper()
	b := NewBuilder()
	for _, l := range listings {
		l.Scope = Subtree
		if err := b.Add(l); err != nil {
			t.Fatal(err)
		}
	}
	return compiled(t, copied(t, b, Source{Name: "list"}))
}

// TestMatchContinued checks which blocks decide for a client that continues after a warning.
func TestMatchContinued(t *testing.T) {
	const day, now = int64(secondsPerDay), int64(1_800_000_000)
	today := now / day * day
	block := func(name string, c Category) Listing { return Listing{Name: dnstest.WireName(t, name), Category: c} }
	order := func(start, since int64) Listing {
		return Listing{Name: dnstest.WireName(t, "bad.example"), Category: Phishing, Mark: Censored, Start: start, Since: since}
	}
	week := Continuable{Categories: 1 << Phishing, Orders: 7 * day}
	for _, tt := range []struct {
		name      string
		continued Continuable
		listings  []Listing
		want      Action
		until     int64
	}{
		{"a category that people may pass", week, []Listing{block("bad.example", Phishing)}, Pass, Forever},
		{"another category", week, []Listing{block("bad.example", Malware)}, BlockedBy, Forever},
		{"nothing may be passed", Continuable{}, []Listing{block("bad.example", Phishing)}, BlockedBy, Forever},
		{"a second block of the name", week, []Listing{block("bad.example", Phishing), block("bad.example", Botnet)}, BlockedBy, Forever},
		{"a second block of a name above", week, []Listing{block("bad.example", Phishing), block("example", Malware)}, BlockedBy, Forever},
		{"an order in its first week", week, []Listing{order(now-6*day, 0)}, Pass, now + day},
		{"an order after its first week", week, []Listing{order(now-7*day, 0)}, BlockedBy, Forever},
		{"an order without a start", week, []Listing{order(0, today-6*day)}, Pass, today + day},
		{"an order without any date", week, []Listing{order(0, 0)}, BlockedBy, Forever},
		{"an order, in a category that people may pass", Continuable{Categories: AllCategories}, []Listing{order(now-day, 0)}, BlockedBy, Forever},
		{"an order and a list's block", Continuable{Orders: 7 * day}, []Listing{order(now-day, 0), block("bad.example", Phishing)}, BlockedBy, Forever},
		{"an order that has not begun", week, []Listing{order(now+day, 0)}, Pass, now + day},
	} {
		v := continueView(t, tt.listings...)
		got := v.MatchContinued(dnstest.WireName(t, "www.bad.example"), AllCategories, &tt.continued, now)
		if got.Action != tt.want || got.Until != tt.until {
			t.Errorf("%s: %v until %d, want %v until %d", tt.name, got.Action, got.Until, tt.want, tt.until)
		}
		name := dnstest.WireName(t, "www.bad.example")
		if plain := v.MatchContinued(name, AllCategories, nil, now); plain != v.Match(name, AllCategories, now) {
			t.Errorf("%s: without Continuable: %+v, want the verdict of Match", tt.name, plain)
		}
	}
	if !(Continuable{}).IsZero() || week.IsZero() {
		t.Error("IsZero is wrong")
	}
}

// TestMatchAddrContinued checks that a client that continues passes blocks of addresses, too.
func TestMatchAddrContinued(t *testing.T) {
	v := continueView(t, Listing{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Category: Phishing}, Listing{Prefix: netip.MustParsePrefix("192.0.2.128/25"), Category: Malware})
	c := Continuable{Categories: 1 << Phishing}
	for addr, want := range map[string]Action{"192.0.2.1": Pass, "192.0.2.200": BlockedBy} {
		a := netip.MustParseAddr(addr)
		if got := v.MatchAddrContinued(a, AllCategories, &c, 1).Action; got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
		if got := v.MatchAddrContinued(a, AllCategories, nil, 1).Action; got != BlockedBy {
			t.Errorf("%s for other clients: %v, want block", addr, got)
		}
	}
}
