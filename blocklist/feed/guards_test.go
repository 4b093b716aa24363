package feed

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/guardfile"
	"rempart/blocklist/feed/store"
)

// heldOf returns the outcome and the guard of each listing that a guard refused or held, by name.
func heldOf(t *testing.T, l *Lists) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := l.Held(func(h store.Held) error {
		if h.Name != "" {
			got[h.Name] = h.Outcome + " " + h.Guard
		}
		if h.List == "" || h.Line == 0 {
			t.Errorf("%+v does not give the list and the line", h)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

const risky = "evil.example\ngithub.io\nevil.github.io\nimpots.gouv.fr\nwikipedia.org\n0.0.0.0 co.uk\n*.google.com\nnot a name at all\n"

func TestGuardsRefuseAndHoldListings(t *testing.T) {
	f := newFixture(t)
	released := f.file("released.txt", "# none yet\n")
	cfg := Config{Lists: []string{f.file("a.txt", risky)}, Guards: f.guards(guardfile.Config{Released: released, Own: []string{"page.example"}})}
	l := f.start(cfg)
	stop := f.run(l)
	for name, want := range map[string]bool{
		"evil.example": true, "evil.github.io": true, "github.io": false, "good.github.io": false,
		"impots.gouv.fr": false, "wikipedia.org": false, "co.uk": false, "maps.google.com": false,
	} {
		if blocks(t, l, name) != want {
			t.Errorf("%s blocked: %t", name, !want)
		}
	}
	want := map[string]string{
		"github.io": "refuse public-suffix", "co.uk": "refuse public-suffix", "impots.gouv.fr": "refuse essential",
		"wikipedia.org": "hold popular", "google.com": "refuse essential",
	}
	eventually(t, "what is held", func() bool { return cmp.Equal(want, heldOf(t, l)) })
	if s := l.Status().Lists[0]; s.Entries != 2 || s.Held["hold popular"] != 1 || s.Held["refuse essential"] != 2 {
		t.Errorf("status %+v, want 2 entries, one name held as popular and two refused as essential", s)
	}

	f.file("released.txt", "wikipedia.org # seen, and meant\nimpots.gouv.fr\n")
	eventually(t, "the released name", func() bool { return blocks(t, l, "wikipedia.org") })
	if blocks(t, l, "impots.gouv.fr") {
		t.Error("a refusal was released")
	}
	stop()
	l = f.once(Config{Lists: cfg.Lists}) // with other guards, all listings are checked again
	if blocks(t, l, "wikipedia.org") {
		t.Error("a name is still released although there is no file of released names")
	}
	l = f.start(Config{Lists: cfg.Lists, ReadOnly: true})
	if diff := cmp.Diff(want, heldOf(t, l)); diff != "" {
		t.Errorf("read-only (-want +got)\n%s", diff)
	}
}

func TestGuardFiles(t *testing.T) {
	f := newFixture(t)
	g := guardfile.Config{
		Essential: f.file("essential.txt", "precious.example\n"), Popular: f.file("popular.csv", "1,liked.example\n2,known.example\n"), Bound: 1,
	}
	l := f.once(Config{Lists: []string{f.file("a.txt", "www.precious.example\nliked.example\nknown.example\n")}, Guards: f.guards(g)})
	want := map[string]string{"www.precious.example": "refuse essential", "liked.example": "hold popular"}
	if diff := cmp.Diff(want, heldOf(t, l)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, bad := range []guardfile.Config{
		{Essential: "/nowhere"}, {Popular: f.file("empty.csv", "")}, {Released: f.file("bad.txt", "http://x/\n")}, {Popular: f.dir},
	} {
		if _, err := guardfile.New(bad, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%+v was accepted, want an error", bad)
		}
	}
	os.Remove(g.Essential)
	if _, err := guardfile.New(g, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a missing file of essential names was read as an empty one")
	}
}

func names1(prefix string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s%d.example\n", prefix, i)
	}
	return b.String()
}

func TestMassChangeIsHeld(t *testing.T) {
	f := newFixture(t)
	path := f.file("a.txt", names1("n", 2000))
	released := f.file("released.txt", "")
	l := f.start(Config{Feeds: []Feed{{Name: "big", Path: path}}, Guards: f.guards(guardfile.Config{Released: released})})
	f.run(l)
	f.file("a.txt", names1("n", 100))
	eventually(t, "the hold", func() bool { return l.Status().Lists[0].Result == Stale })
	if s := l.Status().Lists[0]; !strings.Contains(s.Err, "shrank from 2000 to 100") || !strings.Contains(s.Err, "list:big") || s.Entries != 2000 {
		t.Errorf("status %+v, want the 2000 earlier entries and an error that names the change and list:big", s)
	}
	if !blocks(t, l, "n1999.example") {
		t.Error("the last good copy is not in force")
	}
	f.file("a.txt", names1("n", 20_000))
	l.Reload()
	eventually(t, "growth to be held too", func() bool { return strings.Contains(l.Status().Lists[0].Err, "grew") })
	f.file("a.txt", names1("n", 100))
	f.file("released.txt", "list:big\n")
	eventually(t, "the release", func() bool { return l.Status().Lists[0].Entries == 100 && !blocks(t, l, "n1999.example") })
}

// TestSetThatShrinksTooMuchIsHeld checks that a set is held if too many of its names would be removed, even if each list keeps its size.
func TestSetThatShrinksTooMuchIsHeld(t *testing.T) {
	f := newFixture(t)
	released := f.file("released.txt", "")
	now := filepath.Join(f.dir, "now")
	put := func(a, b string) { // a link changes both files at once: if the lists changed one after the other, no set would be held
		t.Helper()
		if err := os.Mkdir(filepath.Join(f.dir, a+b), 0o755); err != nil {
			t.Fatal(err)
		}
		f.file(filepath.Join(a+b, "a.txt"), names1(a, 1500))
		f.file(filepath.Join(a+b, "b.txt"), names1(b, 1500))
		err := os.Symlink(a+b, now+".new")
		if err == nil {
			err = os.Rename(now+".new", now)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("a", "b")
	l := f.start(Config{Lists: []string{filepath.Join(now, "a.txt"), filepath.Join(now, "b.txt")}, Guards: f.guards(guardfile.Config{Released: released})})
	f.run(l)
	put("c", "b")
	eventually(t, "half of it replaced", func() bool { return blocks(t, l, "c1.example") && !blocks(t, l, "a1.example") })
	put("d", "e")
	eventually(t, "the hold", func() bool { return strings.Contains(l.Status().Err, "the set as a whole") })
	if !blocks(t, l, "b1.example") || blocks(t, l, "e1.example") {
		t.Error("the held set is active")
	}
	f.file("released.txt", "list:*\n")
	eventually(t, "the release", func() bool {
		return blocks(t, l, "d1.example") && blocks(t, l, "e1.example") && !blocks(t, l, "b1.example")
	})
}

// TestMistakeInReleasedFileKeepsEarlierNames checks that a server continues with the names that were released before, and logs this once.
func TestMistakeInReleasedFileKeepsEarlierNames(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say("fetched.example\nb.example\n")
	released := f.file("released.txt", "a.example\n")
	l := f.start(Config{
		Lists:  []string{srv.URL, f.file("a.txt", "a.example\nb.example\nc.example\n")},
		Guards: f.guards(guardfile.Config{Popular: f.file("popular.csv", "1,a.example\n2,b.example\n"), Released: released}),
	})
	f.run(l)
	f.file("released.txt", "a.example\nhttps://b.example/page\n")
	eventually(t, "the mistake is logged", func() bool { return strings.Contains(f.log.String(), "released.txt, line 2") })
	asked := srv.Requests()
	time.Sleep(100 * time.Millisecond)
	if log := f.log.String(); strings.Count(log, "level=ERROR") != 1 || strings.Contains(log, "level=WARN") {
		t.Error("want exactly one error in the log and no warning")
	}
	for _, s := range l.Status().Lists {
		if s.Result != OK {
			t.Errorf("list status %+v, want OK", s)
		}
	}
	if !blocks(t, l, "a.example") || blocks(t, l, "b.example") || srv.Requests() != asked {
		t.Error("the mistake changed the released names or caused a request")
	}
	f.file("released.txt", "a.example\nb.example\n")
	eventually(t, "the correction", func() bool { return blocks(t, l, "a.example") && blocks(t, l, "b.example") })
}
