package rpz

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rempart/blocklist"
)

// viewOf compiles listings.
func viewOf(t testing.TB, version uint64, changes ...blocklist.Change) *blocklist.View {
	t.Helper()
	v, err := emptyView(version).With(blocklist.Info{Version: version, Created: time.Now()}, changes)
	if err != nil {
		t.Fatal(err)
	}
	return compacted(t, v)
}

func emptyView(version uint64) *blocklist.View {
	var buf bytes.Buffer
	if err := blocklist.Compile(&buf, blocklist.Info{Version: version}); err != nil {
		panic(err)
	}
	s, err := blocklist.Open(buf.Bytes())
	if err != nil {
		panic(err)
	}
	return blocklist.NewView(s, nil)
}

type failing interface{ Fatal(args ...any) }

func compacted(t failing, v *blocklist.View) *blocklist.View {
	var buf bytes.Buffer
	if err := v.Compact(&buf, blocklist.Info{Version: v.Version(), Created: v.Info().Created}); err != nil {
		t.Fatal(err)
	}
	s, err := blocklist.Open(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return blocklist.NewView(s, nil)
}

func wireOf(text string) []byte {
	name, err := blocklist.AppendName(nil, text)
	if err != nil {
		panic(err)
	}
	return name
}

func listing(source, name string, scope blocklist.Scope, d blocklist.Decision) blocklist.Change {
	return blocklist.Change{Source: blocklist.Source{Name: source}, Listing: blocklist.Listing{Name: wireOf(name), Scope: scope, Decision: d}}
}

func testZone(name string) *zone {
	return &zone{name: wireOf(name), text: name, categories: blocklist.AllCategories, target: []byte{0}}
}

// contents returns all records of a zone, and checks that each owner occurs once.
func contents(t failing, b *builder, st *state, i int) map[string]rule {
	all := map[string]rule{}
	err := st.each(b.zones[i], i, func(r record) error {
		if _, ok := all[r.owner]; ok {
			return fmt.Errorf("%q is there twice", r.owner)
		}
		all[r.owner] = r.rule
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// texts returns contents in readable form.
func texts(all map[string]rule) map[string]rule {
	out := map[string]rule{}
	for owner, r := range all {
		out[blocklist.NameText([]byte(owner+"\x00"))] = r
	}
	return out
}

// lookup returns the rule that a resolver applies to a name: the rule of the name itself, else that of the longest wildcard. With asDNS, a wildcard does not
// match below an existing name, as in ordinary DNS zones.
func lookup(all map[string]rule, exists map[string]bool, name []byte, asDNS bool) rule {
	own := name[:len(name)-1]
	if r, ok := all[string(own)]; ok {
		return r
	}
	if asDNS && exists[string(own)] {
		return none
	}
	for n := parent(name); ; n = parent(n) {
		above := n[:len(n)-1]
		if r, ok := all["\x01*"+string(above)]; ok {
			return r
		}
		if asDNS && exists[string(above)] || len(n) == 1 {
			return none
		}
	}
}

func existing(all map[string]rule) map[string]bool {
	exists := map[string]bool{}
	for owner := range all {
		for n := []byte(owner + "\x00"); len(n) > 1; n = parent(n) {
			exists[string(n[:len(n)-1])] = true
		}
	}
	return exists
}

var (
	modelSources = []blocklist.Source{{Name: "a"}, {Name: "b"}, {Name: "c", Quorum: 2}, {Name: "operator"}}
	modelNames   = strings.Fields("com x.com a.x.com b.a.x.com c.b.a.x.com d.c.b.a.x.com e.x.com f.e.x.com io y.io a.y.io b.a.y.io c.a.y.io")
)

func drawChange(t *rapid.T) blocklist.Change {
	return blocklist.Change{
		Source: rapid.SampledFrom(modelSources).Draw(t, "source"),
		Listing: blocklist.Listing{
			Name:     wireOf(rapid.SampledFrom(modelNames).Draw(t, "name")),
			Scope:    rapid.SampledFrom([]blocklist.Scope{blocklist.Exact, blocklist.Below, blocklist.Subtree, blocklist.Subtree}).Draw(t, "scope"),
			Category: blocklist.Category(rapid.IntRange(0, 1).Draw(t, "category")),
			Decision: rapid.SampledFrom([]blocklist.Decision{blocklist.Block, blocklist.Block, blocklist.Block, blocklist.Except, blocklist.Allow}).Draw(t, "decision"),
			Start:    int64(rapid.SampledFrom([]int{0, 0, 0, 50}).Draw(t, "start")),
			Expiry:   int64(rapid.SampledFrom([]int{0, 0, 0, 100}).Draw(t, "expiry")),
		},
		Withdraw: rapid.IntRange(0, 2).Draw(t, "withdraw") == 0,
	}
}

// TestZoneVerdictsEqualMatch checks that zones give the verdicts of Match after random changes, merges and times, for both interpretations of a wildcard, and
// that the difference between two states changes the earlier zone into the later one.
func TestZoneVerdictsEqualMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := testZone("some.rpz")
		some.categories, some.noAllows = 1, true
		b := newBuilder([]*zone{testZone("rpz"), some})
		version, now := uint64(1), int64(10)
		v := emptyView(version)
		st, err := b.next(t.Context(), nil, v, now, nil)
		if err != nil {
			t.Fatal(err)
		}
		zones := []map[string]rule{{}, {}}
		step := func(t *rapid.T, after *blocklist.View, names [][]byte) {
			next, err := b.next(t.Context(), st, after, now, names)
			if err != nil {
				t.Fatal(err)
			}
			before := st
			v, st = after, next
			for i, z := range b.zones {
				deltas, ok := st.zones[i].history.since(before.serial())
				if !ok || len(deltas) != 1 {
					t.Fatalf("no difference from %d", before.serial())
				}
				zones[i] = applied(t, zones[i], deltas[0])
				if d := cmp.Diff(texts(contents(t, b, st, i)), texts(zones[i])); d != "" {
					t.Fatalf("zone %s: the zone made by the differences is not that of the view (-view +history):\n%s", z.text, d)
				}
				checkVerdicts(t, z, st, zones[i])
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				version++
				var changes []blocklist.Change
				names := [][]byte{}
				for range rapid.IntRange(0, 6).Draw(t, "changes") {
					c := drawChange(t)
					changes = append(changes, c)
					names = append(names, c.Listing.Name)
				}
				after, err := v.With(blocklist.Info{Version: version}, changes)
				if err != nil {
					t.Fatal(err)
				}
				if rapid.IntRange(0, 9).Draw(t, "unknown") == 0 {
					names = nil
				}
				step(t, after, names)
			},
			"merge": func(t *rapid.T) {
				version++
				after, err := v.With(blocklist.Info{Version: version}, nil)
				if err != nil {
					t.Fatal(err)
				}
				step(t, compacted(t, after), [][]byte{})
			},
			"later": func(t *rapid.T) {
				now = int64(rapid.SampledFrom([]int{49, 50, 99, 100, 120}).Draw(t, "now"))
				version++
				after, err := v.With(blocklist.Info{Version: version}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if now < st.at {
					now = st.at
				}
				step(t, after, [][]byte{})
			},
		})
	})
}

func checkVerdicts(t *rapid.T, z *zone, st *state, all map[string]rule) {
	exists := existing(all)
	for _, text := range modelNames {
		for _, prefix := range []string{"", "other.", "more.other."} {
			name := wireOf(prefix + text)
			verdict := st.view.Match(name, z.categories, st.at).Action
			for _, asDNS := range []bool{false, true} {
				got := lookup(all, exists, name, asDNS)
				if (verdict == blocklist.BlockedBy) != (got == block) || verdict == blocklist.Allowed && !z.noAllows && got != pass {
					t.Fatalf("zone %s: %s is %v, the zone says %d (as DNS %v):\n%v", z.text, prefix+text, verdict, got, asDNS, texts(all))
				}
			}
		}
	}
}

// applied returns zone after the difference d, and fails the test if d does not fit zone.
func applied(t failing, zone map[string]rule, d *delta) map[string]rule {
	after := maps.Clone(zone)
	for _, r := range d.removed {
		if after[r.owner] != r.rule {
			t.Fatal("a removed record was not in the zone:", blocklist.NameText([]byte(r.owner+"\x00")))
		}
		delete(after, r.owner)
	}
	for _, r := range d.added {
		if _, ok := after[r.owner]; ok {
			t.Fatal("an added record was already in the zone:", blocklist.NameText([]byte(r.owner+"\x00")))
		}
		after[r.owner] = r.rule
	}
	return after
}

func TestRecordsOfNames(t *testing.T) {
	const B, A, E = blocklist.Block, blocklist.Allow, blocklist.Except
	long := strings.Repeat(strings.Repeat("a", 50)+".", 4) + "example"
	for _, tt := range []struct {
		name    string
		changes []blocklist.Change
		want    map[string]rule
		leftOut int
	}{
		{"exact", []blocklist.Change{listing("a", "x.example", blocklist.Exact, B)}, map[string]rule{"x.example": block}, 0},
		{"below", []blocklist.Change{listing("a", "x.example", blocklist.Below, B)}, map[string]rule{"*.x.example": block}, 0},
		{"subtree", []blocklist.Change{listing("a", "x.example", blocklist.Subtree, B)}, map[string]rule{"x.example": block, "*.x.example": block}, 0},
		{"block below a block is left out", []blocklist.Change{
			listing("a", "example", blocklist.Subtree, B), listing("a", "a.b.example", blocklist.Subtree, B),
		}, map[string]rule{"example": block, "*.example": block}, 0},
		{"block below an allow is left out", []blocklist.Change{
			listing("operator", "example", blocklist.Subtree, A), listing("a", "a.b.example", blocklist.Subtree, B),
		}, map[string]rule{"example": pass, "*.example": pass}, 0},
		{"records that replace a shadowed wildcard", []blocklist.Change{
			listing("a", "example", blocklist.Subtree, B), listing("operator", "a.b.example", blocklist.Exact, A),
		}, map[string]rule{"example": block, "*.example": block, "b.example": block, "*.b.example": block, "a.b.example": pass, "*.a.b.example": block}, 0},
		{"exception of the same source", []blocklist.Change{
			listing("a", "example", blocklist.Subtree, B), listing("a", "b.example", blocklist.Subtree, E),
		}, map[string]rule{"example": block, "*.example": block, "b.example": pass, "*.b.example": pass}, 0},
		{"exception of another source", []blocklist.Change{
			listing("a", "example", blocklist.Subtree, B), listing("b", "b.example", blocklist.Subtree, E),
		}, map[string]rule{"example": block, "*.example": block}, 0},
		{"name too long for the zone", []blocklist.Change{listing("a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa."+long, blocklist.Subtree, B), listing("a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa."+long, blocklist.Subtree, B)},
			map[string]rule{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa." + long: block}, 3},
		{"other triggers", []blocklist.Change{
			listing("a", "0.0.0.0.0.rpz-client-ip", blocklist.Exact, B), listing("a", "32.1.2.0.192.rpz-ip", blocklist.Subtree, B), listing("a", "*.example", blocklist.Exact, B),
		}, map[string]rule{}, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBuilder([]*zone{testZone("rpz.zone")})
			st, err := b.next(t.Context(), nil, viewOf(t, 1, tt.changes...), 10, nil)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, texts(contents(t, b, st, 0))); d != "" {
				t.Errorf("records (-want +got):\n%s", d)
			}
			if st.zones[0].leftOut != tt.leftOut {
				t.Errorf("%d records were left out, want %d", st.zones[0].leftOut, tt.leftOut)
			}
		})
	}
}

func TestRecordsOfAddressPrefixes(t *testing.T) {
	prefix := func(text string, d blocklist.Decision) blocklist.Change {
		return blocklist.Change{Source: blocklist.Source{Name: "a"}, Listing: blocklist.Listing{Prefix: netip.MustParsePrefix(text), Decision: d}}
	}
	v := viewOf(t, 1, prefix("192.0.2.0/24", blocklist.Block), prefix("192.0.2.0/25", blocklist.Allow), prefix("198.51.100.7/32", blocklist.Block),
		prefix("2001:db8::/48", blocklist.Block), prefix("2001:db8:0:1::2/128", blocklist.Block), prefix("203.0.113.0/24", blocklist.Allow))
	b := newBuilder([]*zone{testZone("rpz")})
	st, err := b.next(context.Background(), nil, v, 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]rule{
		"24.0.2.0.192.rpz-ip": block, "25.0.2.0.192.rpz-ip": pass, "32.7.100.51.198.rpz-ip": block,
		"48.zz.db8.2001.rpz-ip": block, "128.2.zz.1.0.db8.2001.rpz-ip": block, "24.0.113.0.203.rpz-ip": pass,
	}
	if d := cmp.Diff(want, texts(contents(t, b, st, 0))); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
	removed := viewOf(t, 2, prefix("192.0.2.0/24", blocklist.Block))
	st, err = b.next(t.Context(), st, removed, 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	deltas, _ := st.zones[0].history.since(1)
	if d := cmp.Diff(texts(contents(t, b, st, 0)), texts(applied(t, owners(want), deltas[0]))); d != "" {
		t.Errorf("the difference makes another zone:\n%s", d)
	}
}

// owners returns texts as owners.
func owners(texts map[string]rule) map[string]rule {
	all := map[string]rule{}
	for text, r := range texts {
		name := wireOf(text)
		all[string(name[:len(name)-1])] = r
	}
	return all
}
