package feed

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/guardfile"
)

// TestOwnerMayEmptyFile checks that the owner of a file may remove all names from it, even if there are many.
func TestOwnerMayEmptyFile(t *testing.T) {
	for name, tt := range map[string]struct{ before, after string }{
		"only name replaced by a comment": {"a.example\n", "# none at present\n"},
		"emptied":                         {"a.example\n", ""},
		"large file emptied":              {"a.example\n" + names1("n", 3000), "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			cfg := Config{Lists: []string{f.file("a.txt", tt.before)}}
			l := f.start(cfg)
			stop := f.run(l)
			f.file("a.txt", tt.after)
			eventually(t, "it passes", func() bool { return !blocks(t, l, "a.example") })
			l.Reload()
			eventually(t, "it is ok", func() bool { return one(t, l).Result == OK && one(t, l).Entries == 0 })
			stop()
			if n := strings.Count(f.log.String(), "lists nothing"); n != 1 {
				t.Errorf("the empty list was logged %d times, want once", n)
			}
			if blocks(t, f.once(cfg), "a.example") {
				t.Error("the removed name is blocked again after a restart")
			}
		})
	}
}

// TestNonListContentDoesNotReplaceList checks the content that servers send in place of a list that they no longer publish: it must not replace the list.
func TestNonListContentDoesNotReplaceList(t *testing.T) {
	const few, many = "a.example\nb.example\nc.example\n", 900
	for name, tt := range map[string]struct {
		before, after string
		held          bool
	}{
		"a notice for many names":                 {"a.example\n" + names1("n", many), "This list has moved to\nhttps://new.example/\n", true},
		"a notice for a few names":                {few, "This list has moved to\nhttps://new.example/\n", true},
		"a URL for many names":                    {"a.example\n" + names1("n", many), "https://new.example/\n", true},
		"empty body":                              {few, "", true},
		"only comments":                           {few, "# moved to https://new.example/\n", true},
		"an error in JSON":                        {few, `{"error": "moved", "url": "https://new.example/"}`, true},
		"a page":                                  {few, "<html><a href=https://new.example/>moved</a>\n", true},
		"other names":                             {few, "new.example\nd.example\n", false},
		"other names and a sentence":              {few, "new.example\nd.example\nsee the terms of use\n", false},
		"one name kept, one added, two sentences": {few, "a.example\nnew.example\nsee the terms of use\nand more\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			srv := fetchtest.NewServer(t)
			srv.Say(tt.before)
			released := f.file("released.txt", "")
			l := f.start(Config{Feeds: []Feed{{Name: "small", URL: srv.URL}}, Guards: f.guards(guardfile.Config{Released: released})})
			f.run(l)
			srv.Say(tt.after)
			l.Reload()
			if !tt.held {
				eventually(t, "the new content", func() bool { return blocks(t, l, "new.example") })
				return
			}
			eventually(t, "the hold", func() bool { return one(t, l).Result == Stale })
			if !blocks(t, l, "a.example") || blocks(t, l, "new.example") {
				t.Error("the last good copy is not in force")
			}
			if strings.Contains(one(t, l).Err, "held:") {
				if err := one(t, l).Err; !strings.Contains(err, "list:small") || !strings.Contains(err, "REMPART_RELEASED") {
					t.Errorf("the error does not say how to release the list: %s", err)
				}
				f.file("released.txt", "list:small\n")
				eventually(t, "the release", func() bool { return !blocks(t, l, "a.example") })
			}
		})
	}
}

// TestJSONErrorObjectFailsList checks that a list whose content is a JSON document that reports an error fails.
func TestJSONErrorObjectFailsList(t *testing.T) {
	for _, body := range fetchtest.ErrorObjects() {
		f := newFixture(t)
		srv := fetchtest.NewServer(t)
		srv.Do(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(body)) })
		if s := one(t, f.once(Config{Lists: []string{srv.URL}})); s.Result != Failed || s.Err == "" {
			t.Errorf("list with the content %s: status %+v, want Failed with an error", body, s)
		}
	}
}

// TestFileWrittenWhileItIsRead checks a file that is often rewritten in place while it is read, and is empty for a moment each time: its name
// stays blocked, and the last content becomes active.
func TestFileWrittenWhileItIsRead(t *testing.T) {
	f := newFixture(t)
	path := filepath.Join(f.dir, "a.txt")
	rewrite := func(n int) {
		t.Helper()
		file, err := os.Create(path) // empties the file
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		time.Sleep(time.Millisecond)
		fmt.Fprintf(file, "a.example\nn%d.example\n", n)
	}
	rewrite(0)
	l := f.start(Config{Lists: []string{path}})
	f.run(l)
	eventually(t, "the list", func() bool { return blocks(t, l, "a.example") })
	for n := range 300 {
		rewrite(n)
		l.Reload()
		if !blocks(t, l, "a.example") {
			t.Fatalf("the name is not blocked after the file was written %d times", n)
		}
	}
	eventually(t, "the last content", func() bool { return blocks(t, l, "n299.example") })
	if strings.Contains(f.log.String(), "lists nothing") {
		t.Error("the file was read as an empty list")
	}
}

// TestNoticeOnFirstFetchIsHeld checks that a notice that the first fetch of a list returns is held until a person releases the list.
func TestNoticeOnFirstFetchIsHeld(t *testing.T) {
	for body, held := range map[string]bool{
		"new.example\nhas moved\n":                       true,
		"This list has moved to\nhttps://new.example/\n": true,
		"Moved\nnew.example\n":                           true,
		"new.example\n":                                  false,
		"new.example\nd.example\nsee the terms of use\n": false,
		"new.example##.ad\n||new.example^\n":             false,
	} {
		f := newFixture(t)
		srv := fetchtest.NewServer(t)
		srv.Say(body)
		released := f.file("released.txt", "")
		l := f.start(Config{Feeds: []Feed{{Name: "small", URL: srv.URL}}, Guards: f.guards(guardfile.Config{Released: released})})
		f.run(l)
		if !held {
			eventually(t, body, func() bool { return blocks(t, l, "new.example") })
			continue
		}
		eventually(t, body, func() bool { return one(t, l).Result == Failed })
		if err := one(t, l).Err; blocks(t, l, "new.example") || !strings.Contains(err, "list:small") {
			t.Errorf("notice %q: error %q, want one that names list:small, and new.example not blocked", body, err)
		}
		f.file("released.txt", "list:small\n")
		eventually(t, "the release of "+body, func() bool { return blocks(t, l, "new.example") })
	}
}
