package blocklist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/internal/dnstest"
)

// source builds one source's input from lines: "name", "=name" (exact), "*.name" (below),
// "@name" (except subtree), "@=name" (except exact), "+name" (allow), "-name" ($badfilter).
func source(t testing.TB, label string, lines ...string) *Input {
	t.Helper()
	b := NewBuilder()
	for _, line := range lines {
		l := Listing{Scope: Subtree}
		text := line
		if rest, ok := strings.CutPrefix(text, "-"); ok {
			if err := b.Cancel(dnstest.WireName(t, rest), Subtree); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if rest, ok := strings.CutPrefix(text, "phishing:"); ok {
			l.Category, text = Phishing, rest
		}
		if rest, ok := strings.CutPrefix(text, "@"); ok {
			l.Decision, text = Except, rest
		}
		if rest, ok := strings.CutPrefix(text, "+"); ok {
			l.Decision, text = Allow, rest
		}
		if rest, ok := strings.CutPrefix(text, "="); ok {
			l.Scope, text = Exact, rest
		}
		if rest, ok := strings.CutPrefix(text, "*."); ok {
			l.Scope, text = Below, rest
		}
		l.Name = dnstest.WireName(t, text)
		if err := b.Add(l); err != nil {
			t.Fatal(err)
		}
	}
	return copied(t, b, Source{Name: label})
}

// copied returns the content of a builder, written to a list's copy and read again, with its exceptions applied.
func copied(t testing.TB, b *Builder, src Source) *Input {
	t.Helper()
	var buf bytes.Buffer
	cp := Copy{Inputs: []*Input{b.Input(src)}, Exceptions: b.Exceptions()}
	if err := cp.Write(&buf); err != nil {
		t.Fatal(err)
	}
	in, err := OpenInput(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func compiled(t testing.TB, inputs ...*Input) *View {
	t.Helper()
	var buf bytes.Buffer
	if err := Compile(&buf, Info{Version: 7, Created: time.Unix(1e9, 0), Content: 42}, inputs...); err != nil {
		t.Fatal(err)
	}
	s, err := Open(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return NewView(s, nil)
}

func TestMatch(t *testing.T) {
	v := compiled(t,
		source(t, "a", "evil.test", "=exact.test", "*.below.test", "both.test", "phishing:=both.test",
			"dropped.test", "-dropped.test", "wide.test", "@good.wide.test", "@=passthru.wide.test",
			"gone.test", "@gone.test", "under.gone.test", "deep.evil.test"),
		source(t, "b", "evil.test", "shared.wide.test", "good.wide.test"),
		source(t, "allow", "+ok.evil.test", "+up.test"),
		source(t, "c", "down.up.test"),
	)
	for _, tt := range []struct {
		name, want string
	}{
		{"evil.test", "block evil.test [a b] holds"},
		{"www.evil.test", "block evil.test [a b] holds"},
		{"x.deep.evil.test", "block deep.evil.test [a]"},
		{"notevil.test", "pass"},
		{"test", "pass"},
		{".", "pass"},
		{"exact.test", "block exact.test [a]"},
		{"www.exact.test", "pass"},
		{"below.test", "pass"},
		{"www.below.test", "block below.test [a]"},
		{"both.test", "block both.test [a] phishing"},
		{"www.both.test", "block both.test [a]"},
		{"dropped.test", "pass"},
		{"ok.evil.test", "allow ok.evil.test [allow]"},
		{"www.ok.evil.test", "allow ok.evil.test [allow]"},
		{"down.up.test", "allow up.test [allow]"},
		{"wide.test", "block wide.test [a] holds"},
		{"www.wide.test", "block wide.test [a] holds"},
		{"good.wide.test", "block good.wide.test [b]"}, // a's exception does not unblock b
		{"passthru.wide.test", "pass"},
		{"www.passthru.wide.test", "block wide.test [a] holds"},
		{"gone.test", "pass"},
		{"under.gone.test", "pass"},
	} {
		name := dnstest.WireName(t, tt.name)
		got := describe(v, name, v.Match(name, AllCategories, 0))
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestMostSpecificCategoryDecides lists a name as malicious and in a more specific category, in either order, in a snapshot and in an overlay: the more
// specific one is shown, but an external order always decides.
func TestMostSpecificCategoryDecides(t *testing.T) {
	listed := func(c Category, scope Scope, m Mark) Listing {
		return Listing{Name: dnstest.WireName(t, "both.test"), Scope: scope, Category: c, Mark: m}
	}
	for what, tt := range map[string]struct {
		listings []Listing
		want     Listing // the one that decides
	}{
		"generic and specific category":          {[]Listing{listed(Malicious, Subtree, Blocked), listed(Phishing, Subtree, Blocked)}, listed(Phishing, Subtree, Blocked)},
		"generic category on the exact name":     {[]Listing{listed(Malicious, Exact, Blocked), listed(Phishing, Subtree, Blocked)}, listed(Phishing, Subtree, Blocked)},
		"specific category on the exact name":    {[]Listing{listed(Malicious, Subtree, Blocked), listed(Scam, Exact, Blocked)}, listed(Scam, Exact, Blocked)},
		"external order with a generic category": {[]Listing{listed(Malicious, Subtree, Censored), listed(Phishing, Subtree, Blocked)}, listed(Malicious, Subtree, Censored)},
	} {
		for _, order := range [][]int{{0, 1}, {1, 0}} {
			var inputs []*Input
			var changes []Change
			for _, i := range order {
				b := NewBuilder()
				if err := b.Add(tt.listings[i]); err != nil {
					t.Fatal(err)
				}
				src := Source{Name: fmt.Sprint("list ", i)}
				inputs = append(inputs, copied(t, b, src))
				changes = append(changes, Change{Source: src, Listing: tt.listings[i]})
			}
			over, err := compiled(t, inputs[0]).With(Info{Version: 8}, changes)
			if err != nil {
				t.Fatal(err)
			}
			for where, v := range map[string]*View{"a snapshot": compiled(t, inputs...), "an overlay": over} {
				got := v.Match(tt.want.Name, AllCategories, 0)
				if got.Action != BlockedBy || got.Category != tt.want.Category || got.Scope != tt.want.Scope || got.Mark != tt.want.Mark {
					t.Errorf("%s, in %s, list %d first: %s %s, mark %d", what, where, order[0], got.Category, got.Scope, got.Mark)
				}
			}
		}
	}
}

// TestExceptionsCancelTheirOwnSourceOnly checks many exceptions that apply to one name: an exception cancels only listings of its own source.
func TestExceptionsCancelTheirOwnSourceOnly(t *testing.T) {
	inputs := []*Input{source(t, "plain", "evil.test")}
	deep := "evil.test"
	lines := []string{"evil.test"}
	for i := range 20 {
		deep = fmt.Sprintf("l%d.%s", i, deep)
		lines = append(lines, "@"+deep)
	}
	inputs = append(inputs, source(t, "deep", lines...))
	for i := range 20 {
		inputs = append(inputs, source(t, fmt.Sprint(i), "evil.test", "@"+deep))
	}
	v := compiled(t, inputs...)
	name := dnstest.WireName(t, deep)
	if got := v.Match(name, AllCategories, 0); got.Action != BlockedBy {
		t.Errorf("%s: %v, want a block: one source has no exception for the name", deep, got.Action)
	}
	v = compiled(t, inputs[1])
	if got := v.Match(name, AllCategories, 0); got.Action != Pass {
		t.Errorf("%s: %v, want a pass: the only source has an exception for the name", deep, got.Action)
	}
}

func TestCancelAppliesToItsScopeOnly(t *testing.T) {
	v := compiled(t, source(t, "a", "=evil.test", "-evil.test"))
	if got := v.Match(dnstest.WireName(t, "evil.test"), AllCategories, 0); got.Action != BlockedBy {
		t.Error("cancelling the subtree cancelled the exact listing")
	}
}

func describe(v *View, name []byte, verdict Verdict) string {
	e, ok := v.Explain(name, verdict)
	if !ok {
		return "pass"
	}
	s := fmt.Sprintf("%s %s %v", verdict.Action, e.Name, e.Sources)
	if verdict.Category != Malicious {
		s += " " + verdict.Category.String()
	}
	if verdict.HoldsPass {
		s += " holds"
	}
	return s
}

// TestMatchAddr checks that the longest listed prefix decides about an address, and that an allow of any length wins.
func TestMatchAddr(t *testing.T) {
	input := func(src string, listings ...Listing) *Input {
		b := NewBuilder()
		for _, l := range listings {
			if err := b.Add(l); err != nil {
				t.Fatal(err)
			}
		}
		return b.Input(Source{Name: src})
	}
	wide, one := netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("198.51.100.7/32")
	addr, other := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("::ffff:198.51.100.8")
	base := compiled(t, input("a", Listing{Prefix: one, Category: Malware}))
	v, err := base.With(Info{Version: 8}, []Change{{Source: Source{Name: "b"}, Listing: Listing{Prefix: wide, Category: Phishing}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []*View{v, compiled(t, input("a", Listing{Prefix: one, Category: Malware}), input("b", Listing{Prefix: wide, Category: Phishing}))} {
		if a, b := v.MatchAddr(addr, AllCategories, 1), v.MatchAddr(other, AllCategories, 1); a.Category != Malware || b.Category != Phishing {
			t.Errorf("MatchAddr: verdicts %+v and %+v, want the categories Malware and Phishing", a, b)
		}
	}
	v = compiled(t, input("a", Listing{Prefix: one}), input("operator", Listing{Prefix: wide, Decision: Allow}))
	if got := v.MatchAddr(addr, AllCategories, 1); got.Action != Allowed {
		t.Errorf("an allow of a shorter prefix does not win: %+v", got)
	}
}

// TestHoldsPassReportsAllowBelow checks that a blocked name with an allowed name below it is found, because it must not be answered with NXDOMAIN.
func TestHoldsPassReportsAllowBelow(t *testing.T) {
	v := compiled(t, source(t, "a", "evil.test"), source(t, "operator", "+*.evil.test"))
	name := dnstest.WireName(t, "evil.test")
	if got := v.Match(name, AllCategories, 1); got.Action != BlockedBy || !got.HoldsPass {
		t.Errorf("Match: %+v, want BlockedBy with HoldsPass", got)
	}
}

func TestMatchTime(t *testing.T) {
	b := NewBuilder()
	for _, l := range []Listing{
		{Name: dnstest.WireName(t, "later.test"), Scope: Subtree, Start: 100},
		{Name: dnstest.WireName(t, "ends.test"), Scope: Subtree, Expiry: 100},
		{Name: dnstest.WireName(t, "window.test"), Scope: Subtree, Start: 50, Expiry: 100},
	} {
		if err := b.Add(l); err != nil {
			t.Fatal(err)
		}
	}
	v := compiled(t, b.Input(Source{Name: "timed"}))
	for _, tt := range []struct {
		name   string
		now    int64
		action Action
		until  int64
	}{
		{"later.test", 99, Pass, 100}, {"later.test", 100, BlockedBy, Forever},
		{"ends.test", 99, BlockedBy, 100}, {"ends.test", 100, Pass, Forever},
		{"window.test", 49, Pass, 50}, {"window.test", 50, BlockedBy, 100}, {"window.test", 100, Pass, Forever},
	} {
		got := v.Match(dnstest.WireName(t, tt.name), AllCategories, tt.now)
		if got.Action != tt.action || got.Until != tt.until {
			t.Errorf("%s at %d: %v until %d, want %v until %d", tt.name, tt.now, got.Action, got.Until, tt.action, tt.until)
		}
	}
}

func TestMatchCategories(t *testing.T) {
	v := compiled(t, source(t, "a", "phishing:p.test"))
	name := dnstest.WireName(t, "p.test")
	if got := v.Match(name, 1<<Malware, 0); got.Action != Pass {
		t.Errorf("a listing of a category that is not enforced blocks: %v", got)
	}
	if got := v.Match(name, 1<<Phishing, 0); got.Action != BlockedBy {
		t.Errorf("a listing of an enforced category does not block: %v", got)
	}
}

// TestCompiledVerdictsEqualModel compares the verdicts of a set, compiled once and compiled again from its parts, with those of a simple model of the same
// listings.
func TestCompiledVerdictsEqualModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "b", "c", "d", "www", "mail", "shop"}
	random := func() string {
		n := 1 + rng.IntN(4)
		parts := make([]string, n)
		for i := range parts {
			parts[i] = words[rng.IntN(len(words))]
		}
		return strings.Join(parts, ".")
	}
	for range 50 {
		type claim struct {
			scope    Scope
			decision Decision
		}
		model := map[string][]claim{}
		var inputs []*Input
		for s := range 3 {
			b := NewBuilder()
			for range rng.IntN(60) {
				name := random()
				c := claim{[]Scope{Exact, Below, Subtree}[rng.IntN(3)], Block}
				if s == 2 {
					c.decision = Allow
				}
				model[name] = append(model[name], c)
				if err := b.Add(Listing{Name: dnstest.WireName(t, name), Scope: c.scope, Decision: c.decision}); err != nil {
					t.Fatal(err)
				}
			}
			inputs = append(inputs, b.Input(Source{Name: fmt.Sprint(s)}))
		}
		want := func(name string) Action {
			got := Pass
			for at, need := name, Exact; ; need = Below {
				for _, c := range model[at] {
					if c.scope&need != 0 {
						if c.decision == Allow {
							return Allowed
						}
						got = BlockedBy
					}
				}
				_, rest, ok := strings.Cut(at, ".")
				if !ok {
					return got
				}
				at = rest
			}
		}
		var parts []*Input
		for _, in := range inputs {
			parts = append(parts, compiled(t, in).Snapshot().Input())
		}
		once, twice := compiled(t, inputs...), compiled(t, parts...)
		if once.Snapshot().Names() != twice.Snapshot().Names() {
			t.Fatal("the same listings, read from the copies of their sources, compile to another snapshot")
		}
		for range 500 {
			name := random()
			for i, v := range []*View{once, twice} {
				if got := v.Match(dnstest.WireName(t, name), AllCategories, 0).Action; got != want(name) {
					t.Fatalf("%s: %v, want %v (compiled %d times)", name, got, want(name), i+1)
				}
			}
		}
	}
}

// TestEveryListedNameIsFound looks up listed names of many lengths and depths, some of them below parents with many names: the filter must not
// reject any of them.
func TestEveryListedNameIsFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 20 {
		b := NewBuilder()
		var names [][]byte
		for range 3000 {
			text := []string{"com", "io"}[rng.IntN(2)]
			for range rng.IntN(6) {
				text = fmt.Sprintf("%x.%s", rng.IntN(1+rng.IntN(40)), text)
			}
			name := dnstest.WireName(t, text)
			names = append(names, name)
			if err := b.Add(Listing{Name: name, Scope: Exact}); err != nil {
				t.Fatal(err)
			}
		}
		v := compiled(t, b.Input(Source{Name: "a"}))
		verdicts := make([]Verdict, len(names))
		v.MatchBatch(names, AllCategories, 1, verdicts)
		for i, name := range names {
			if v.Match(name, AllCategories, 1).Action != BlockedBy || verdicts[i].Action != BlockedBy {
				t.Fatalf("the listed name %s is not found", NameText(name))
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	var buf bytes.Buffer
	if err := Compile(&buf, Info{Version: 1}, source(t, "a", "evil.test", "worse.test")); err != nil {
		t.Fatal(err)
	}
	good := buf.Bytes()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		s, err := Open(bad)
		if err == nil {
			err = s.Verify()
		}
		if !errors.Is(err, ErrSnapshot) && !padding(good, i) {
			t.Fatalf("byte %d was altered: error %v", i, err)
		}
		if _, err := Open(good[:i]); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("the snapshot was cut to %d bytes: error %v", i, err)
		}
	}
	if _, err := Open(append(bytes.Clone(good), 0)); !errors.Is(err, ErrSnapshot) {
		t.Errorf("the snapshot has one extra byte: error %v", err)
	}
}

func TestEmptySnapshot(t *testing.T) {
	v := compiled(t)
	if got := v.Match(dnstest.WireName(t, "any.test"), AllCategories, 0); got.Action != Pass {
		t.Errorf("an empty set returns %v", got)
	}
}

func TestSnapshotReturnsInfoAndSources(t *testing.T) {
	fetched := time.Unix(1700000000, 0).UTC()
	b := NewBuilder()
	if err := b.Add(Listing{Name: dnstest.WireName(t, "evil.test"), Scope: Subtree}); err != nil {
		t.Fatal(err)
	}
	s := compiled(t, b.Input(Source{"list", fetched, 2, 1})).Snapshot()
	if diff := cmp.Diff(Info{Version: 7, Created: time.Unix(1e9, 0).UTC(), Content: 42}, s.Info()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Source{{"list", fetched, 2, 1}}, s.Sources()); diff != "" {
		t.Error(diff)
	}
	if s.Names() != 1 || s.Input().Len() != 1 {
		t.Errorf("%d names, %d listings", s.Names(), s.Input().Len())
	}
}

func TestSetRefusesLowerVersion(t *testing.T) {
	v := compiled(t)
	s := NewSet(v)
	if err := s.Replace(compiled(t)); err == nil {
		t.Error("Replace accepted the same version twice")
	}
	if s.View() != v {
		t.Error("a rejected view became active")
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	v := compiled(t, source(t, "a", "evil.test", "wide.test", "@good.wide.test"))
	for _, text := range []string{"evil.test", "www.evil.test", "a.b.c.d.test", "good.wide.test"} {
		name := dnstest.WireName(t, text)
		if n := testing.AllocsPerRun(100, func() { v.Match(name, AllCategories, 0) }); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

// FuzzOpen opens altered snapshots: unless their checksums are corrected, the alteration is detected or changes no verdict; with corrected checksums, no
// content makes the program panic.
func FuzzOpen(f *testing.F) {
	var buf bytes.Buffer
	b := NewBuilder()
	for _, l := range []Listing{
		{Prefix: netip.MustParsePrefix("198.51.100.0/24")}, {Name: dnstest.WireName(f, "dated.test"), Scope: Subtree, Expiry: 5, ID: "2026-1"},
	} {
		if err := b.Add(l); err != nil {
			f.Fatal(err)
		}
	}
	err := Compile(&buf, Info{Version: 1}, source(f, "a", "evil.test", "worse.test", "@ok.worse.test", "x"), b.Input(Source{Name: "b"}))
	if err != nil {
		f.Fatal(err)
	}
	good := buf.Bytes()
	names := []string{"evil.test", "www.worse.test", "ok.worse.test", "x", "dated.test", "other.test"}
	want, err := Open(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, 80, byte(3))
	f.Add(good, len(good)-40, byte(1))
	f.Fuzz(func(t *testing.T, data []byte, at int, with byte) {
		data = bytes.Clone(data)
		if at >= 0 && at < len(data) {
			data[at] ^= with
		}
		if s, err := Open(data); err == nil && s.Verify() == nil && s.Checksum() == want.Checksum() {
			for _, text := range names {
				name := dnstest.WireName(t, text)
				if a, b := NewView(s, nil).Match(name, AllCategories, 1), NewView(want, nil).Match(name, AllCategories, 1); a != b {
					t.Fatalf("%s: %+v, want %+v", text, a, b)
				}
			}
		}
		resum(data)
		s, err := Open(data)
		if err != nil {
			return
		}
		exercise(t, NewView(s, nil), names)
	})
}

// exercise calls everything that reads a snapshot in place, and ignores the results.
func exercise(t *testing.T, v *View, texts []string) {
	var names [][]byte
	for _, text := range texts {
		name := dnstest.WireName(t, text)
		names = append(names, name)
		v.Explain(name, v.Match(name, AllCategories, 1))
		v.Claims(name)
	}
	v.MatchBatch(names, AllCategories, 1, make([]Verdict, len(names)))
	v.MatchAddr(netip.MustParseAddr("198.51.100.7"), AllCategories, 1)
	if with, err := v.With(Info{Version: 2}, []Change{{Source: Source{Name: "c"}, Listing: Listing{Name: names[0], Scope: Exact}}}); err == nil {
		with.Match(names[0], AllCategories, 1)
	}
	_ = v.Compact(io.Discard, Info{Version: 2}) // an error is correct if records are damaged
	s := v.Snapshot()
	if in, err := OpenInput(bytes.NewReader(s.data), int64(len(s.data))); err == nil {
		_ = Diff(in, s.Input(), func(Change) bool { return true })
	}
}
