package feed

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/store"
)

// TestListStaysActiveWithDamagedFiles checks that a fetched list stays completely active if some of its files are damaged while its publisher is unreachable.
func TestListStaysActiveWithDamagedFiles(t *testing.T) {
	empty := func([]byte) []byte { return nil }
	half := func(b []byte) []byte { return b[:len(b)/2] }
	for name, tt := range map[string]struct {
		damage map[string]func([]byte) []byte // how to damage the files with this suffix
		whole  bool                           // whether a file with the complete content is left
	}{
		"record":                     {map[string]func([]byte) []byte{store.RecordSuffix: empty}, true},
		"record and body":            {map[string]func([]byte) []byte{store.RecordSuffix: empty, store.BodySuffix: empty}, false},
		"record and half the body":   {map[string]func([]byte) []byte{store.RecordSuffix: empty, store.BodySuffix: half}, false},
		"half the record, the copy":  {map[string]func([]byte) []byte{store.RecordSuffix: half, store.CopySuffix: half}, true},
		"copy and half the body":     {map[string]func([]byte) []byte{store.CopySuffix: half, store.BodySuffix: half}, false},
		"record, copy, half a body":  {map[string]func([]byte) []byte{store.RecordSuffix: empty, store.CopySuffix: empty, store.BodySuffix: half}, false},
		"record, copy and body":      {map[string]func([]byte) []byte{store.RecordSuffix: empty, store.CopySuffix: half, store.BodySuffix: empty}, false},
		"half the record and a body": {map[string]func([]byte) []byte{store.RecordSuffix: half, store.BodySuffix: half}, false},
	} {
		for _, readOnly := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, read-only %t", name, readOnly), func(t *testing.T) {
				f := newFixture(t)
				srv := fetchtest.NewServer(t)
				srv.Say(strings.Repeat("# a comment\n", 9) + names1("n", 54))
				cfg := Config{Feeds: []Feed{{Name: "fetched", URL: srv.URL, MaxAge: 24 * time.Hour}}}
				f.once(cfg)
				srv.Close()
				for suffix, damage := range tt.damage {
					paths, _ := filepath.Glob(filepath.Join(f.data, listsFolder, "*"+suffix))
					if len(paths) != 1 {
						t.Fatalf("files %q with the suffix %s, want one", paths, suffix)
					}
					b, err := os.ReadFile(paths[0])
					if err == nil {
						err = os.WriteFile(paths[0], damage(bytes.Clone(b)), 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				cfg.Lists = []string{f.file("more.txt", "more.example\n")} // makes a new set necessary
				cfg.ReadOnly = readOnly
				l := f.start(cfg)
				for _, name := range []string{"n0.example", "n53.example", "more.example"} {
					if !blocks(t, l, name) {
						t.Errorf("%s is not blocked", name)
					}
				}
				var st ListStatus
				for _, s := range l.Status().Lists {
					if s.Name == "fetched" {
						st = s
					}
				}
				if since := time.Since(st.Fetched); st.TooOld || since > time.Minute || st.Entries != 54 {
					t.Errorf("the list is %v old, its status is %+v", since, st)
				}
				if damaged := st.Result == Stale && strings.Contains(st.Err, "damaged"); damaged == tt.whole {
					t.Errorf("result %s, error %q", st.Result, st.Err)
				}
				if !readOnly {
					f.run(l)
				}
			})
		}
	}
}

// TestListingsStayWithoutFileAndCopy checks that the listings of the last set stay if the file of a list is missing and its copy is damaged.
func TestListingsStayWithoutFileAndCopy(t *testing.T) {
	f := newFixture(t)
	path := f.file("a.txt", "||a.example^\n@@||ok.a.example^\n")
	cfg := Config{Lists: []string{path}, Allow: f.file("allow.txt", "allowed.example\n")}
	f.once(cfg)
	for _, pattern := range []string{"*" + store.RecordSuffix, "*" + store.CopySuffix} {
		paths, _ := filepath.Glob(filepath.Join(f.data, listsFolder, pattern))
		for _, p := range paths {
			os.WriteFile(p, nil, 0o600)
		}
	}
	os.Remove(path)
	os.Remove(cfg.Allow)
	cfg.Lists = append(cfg.Lists, f.file("b.txt", "b.example\nallowed.example\n"))
	l := f.once(cfg)
	for name, want := range map[string]blocklist.Decision{"a.example": blocklist.Block, "b.example": blocklist.Block, "allowed.example": blocklist.Allow} {
		if got := action(t, l, name); got != want {
			t.Errorf("decision about %s: %v, want %v", name, got, want)
		}
	}
	if blocks(t, l, "ok.a.example") {
		t.Error("the exception of the list is no longer in effect")
	}
}
