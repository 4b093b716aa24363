package feed

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/guardfile"
	"rempart/blocklist/guard"
)

// differences returns the results of Compare as text.
func differences(t *testing.T, before, after *blocklist.View) (said []string) {
	t.Helper()
	words := func(entries []blocklist.Entry) (s string) {
		for _, e := range entries {
			s += fmt.Sprintf(" %v %v %t", e.Category, e.Scope, e.HasQuorum)
			s += fmt.Sprint(slices.Sorted(slices.Values(e.Sources)))
		}
		return s
	}
	err := Compare(before, after, func(d Difference) error {
		said = append(said, d.Name+":"+words(d.Before)+" ->"+words(d.After))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(said)
	return said
}

// TestCompare checks that names that are added, removed or changed are reported, among them one with a further list and one whose quorum is reached.
func TestCompare(t *testing.T) {
	f := newFixture(t)
	view := func(first, second string, quorum int) *blocklist.View {
		t.Helper()
		return f.once(Config{Feeds: []Feed{
			{Name: "first", Path: f.file("first.txt", first), Quorum: quorum},
			{Name: "second", Path: f.file("second.txt", second), Category: blocklist.Phishing},
		}}).Set().View()
	}
	before := view("same.example\ngone.example\nwider.example\ntwo.example\n32.1.2.0.192.rpz-ip CNAME .\n24.0.113.0.203.rpz-ip CNAME .\n", "two.example\n", 0)
	if diff := differences(t, before, before); diff != nil {
		t.Errorf("a view differs from itself: %q", diff)
	}
	after := view("same.example\nnew.example\n0.0.0.0 wider.example\n32.1.2.0.192.rpz-ip CNAME .\n", "two.example\nsame.example\n", 0)
	if after.Overlay() == nil {
		t.Log("the later view has no overlay")
	}
	want := []string{
		"gone.example: malicious subtree true[first] ->",
		"new.example: -> malicious subtree true[first]",
		"same.example: malicious subtree true[first] -> phishing subtree true[second] malicious subtree true[first]",
		"two.example: phishing subtree true[second] malicious subtree true[first] -> phishing subtree true[second]",
		"wider.example: malicious subtree true[first] -> malicious exact true[first]",
	}
	if diff := cmp.Diff(want, differences(t, before, after)); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	muted := view("same.example\nnew.example\n0.0.0.0 wider.example\n32.1.2.0.192.rpz-ip CNAME .\n", "two.example\nsame.example\n", 2)
	want = []string{
		"new.example: malicious subtree true[first] -> malicious subtree false[first]",
		"wider.example: malicious exact true[first] -> malicious exact false[first]",
	}
	if diff := cmp.Diff(want, differences(t, after, muted)); diff != "" {
		t.Errorf("with a quorum (-want +got):\n%s", diff)
	}
	err := Compare(before, after, func(d Difference) error {
		if says, said := d.Lists(); d.Name == "two.example" && (says != nil || !slices.Equal(said, []string{"first"})) {
			t.Errorf("%s: %q say, %q said", d.Name, says, said)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	stop := errors.New("stop")
	if err := Compare(before, after, func(Difference) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("after an error of the function: %v", err)
	}
}

// TestComparePrefixes checks Compare with address prefixes, which apply only to answers, and with an overlay.
func TestComparePrefixes(t *testing.T) {
	set := func(prefixes ...string) *blocklist.View {
		t.Helper()
		b := blocklist.NewBuilder()
		for _, p := range prefixes {
			prefix, err := netip.ParsePrefix(p)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Add(blocklist.Listing{Prefix: prefix, Scope: blocklist.Exact}); err != nil {
				t.Fatal(err)
			}
		}
		view, err := viewInMemory(blocklist.Info{Version: 1}, b.Input(blocklist.Source{Name: "list"}))
		if err != nil {
			t.Fatal(err)
		}
		return view
	}
	before, after := set("192.0.2.0/24", "2001:db8::/48"), set("192.0.2.0/24", "198.51.100.1/32")
	want := []string{
		"198.51.100.1/32: -> malicious exact true[list]",
		"2001:db8::/48: malicious exact true[list] ->",
	}
	if diff := cmp.Diff(want, differences(t, before, after)); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	name, err := format.Name("over.example")
	if err != nil {
		t.Fatal(err)
	}
	gone, err := netip.ParsePrefix("192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	over, err := before.With(blocklist.Info{Version: 2}, []blocklist.Change{
		{Source: blocklist.Source{Name: "list"}, Listing: blocklist.Listing{Name: name, Scope: blocklist.Exact}},
		{Source: blocklist.Source{Name: "list"}, Listing: blocklist.Listing{Prefix: gone, Scope: blocklist.Exact}, Withdraw: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	want = []string{"192.0.2.0/24: malicious exact true[list] ->", "over.example: -> malicious exact true[list]"}
	if diff := cmp.Diff(want, differences(t, before, over)); diff != "" {
		t.Errorf("with an overlay (-want +got):\n%s", diff)
	}
}

// TestLinesOfList checks that Lines returns the lines of a list that are about a name or about the names above it.
func TestLinesOfList(t *testing.T) {
	f := newFixture(t)
	path := f.file("list.txt", "! a list\n||evil.example^\n0.0.0.0 www.evil.example\n@@||good.evil.example^\n||evil.example^\n||vil.example^\n")
	l := f.once(Config{Lists: []string{path}})
	name, err := format.Name("a.www.evil.example")
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.Lines(t.Context(), path, name)
	want := []Line{{"www.evil.example", 3, "0.0.0.0 www.evil.example"}, {"evil.example", 2, "||evil.example^"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := l.Lines(t.Context(), "another", name); !errors.Is(err, ErrNotFound) {
		t.Errorf("a list that is not configured: %v, want ErrNotFound", err)
	}
}

// TestJudge checks the decisions of the guards, and whether a person released the name.
func TestJudge(t *testing.T) {
	f := newFixture(t)
	l := f.once(Config{Guards: f.guards(guardfile.Config{
		Popular: f.file("popular.txt", "1,first.example\n2,second.example\n"), Released: f.file("released.txt", "second.example\n"),
	})})
	for text, want := range map[string]struct {
		outcome  guard.Outcome
		released bool
	}{
		"first.example": {guard.Hold, false}, "second.example": {guard.Hold, true}, "pages.dev": {guard.Refuse, false},
		"a.second.example": {guard.Pass, false},
	} {
		name, err := format.Name(text)
		if err != nil {
			t.Fatal(err)
		}
		found, released, err := l.Judge(blocklist.Listing{Name: name, Scope: blocklist.Subtree})
		if err != nil || found.Outcome != want.outcome || released != want.released {
			t.Errorf("%s: %v, released %t, %v", text, found.Outcome, released, err)
		}
	}
	var names []string
	err := l.Guards().EachPopular(func(rank int, name []byte) error {
		names = append(names, fmt.Sprint(rank, " ", blocklist.NameText(name)))
		return nil
	})
	if diff := cmp.Diff([]string{"1 first.example", "2 second.example"}, names); err != nil || diff != "" {
		t.Errorf("popular names: %v %s", err, diff)
	}
}

// TestStoredSetIsOpenedWithOverlay checks that the set that an earlier run stored can be opened, including its overlay.
func TestStoredSetIsOpenedWithOverlay(t *testing.T) {
	f := newFixture(t)
	cfg := Config{Lists: []string{f.file("list.txt", "a.example\n")}, Refresh: time.Hour}
	version := f.once(cfg).Set().View().Version()
	f.file("list.txt", "a.example\nb.example\n")
	cfg.ReadOnly = true
	l := f.start(cfg)
	kept, err := l.Kept()
	if err != nil || kept.Version() != version || kept.Stats().Names != 1 {
		t.Errorf("kept: version %d, %d names, %v", kept.Version(), kept.Stats().Names, err)
	}
	if diff := differences(t, kept, l.Set().View()); len(diff) != 1 {
		t.Errorf("differences: %q", diff)
	}
	path := filepath.Join(f.data, snapshotFile)
	if view, err := OpenSnapshot(path); err != nil || view.Version() != version {
		t.Errorf("opening the snapshot file: %v", err)
	}
	if _, err := OpenSnapshot(f.file("list.snapshot", "no snapshot")); !errors.Is(err, blocklist.ErrSnapshot) {
		t.Errorf("opening a file that is no snapshot: %v, want ErrSnapshot", err)
	}
}
