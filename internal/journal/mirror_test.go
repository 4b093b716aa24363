package journal_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/journal"
	"rempart/internal/journal/mirror"
)

// TestEdgesFollowMirrorFolder checks that edges can follow a folder of files behind a plain web server.
func TestEdgesFollowMirrorFolder(t *testing.T) {
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
	client, err := mirror.NewClient(srv.URL, nil, srv.Client())
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

// TestMirrorFolderFollowsNewEpoch checks that a mirror folder follows a new epoch, whose first version is not the next one.
func TestMirrorFolderFollowsNewEpoch(t *testing.T) {
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
	c = startControl(t, k, dir, func(cfg *journal.ControlConfig) {
		cfg.NewEpoch, cfg.Above = true, func() uint64 { return r.Version + 10 }
	})
	c.compact(t)
	r = c.push(t, k.set(t, "two", block("two.example")))
	reaches(r.Version)
}

// boundedAnswer is a response that stores its write deadline.
type boundedAnswer struct {
	*httptest.ResponseRecorder
	until  time.Time
	pieces int
}

func (b *boundedAnswer) SetWriteDeadline(until time.Time) error {
	b.until = until
	return nil
}

func (b *boundedAnswer) Write(p []byte) (int, error) {
	if left := time.Until(b.until); left <= 0 || left > 2*time.Minute || len(p) > 256<<10 {
		return 0, fmt.Errorf("%d bytes in %v", len(p), left)
	}
	b.until = time.Time{}
	b.pieces++
	return b.ResponseRecorder.Write(p)
}

// TestSlowReadersAreDisconnected checks that a response ends if its reader reads nothing, and continues while it reads.
func TestSlowReadersAreDisconnected(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	var changes []journal.Change
	for i := range 5000 {
		change := block(fmt.Sprintf("n%d.example", i))
		change.Reason = strings.Repeat("because ", 10)
		changes = append(changes, change)
	}
	r := c.push(t, k.set(t, "many", changes...))
	_, s := c.snapshotOf(t, c.compact(t).Version)
	h := mirror.NewHandler(c, func(*http.Request, []byte) error { return nil })
	record := fmt.Sprint("/records/", r.Version)
	for _, path := range []string{"/head", "/snapshot", record, "/records/99", "/objects/" + s.Names()[0], "/nothing"} {
		answer := &boundedAnswer{ResponseRecorder: httptest.NewRecorder()}
		h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.pieces == 0 || path == record && answer.pieces < 2 {
			t.Errorf("%s: %d pieces", path, answer.pieces)
		}
		if want := answer.Header().Get("Content-Length"); want != "" && want != fmt.Sprint(answer.Body.Len()) {
			t.Errorf("%s: %d bytes of %s", path, answer.Body.Len(), want)
		}
	}
}
