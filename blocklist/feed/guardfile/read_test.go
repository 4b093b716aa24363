package guardfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/guard"
)

// file writes a file in a folder of the test and returns its path.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReleasedFileAcceptsUsualNotations(t *testing.T) {
	path := file(t, "released.txt", "\xff\xfe"+fetchtest.UTF16("# released\r\na.example#why\r\nhxxps://b[.]example/\r\n*.c.example\r\nlist:https://x.example/a#b\r\n", false))
	r, _, err := readReleased(path)
	if err != nil || len(r.names) != 3 || !r.lists["https://x.example/a#b"] {
		t.Errorf("readReleased: %v, %v; want three names and one list", r, err)
	}
	if err := os.WriteFile(path, []byte("a.example\nhttps://b.example/page\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, skipped, err := readReleased(path); err != nil || skipped == nil || !strings.Contains(skipped.Error(), "line 2") || !strings.Contains(skipped.Error(), "names a page") {
		t.Errorf("a URL that names a page: %v, %v", skipped, err)
	}
}

// TestEssentialFileAcceptsEveryFormat checks that names are protected in every form that lists use, and that the number of a line without a name is reported.
func TestEssentialFileAcceptsEveryFormat(t *testing.T) {
	path := file(t, "essential.txt", "*.a.example\n\n||b.example^\nhttps://c.example/\n=d.example # only itself\nwww[.]e.example\n")
	g, _, err := Config{Essential: path}.loadGuards()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a.example", "b.example", "c.example", "d.example", "www.e.example"} {
		name, err := blocklist.AppendName(nil, text)
		if err != nil {
			t.Fatal(err)
		}
		if f := g.Check(blocklist.Listing{Name: name, Scope: blocklist.Exact}); f.Outcome != guard.Refuse {
			t.Errorf("%s is not protected: %+v", text, f)
		}
	}
	path = file(t, "essential.txt", "a.example\n\nnot a name\n")
	if _, skipped, err := (Config{Essential: path}).loadGuards(); err != nil || skipped == nil || !strings.Contains(skipped.Error(), "line 3") {
		t.Errorf("a line that is no name: %v, %v", skipped, err)
	}
}
