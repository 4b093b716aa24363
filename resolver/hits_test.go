package resolver

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"rempart/blocklist"
)

// viewOf compiles a view of lists, given by name as lines "category name".
func viewOf(t testing.TB, version uint64, lists map[string][]string) *blocklist.View {
	t.Helper()
	var inputs []*blocklist.Input
	for list, lines := range lists {
		b := blocklist.NewBuilder()
		for _, line := range lines {
			word, text, _ := strings.Cut(line, " ")
			c, ok := blocklist.ParseCategory(word)
			name, err := blocklist.AppendName(nil, text)
			if !ok || err != nil {
				t.Fatalf("metric %q has no valid name: %v", line, err)
			}
			if err := b.Add(blocklist.Listing{Name: name, Scope: blocklist.Subtree, Category: c}); err != nil {
				t.Fatal(err)
			}
		}
		inputs = append(inputs, b.Input(blocklist.Source{Name: list}))
	}
	return compiled(t, version, inputs...)
}

// briefMatches returns matches as text, such as "evil.example phishing [a b] 3".
func briefMatches(matches []Match) (words []string) {
	for _, m := range matches {
		words = append(words, fmt.Sprintf("%s %s %v %d", m.Name, m.Category, m.Lists, m.Hits))
	}
	return words
}

// TestHitsAreCountedForDecidingEntry checks that each query is counted for the entry that decides it, both when blocks are enforced and when they are only
// observed.
func TestHitsAreCountedForDecidingEntry(t *testing.T) {
	lists := map[string][]string{"a": {"phishing evil.example", "scam shop.example"}, "b": {"phishing evil.example", "malicious shop.example"}}
	for _, observe := range []bool{false, true} {
		b := newBench(t, func(c *Config) { c.Observe = observe })
		if err := b.set.Replace(viewOf(t, 2, lists)); err != nil {
			t.Fatal(err)
		}
		for name, n := range map[string]int{"evil.example": 2, "www.evil.example": 3, "secret-client-name.evil.example": 1, "shop.example": 2, "good.example": 9} {
			for range n {
				b.ask(query(t, name, "A"))
			}
		}
		b.up.answer = records("@ 300 IN CNAME x.evil.example.", "x.evil.example. 300 IN A 192.0.2.1")
		for range 2 { // from the upstream, then from the cache
			b.ask(query(t, "alias.example", "A"))
		}
		matches := b.r.Matches(0)
		for i := range matches {
			if len(matches[i].Lists) == 2 && matches[i].Lists[0] == "b" {
				matches[i].Lists[0], matches[i].Lists[1] = "a", "b"
			}
		}
		want := []string{"evil.example phishing [a b] 8", "shop.example scam [a] 2"}
		if diff := cmp.Diff(want, briefMatches(matches)); diff != "" {
			t.Errorf("observed: %t (-want +got)\n%s", observe, diff)
		}
		if got := b.r.Matches(3); len(got) != 1 {
			t.Errorf("entries with at least three hits: %v, want one", briefMatches(got))
		}
		_, blocked := b.r.Totals()
		if blocked != 10 {
			t.Errorf("observed: %t: %d queries are counted as blocked, want 10", observe, blocked)
		}
		want = []string{
			"rempart_blocks_total botnet 0", "rempart_blocks_total malicious 0", "rempart_blocks_total malware 0", "rempart_blocks_total phishing 8",
			"rempart_blocks_total scam 2", "rempart_blocks_total stalkerware 0", "rempart_list_blocks_total (unknown) 0", "rempart_list_blocks_total a 10", "rempart_list_blocks_total b 8",
		}
		if diff := cmp.Diff(want, blockCounters(t, b.r)); diff != "" {
			t.Errorf("observed: %t (-want +got)\n%s", observe, diff)
		}
	}
}

// blockCounters are the metrics of blocks by category and by list: "name label value".
func blockCounters(t *testing.T, r *Resolver) (lines []string) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.Collector())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasSuffix(f.GetName(), "blocks_total") {
			continue
		}
		for _, m := range f.GetMetric() {
			lines = append(lines, fmt.Sprint(f.GetName(), " ", m.GetLabel()[0].GetValue(), " ", m.GetCounter().GetValue()))
		}
	}
	return lines
}

// TestHitsStayAfterEntryIsRemoved checks that the gathered hits of an entry are kept when a new version of the set does not contain the entry.
func TestHitsStayAfterEntryIsRemoved(t *testing.T) {
	b := newBench(t, nil)
	replace := func(version uint64, lists map[string][]string) {
		t.Helper()
		if err := b.set.Replace(viewOf(t, version, lists)); err != nil {
			t.Fatal(err)
		}
	}
	replace(2, map[string][]string{"a": {"scam evil.example", "phishing gone.example"}})
	b.ask(query(t, "evil.example", "A"))
	b.r.gatherHits()
	b.ask(query(t, "evil.example", "A"))
	b.ask(query(t, "gone.example", "A")) // its entry is withdrawn before this hit is gathered
	replace(3, map[string][]string{"a": {"scam other.example"}})
	if diff := cmp.Diff([]string{"evil.example scam [a] 2"}, briefMatches(b.r.Matches(0))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	byCategory, byList := b.r.Blocks()
	if byCategory["scam"] != 2 || byCategory["phishing"] != 1 || byList["a"] != 2 || byList[unknownList] != 1 {
		t.Errorf("wrong hits by category %v or by list %v", byCategory, byList)
	}
}

// TestConcurrentHitsAreNotLost checks that no hit is lost when several goroutines count more entries than there are slots for them.
func TestConcurrentHitsAreNotLost(t *testing.T) {
	var table hitTable
	var g sync.WaitGroup
	const goroutines, entries, rounds = 4, hitProbes + 2, 1000
	for range goroutines {
		g.Go(func() {
			for range rounds {
				for i := range uint64(entries) {
					table.noteElsewhere(i<<40 | 8) // all entries start at the same slot
				}
			}
		})
	}
	g.Wait()
	got := map[uint64]uint64{}
	table.gather(func(entry, hits uint64) { got[entry] += hits })
	total := uint64(0)
	for entry, n := range got {
		total += n
		if entry != 0 && n != goroutines*rounds {
			t.Errorf("entry %x: unexpected number of hits: %d", entry, n)
		}
	}
	if len(got) != hitProbes+1 || total != goroutines*rounds*entries {
		t.Errorf("unexpected totals: %d entries, %d hits", len(got), total)
	}
	table.gather(func(uint64, uint64) { t.Error("a hit is gathered twice") }) // this call also frees the slots
	table.noteElsewhere(9<<40 | 8)
	table.gather(func(entry, hits uint64) {
		if entry != 9<<40|8 || hits != 1 {
			t.Errorf("after slots were freed: entry %x with %d hits, want the new entry with 1", entry, hits)
		}
	})
}

// TestHitEntriesAreBounded checks that the entries with the fewest hits are dropped when there are too many.
func TestHitEntriesAreBounded(t *testing.T) {
	total := &hitTotals{}
	total.matches, total.byList = map[uint64]*Match{}, map[string]uint64{}
	for i := range uint64(maxMatches + 1) {
		total.matches[i] = &Match{Hits: i}
	}
	total.bound()
	if len(total.matches) != maxMatches/2 || total.matches[maxMatches] == nil || total.matches[0] != nil {
		t.Errorf("%d entries are left, want the half with the most hits", len(total.matches))
	}
}
