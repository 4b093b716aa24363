package feed

import (
	"testing"
	"time"

	"rempart/blocklist/feed/fetch/fetchtest"
)

// TestListsAreRefreshedAtEachInterval checks that a URL is fetched again, and a file is checked again, each time the refresh interval is over.
func TestListsAreRefreshedAtEachInterval(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say("a.example\n")
	path := f.file("list.txt", "old.example\n")
	l := f.start(Config{Lists: []string{srv.URL, path}, Refresh: 50 * time.Millisecond})
	f.run(l)
	if !blocks(t, l, "a.example") || !blocks(t, l, "old.example") || blocks(t, l, "b.example") {
		t.Fatal("the set after the start does not match the lists")
	}
	srv.Say("b.example\n")
	eventually(t, "the URL's new content", func() bool { return blocks(t, l, "b.example") && !blocks(t, l, "a.example") })
	f.file("list.txt", "newer.example\n")
	eventually(t, "the file's new content", func() bool { return blocks(t, l, "newer.example") })
}
