package journal_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/journal"
	"rempart/internal/journal/mirror"
)

// TestMirror has edges follow a folder of files behind a web server that knows nothing of them.
func TestMirror(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	first := c.push(t, k.set(t, "one", block("one.example")))
	folder, err := mirror.NewFolder(filepath.Join(dir, "www"))
	if err != nil {
		t.Fatal(err)
	}
	dnstest.Running(t, func(ctx context.Context) error { return folder.Run(ctx, c, func(err error) { t.Log(err) }) })
	srv := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(dir, "www"))))
	t.Cleanup(srv.Close)
	client, err := mirror.NewClient(srv.URL, "", srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	e := startEdge(t, k, filepath.Join(dir, "e"), client, journal.Node{ID: "e"})
	e.reaches(t, first.Version)
	r := c.push(t, k.set(t, "two", block("two.example")))
	e.reaches(t, r.Version)
	wantVerdict(t, e.Set().View(), "two.example", blocklist.BlockedBy)
	if r, err = c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.reaches(t, r.Version)
	late := startEdge(t, k, filepath.Join(dir, "late"), client, journal.Node{ID: "late"})
	late.reaches(t, r.Version)
	wantVerdict(t, late.Set().View(), "one.example", blocklist.BlockedBy)
}

// TestFolderOverEpochs has a folder go on with a new epoch, which begins at a version above the next.
func TestFolderOverEpochs(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	folder, err := mirror.NewFolder(filepath.Join(dir, "www"))
	if err != nil {
		t.Fatal(err)
	}
	reaches := func(version uint64) {
		stop := dnstest.Running(t, func(ctx context.Context) error { return folder.Run(ctx, c, func(err error) { t.Error(err) }) })
		defer stop()
		waitFor(t, fmt.Sprint("version ", version), func() bool {
			head, err := os.ReadFile(filepath.Join(dir, "www", "head"))
			if err != nil {
				return false
			}
			h, err := journal.PeekHeartbeat(head)
			return err == nil && h.Version == version
		})
	}
	r := c.push(t, k.set(t, "one", block("one.example")))
	reaches(r.Version)
	c.stop()
	c = startControl(t, k, dir, func(cfg *journal.ControlConfig) { cfg.Epoch, cfg.Above = true, func() uint64 { return r.Version + 10 } })
	c.compact(t)
	r = c.push(t, k.set(t, "two", block("two.example")))
	reaches(r.Version)
}
