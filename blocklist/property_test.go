package blocklist

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// model is the set as a plain map: the claims by source and name.
type model map[string]map[string][]Listing

var modelSources = []Source{{Name: "a"}, {Name: "b"}, {Name: "c", Quorum: 2}, {Name: "operator"}}

// verdict returns the verdict that the documentation of Match defines. It uses no index, filter or overlay.
func (m model) verdict(name string, now int64) Action {
	verdict := Pass
	excepted := map[string]bool{}
	for at, need := name, Exact; at != ""; need = Below {
		weight := 0
		for _, src := range modelSources {
			if slices.ContainsFunc(m[src.Name][at], func(l Listing) bool { return l.Decision == Block }) {
				weight++
			}
		}
		reaches := func(l Listing) bool {
			return l.Scope&need != 0 && l.Start <= now && (l.Expiry == 0 || l.Expiry > now)
		}
		for _, src := range modelSources {
			for _, l := range m[src.Name][at] {
				if reaches(l) && l.Decision == Allow {
					return Allowed
				}
				if reaches(l) && l.Decision == Except {
					excepted[src.Name] = true
				}
			}
		}
		for _, l := range m.blocks(at) {
			if !reaches(l) || verdict != Pass {
				continue
			}
			for _, src := range modelSources {
				if slices.ContainsFunc(m[src.Name][at], func(o Listing) bool { return sameClaim(o, l) }) && !excepted[src.Name] && m.counts(at, l, weight) {
					verdict = BlockedBy
				}
			}
		}
		_, at, _ = strings.Cut(at, ".")
	}
	return verdict
}

// counts reports whether weight, the total weight of the sources of a claim, reaches the quorum of at least one of them.
func (m model) counts(at string, l Listing, weight int) bool {
	for _, src := range modelSources {
		if slices.ContainsFunc(m[src.Name][at], func(o Listing) bool { return sameClaim(o, l) }) && max(1, src.Quorum) <= weight {
			return true
		}
	}
	return false
}

func (m model) blocks(at string) (all []Listing) {
	for _, src := range modelSources {
		for _, l := range m[src.Name][at] {
			if l.Decision == Block {
				all = append(all, l)
			}
		}
	}
	return all
}

func sameClaim(a, b Listing) bool {
	return a.Decision == b.Decision && a.Scope == b.Scope && a.Category == b.Category && a.Start == b.Start && a.Expiry == b.Expiry
}

var modelNames = func() (names []string) {
	for _, top := range []string{"com", "io"} {
		for i := range 12 { // many names below one parent, so that its bucket is crowded
			names = append(names, fmt.Sprintf("n%d.host.%s", i, top), fmt.Sprintf("d.n%d.host.%s", i, top))
		}
		names = append(names, "host."+top, "x."+top, "www.x."+top, "a.b.c.d.x."+top, top)
	}
	return names
}()

func drawListing(t *rapid.T) (string, Listing) {
	name := rapid.SampledFrom(modelNames).Draw(t, "name")
	return name, Listing{
		Scope:    rapid.SampledFrom([]Scope{Exact, Below, Subtree}).Draw(t, "scope"),
		Category: Category(rapid.IntRange(0, 1).Draw(t, "category")),
		Decision: rapid.SampledFrom([]Decision{Block, Block, Block, Except, Allow}).Draw(t, "decision"),
		Start:    int64(rapid.SampledFrom([]int{0, 0, 0, 50}).Draw(t, "start")),
		Expiry:   int64(rapid.SampledFrom([]int{0, 0, 0, 100}).Draw(t, "expiry")),
	}
}

// TestChangedSetVerdictsEqualModel compares a set with the model after random changes, merges and restarts.
func TestChangedSetVerdictsEqualModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model{}
		version := uint64(1)
		var buf bytes.Buffer
		if err := Compile(&buf, Info{Version: version}); err != nil {
			t.Fatal(err)
		}
		base := buf.Bytes()
		v := view(t, base)
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				var changes []Change
				for range rapid.IntRange(1, 12).Draw(t, "changes") {
					name, l := drawListing(t)
					src := rapid.SampledFrom(modelSources).Draw(t, "source")
					wire, err := AppendName(nil, name)
					if err != nil {
						t.Fatal(err)
					}
					l.Name = wire
					c := Change{src, l, rapid.Bool().Draw(t, "withdraw")}
					changes = append(changes, c)
					m.apply(name, c)
				}
				version++
				next, err := v.With(Info{Version: version}, changes)
				if err != nil {
					t.Fatal(err)
				}
				v = next
			},
			"merge": func(t *rapid.T) {
				version++
				var buf bytes.Buffer
				if err := v.Compact(&buf, Info{Version: version}); err != nil {
					t.Fatal(err)
				}
				base = buf.Bytes()
				v = view(t, base)
			},
			"restart": func(t *rapid.T) {
				next := view(t, base)
				if over := v.Overlay(); over != nil {
					var err error
					if next, err = next.Under(over); err != nil {
						t.Fatal(err)
					}
				}
				v = next
			},
			"": func(t *rapid.T) { m.check(t, v) },
		})
	})
}

func view(t *rapid.T, data []byte) *View {
	s, err := Open(data)
	if err == nil {
		err = s.Verify()
	}
	if err != nil {
		t.Fatal(err)
	}
	return NewView(s, nil)
}

func (m model) apply(name string, c Change) {
	of := m[c.Source.Name]
	if of == nil {
		of = map[string][]Listing{}
		m[c.Source.Name] = of
	}
	of[name] = slices.DeleteFunc(of[name], func(l Listing) bool { return sameClaim(l, c.Listing) })
	if !c.Withdraw {
		of[name] = append(of[name], c.Listing)
	}
	if len(of[name]) == 0 {
		delete(of, name)
	}
}

// check compares the verdicts on every name, alone and in batches, and the number of names.
func (m model) check(t *rapid.T, v *View) {
	var names [][]byte
	for _, name := range append([]string{"other.com", "y.n1.host.io"}, modelNames...) {
		wire, err := AppendName(nil, name)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, wire)
	}
	for _, now := range []int64{10, 70, 200} {
		verdicts := make([]Verdict, len(names))
		v.MatchBatch(names, AllCategories, now, verdicts)
		for i, name := range names {
			one := v.Match(name, AllCategories, now)
			if want := m.verdict(NameText(name), now); one.Action != want {
				t.Fatalf("%s at %d: %v, want %v (%+v)", NameText(name), now, one.Action, want, v.Claims(name))
			}
			if verdicts[i] != one {
				t.Fatalf("%s at %d: %+v in a batch, %+v alone", NameText(name), now, verdicts[i], one)
			}
		}
	}
	distinct := map[string]bool{}
	for _, of := range m {
		for name := range maps.Keys(of) {
			distinct[name] = true
		}
	}
	if got := v.Stats().Names; got != len(distinct) {
		t.Fatalf("%d names, want %d", got, len(distinct))
	}
}

// TestAppliedDiffGivesVerdictsOfNewContent checks that a view of one content gives the verdicts of another after the difference of both was applied to it.
func TestAppliedDiffGivesVerdictsOfNewContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var inputs [2]*Input
		var views [2]*View
		for i := range inputs {
			b := NewBuilder()
			for range rapid.IntRange(0, 30).Draw(t, "listings") {
				name, l := drawListing(t)
				l.Decision = Block
				l.Name, _ = AppendName(nil, name)
				if err := b.Add(l); err != nil {
					t.Fatal(err)
				}
			}
			if rapid.Bool().Draw(t, "address") {
				if err := b.Add(Listing{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Scope: Exact}); err != nil {
					t.Fatal(err)
				}
			}
			inputs[i] = b.Input(Source{Name: "a"})
			var buf bytes.Buffer
			if err := Compile(&buf, Info{Version: 1}, inputs[i]); err != nil {
				t.Fatal(err)
			}
			views[i] = view(t, buf.Bytes())
		}
		var changes []Change
		err := Diff(inputs[0], inputs[1], func(c Change) bool {
			c.Listing.Name = bytes.Clone(c.Listing.Name)
			changes = append(changes, c)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := views[0].With(Info{Version: 2}, changes)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range modelNames {
			wire, _ := AppendName(nil, name)
			if g, w := got.Match(wire, AllCategories, 10).Action, views[1].Match(wire, AllCategories, 10).Action; g != w {
				t.Fatalf("%s: %v, want %v", name, g, w)
			}
		}
		addr := netip.MustParseAddr("198.51.100.7")
		if g, w := got.MatchAddr(addr, AllCategories, 10).Action, views[1].MatchAddr(addr, AllCategories, 10).Action; g != w {
			t.Fatalf("%s: %v, want %v", addr, g, w)
		}
	})
}

// TestAppliedDiffLeavesNoDifference checks that two views with several sources and overlays no longer differ after their difference was applied to the first
// one.
func TestAppliedDiffLeavesNoDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var views [2]*View
		for i := range views {
			var buf bytes.Buffer
			var inputs []*Input
			for _, source := range []string{"a", "b"} {
				b := NewBuilder()
				for range rapid.IntRange(0, 10).Draw(t, "listings") {
					if err := b.Add(drawNamed(t)); err != nil {
						t.Fatal(err)
					}
				}
				inputs = append(inputs, b.Input(Source{Name: source}))
			}
			if err := Compile(&buf, Info{Version: 1}, inputs...); err != nil {
				t.Fatal(err)
			}
			views[i] = view(t, buf.Bytes())
			var changes []Change
			for range rapid.IntRange(0, 10).Draw(t, "changes") {
				source := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "source")
				changes = append(changes, Change{Source{Name: source}, drawNamed(t), rapid.Bool().Draw(t, "withdraw")})
			}
			var err error
			if views[i], err = views[i].With(Info{Version: 2}, changes); err != nil {
				t.Fatal(err)
			}
		}
		differences := func(from, to *Input) (changes []Change) {
			err := Diff(from, to, func(c Change) bool {
				c.Listing.Name = bytes.Clone(c.Listing.Name)
				changes = append(changes, c)
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			return changes
		}
		got, err := views[0].With(Info{Version: 3}, differences(views[0].Input(), views[1].Input()))
		if err != nil {
			t.Fatal(err)
		}
		if left := differences(got.Input(), views[1].Input()); len(left) > 0 {
			t.Fatalf("still different: %+v", left)
		}
		only := func(source string) bool { return source != "b" }
		for _, c := range differences(NewBuilder().Input(Source{}), got.Input().Only(only)) {
			if c.Source.Name == "b" {
				t.Fatalf("a difference of a source that was left out: %+v", c)
			}
		}
		half, err := views[0].With(Info{Version: 3}, differences(views[0].Input().Only(only), views[1].Input().Only(only)))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range differences(half.Input(), views[1].Input()) {
			if c.Source.Name != "b" {
				t.Fatalf("still different: %+v", c)
			}
		}
	})
}

func drawNamed(t *rapid.T) Listing {
	name, l := drawListing(t)
	l.Name, _ = AppendName(nil, name)
	return l
}
