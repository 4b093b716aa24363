package feed

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/guardfile"
)

// TestReconfigure checks that feeds can be added, changed and removed while the program runs.
func TestReconfigure(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say("fetched.example\n")
	a := Feed{Name: "a", Path: f.file("a.txt", "a.example\nboth.example\n")}
	b := Feed{Name: "b", Path: f.file("b.txt", "b.example\nboth.example\n")}
	fetched := Feed{Name: "fetched", URL: srv.URL}
	l := f.start(Config{Feeds: []Feed{a, fetched}, Allow: f.file("allow.txt", "allowed.example\n")})
	f.run(l)
	configure := func(feeds ...Feed) {
		t.Helper()
		if err := l.Reconfigure(feeds, guardfile.Config{}); err != nil {
			t.Fatal(err)
		}
	}
	configure(a, b, fetched)
	eventually(t, "a feed that was added", func() bool { return blocks(t, l, "b.example") })

	f.file("b.txt", "b.example\nboth.example\nlater.example\n")
	eventually(t, "a change of its file", func() bool { return blocks(t, l, "later.example") })

	asked := srv.Requests()
	fetched.Category = blocklist.Scam
	configure(a, b, fetched)
	name, _ := format.Name("fetched.example")
	eventually(t, "the category of a fetched feed", func() bool {
		return l.Set().View().Match(name, blocklist.AllCategories, time.Now().Unix()).Category == blocklist.Scam
	})
	if n := srv.Requests(); n != asked {
		t.Errorf("the feed was fetched %d more times, want none", n-asked)
	}

	b.Name, b.Weight = "renamed", 3
	a.Quorum = 4
	configure(a, b, fetched)
	eventually(t, "a quorum and a weight", func() bool { return !blocks(t, l, "a.example") && blocks(t, l, "both.example") })
	both, _ := format.Name("both.example")
	if claims := l.Set().View().Claims(both); len(claims) != 1 || strings.Join(claims[0].Sources, " ") != "a renamed" && strings.Join(claims[0].Sources, " ") != "renamed a" {
		t.Errorf("claims about both.example: %+v, want one of the sources a and renamed", claims)
	}
	a.Quorum = 0

	configure(a)
	eventually(t, "feeds that were removed", func() bool {
		return !blocks(t, l, "b.example") && !blocks(t, l, "fetched.example") && blocks(t, l, "a.example") && blocks(t, l, "both.example")
	})
	eventually(t, "two lists", func() bool { return len(l.Status().Lists) == 2 })
	configure(a, fetched) // the feed is added again, and its stored content is used
	eventually(t, "a feed that is back", func() bool { return blocks(t, l, "fetched.example") })

	if err := l.Reconfigure([]Feed{{Name: "bad", URL: "gopher://x.example/"}}, guardfile.Config{}); err == nil {
		t.Error("an invalid feed was accepted")
	}
	for range 100 { // more than the queue can hold: the last configuration must apply
		configure(a)
		configure(b)
	}
	eventually(t, "the last of many", func() bool { return !blocks(t, l, "a.example") && blocks(t, l, "b.example") })
	if got := action(t, l, "allowed.example"); got != blocklist.Allow {
		t.Errorf("the allow list: %v", got)
	}
}

// TestReconfigureWhileFetching removes a feed while it is being fetched.
func TestReconfigureWhileFetching(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say("fetched.example\n")
	l := f.start(Config{Feeds: []Feed{{Name: "fetched", URL: srv.URL}}})
	f.run(l)
	for range 20 {
		l.Reload()
		if err := l.Reconfigure(nil, guardfile.Config{}); err != nil {
			t.Fatal(err)
		}
		if err := l.Reconfigure([]Feed{{Name: "fetched", URL: srv.URL}}, guardfile.Config{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	eventually(t, "it is in force", func() bool { return blocks(t, l, "fetched.example") && one(t, l).Result == OK })
	if err := l.Reconfigure(nil, guardfile.Config{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone", func() bool { return !blocks(t, l, "fetched.example") && len(l.Status().Lists) == 0 })
}

// TestMovedFeedKeepsLastContent gives feeds another path or URL: their last good content stays active until the new content is accepted, also after
// a restart, and the new content may be completely different.
func TestMovedFeedKeepsLastContent(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say(names1("old", 50))
	file := Feed{Name: "file", Path: f.file("a.txt", "a.example\n")}
	fetched := Feed{Name: "fetched", URL: srv.URL}
	l := f.start(Config{Feeds: []Feed{file, fetched}})
	stop := f.run(l)
	file.Path, fetched.URL = filepath.Join(f.dir, "missing.txt"), "http://127.0.0.1:1/missing.txt"
	if err := l.Reconfigure([]Feed{file, fetched}, guardfile.Config{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are reported", func() bool {
		s := l.Status().Lists
		return len(s) == 2 && s[0].Result == Stale && s[1].Result == Stale
	})
	inForce := func(l *Lists) {
		t.Helper()
		if !blocks(t, l, "a.example") || !blocks(t, l, "old49.example") {
			t.Errorf("the content of a feed that moved is not active: %+v", l.Status())
		}
	}
	inForce(l)
	stop()
	l = f.start(Config{Feeds: []Feed{file, fetched}})
	f.run(l)
	inForce(l)

	other := fetchtest.NewServer(t)
	other.Say(names1("new", 50))
	fetched.URL = other.URL
	f.file("missing.txt", "b.example\n")
	if err := l.Reconfigure([]Feed{file, fetched}, guardfile.Config{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new content", func() bool {
		return blocks(t, l, "b.example") && blocks(t, l, "new49.example") && !blocks(t, l, "a.example") && !blocks(t, l, "old49.example")
	})
}
