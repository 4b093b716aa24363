package feed

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/store"
)

func TestCorruptFilesOfListsAreReplaced(t *testing.T) {
	spoil := map[string]func(t *testing.T, path string){
		"altered":             func(t *testing.T, path string) { alter(t, path) },
		"cut":                 func(t *testing.T, path string) { os.WriteFile(path, []byte("cut"), 0o600) },
		"emptied":             func(t *testing.T, path string) { os.WriteFile(path, nil, 0o600) },
		"removed":             func(t *testing.T, path string) { os.Remove(path) },
		"replaced by garbage": func(t *testing.T, path string) { os.WriteFile(path, bytes.Repeat([]byte{0xa5}, 8192), 0o600) },
	}
	files := map[string]string{
		"snapshot": snapshotFile,
		"copies":   listsFolder + "/*" + store.CopySuffix,
		"records":  listsFolder + "/*" + store.RecordSuffix,
		"bodies":   listsFolder + "/*" + store.BodySuffix,
		"all":      listsFolder + "/*.[sj]*", // copies and records
	}
	for how, spoil := range spoil {
		for what, pattern := range files {
			t.Run(what+" "+how, func(t *testing.T) {
				f := newFixture(t)
				srv := fetchtest.NewServer(t)
				srv.Say("u.example\n")
				cfg := Config{Lists: []string{srv.URL, f.file("a.txt", "a.example\n")}}
				f.once(cfg)
				srv.Close() // the stored body must be used
				paths, err := filepath.Glob(filepath.Join(f.data, pattern))
				if err != nil || len(paths) == 0 {
					t.Fatalf("files that match %s: %q, %v; want at least one", pattern, paths, err)
				}
				for _, path := range paths {
					spoil(t, path)
				}
				cfg.Lists = append(cfg.Lists, f.file("b.txt", "b.example\n")) // makes the copies necessary
				l := f.once(cfg)
				for _, name := range []string{"u.example", "a.example", "b.example"} {
					if !blocks(t, l, name) {
						t.Errorf("%s is not blocked; status %+v", name, l.Status())
					}
				}
				if v := l.Status().Version; v != 2 {
					t.Errorf("version %d", v)
				}
			})
		}
	}
}

func alter(t *testing.T, path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadOnlyListsWriteNothing(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say("u.example\n")
	current, changed := f.file("a.txt", "a.example\n"), f.file("b.txt", "b.example\n")
	cfg := Config{Lists: []string{srv.URL, current, changed}, ReadOnly: true}

	check := func(want ListStatus, blocked ...string) {
		t.Helper()
		before, asked := tree(t, f.data), srv.Requests()
		l := f.start(cfg)
		for _, name := range blocked {
			if !blocks(t, l, name) {
				t.Errorf("%s is not blocked", name)
			}
		}
		got := l.Status().Lists[0]
		got.Name, got.Fetched, got.Refused = "", time.Time{}, nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff(before, tree(t, f.data)); diff != "" || srv.Requests() != asked {
			t.Errorf("not read-only: %d requests, (-before +after)\n%s", srv.Requests()-asked, diff)
		}
	}
	check(ListStatus{Kind: KindURL, Result: Waiting}, "a.example", "b.example")

	cfg.ReadOnly = false
	server := f.start(cfg)
	f.run(server) // holds the lock
	eventually(t, "the copies", func() bool {
		records, _ := filepath.Glob(filepath.Join(f.data, listsFolder, "*"+store.RecordSuffix))
		return len(records) == 3
	})
	cfg.ReadOnly = true
	check(ListStatus{Kind: KindURL, Result: OK, Entries: 1}, "u.example", "a.example", "b.example")

	cfg.Lists = append(cfg.Lists, f.file("c.txt", "c.example\n"))
	check(ListStatus{Kind: KindURL, Result: OK, Entries: 1}, "u.example", "a.example", "b.example", "c.example")

	for _, pattern := range []string{"*" + store.CopySuffix, "*" + store.RecordSuffix} {
		paths, _ := filepath.Glob(filepath.Join(f.data, listsFolder, pattern))
		for _, path := range paths {
			os.WriteFile(path, []byte("garbage"), 0o600)
		}
		check(ListStatus{Kind: KindURL, Result: OK, Entries: 1, Parses: 1}, "u.example", "a.example", "b.example", "c.example")
	}
}

// tree returns the content of every file in a folder.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, _ := os.ReadFile(path)
			files[path] = string(b)
		}
		return nil
	})
	return files
}

func TestFind(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say(fetchtest.Gzip(t, "# list\n0.0.0.0 x.example a.example # two\n||b.example^\n"+strings.Repeat("y", 2*format.MaxLine)+"\nsub.b.example\x07\nsub.b.example # here\x07\n@@||c.example^"))
	allow := f.file("allow.txt", "c.example\n")
	l := f.once(Config{Lists: []string{srv.URL}, Allow: allow})
	srv.Close()
	tests := []struct {
		source, name string
		line         int
		text         string
	}{
		{srv.URL, "a.example", 2, "0.0.0.0 x.example a.example # two"},
		{srv.URL, "b.example", 3, "||b.example^"},
		{srv.URL, "other.b.example", 3, "||b.example^"},
		{srv.URL, "www.sub.b.example", 6, "sub.b.example # here"},
		{allow, "c.example", 1, "c.example"},
		{srv.URL, "www.a.example", 0, ""},
		{srv.URL, "c.example", 0, ""},
		{srv.URL, "xb.example", 0, ""},
		{"elsewhere", "a.example", 0, ""},
	}
	for _, tt := range tests {
		name, _ := format.Name(tt.name)
		line, text, err := l.Find(t.Context(), tt.source, name)
		if line != tt.line || strings.TrimSpace(text) != tt.text || (tt.line == 0) != errors.Is(err, ErrNotFound) {
			t.Errorf("Find(%s, %s) = %d, %q, %v; want %d, %q", tt.source, tt.name, line, text, err, tt.line, tt.text)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	name, _ := format.Name("a.example")
	if _, _, err := l.Find(ctx, srv.URL, name); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
}
