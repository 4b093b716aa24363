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
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/mirror"
	"rempart/internal/journal/publish"
)

// TestEdgesFollowMirrorFolder checks that edges can follow a folder of files behind a plain web server.
func TestEdgesFollowMirrorFolder(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	first := c.Push(t, k.ChangeSet(t, "one", journaltest.Block("one.example")))
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
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), client, journal.Node{ID: "e"})
	e.Reaches(t, first.Version)
	r := c.Push(t, k.ChangeSet(t, "two", journaltest.Block("two.example")))
	e.Reaches(t, r.Version)
	journaltest.WantVerdict(t, e.Set().View(), "two.example", blocklist.BlockedBy)
	if r, err = c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Reaches(t, r.Version)
	late := journaltest.StartEdge(t, k, filepath.Join(dir, "late"), client, journal.Node{ID: "late"})
	late.Reaches(t, r.Version)
	journaltest.WantVerdict(t, late.Set().View(), "one.example", blocklist.BlockedBy)
}

// TestMirrorFolderFollowsNewEpoch checks that a mirror folder follows a new epoch, whose first version is not the next one.
func TestMirrorFolderFollowsNewEpoch(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	folder, err := mirror.NewFolder(filepath.Join(dir, "www"))
	if err != nil {
		t.Fatal(err)
	}
	reaches := func(version uint64) {
		stop := dnstest.Running(t, func(ctx context.Context) error { return folder.Run(ctx, c, func(err error) { t.Error(err) }) })
		defer stop()
		journaltest.WaitFor(t, fmt.Sprint("version ", version), func() bool {
			head, err := os.ReadFile(filepath.Join(dir, "www", "head"))
			if err != nil {
				return false
			}
			h, err := journal.PeekHeartbeat(head)
			return err == nil && h.Version == version
		})
	}
	r := c.Push(t, k.ChangeSet(t, "one", journaltest.Block("one.example")))
	reaches(r.Version)
	c.Stop()
	c = journaltest.StartControl(t, k, dir, func(cfg *publish.Config) {
		cfg.NewEpoch, cfg.Above = true, func() uint64 { return r.Version + 10 }
	})
	c.MustCompact(t)
	r = c.Push(t, k.ChangeSet(t, "two", journaltest.Block("two.example")))
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
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	var changes []journal.Change
	for i := range 5000 {
		change := journaltest.Block(fmt.Sprintf("n%d.example", i))
		change.Reason = strings.Repeat("because ", 10)
		changes = append(changes, change)
	}
	r := c.Push(t, k.ChangeSet(t, "many", changes...))
	_, s := c.SnapshotOf(t, c.MustCompact(t).Version)
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
