package pushapi_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/publish"
)

// loseSnapshot removes the newest snapshot from the object store of a fixture, and damages control's own copy of it, so that the journal cannot be repaired.
func (f *fixture) loseSnapshot(t *testing.T) {
	t.Helper()
	newest, err := f.journ.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := journal.ReadRecord(newest.Data)
	if err != nil {
		t.Fatal(err)
	}
	name := r.Snapshot.Names()[0]
	own, err := os.OpenFile(filepath.Join(f.dir, "state", name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	info, err := own.Stat()
	if err != nil {
		t.Fatal(err)
	}
	last := make([]byte, 1)
	at := info.Size() / 2
	if _, err := own.ReadAt(last, at); err != nil {
		t.Fatal(err)
	}
	last[0] ^= 4
	if _, err := own.WriteAt(last, at); err != nil { // the file is mapped
		t.Fatal(err)
	}
	if err := f.stream.DeleteObject(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func TestPushIsRefusedWhileTheJournalIsDamaged(t *testing.T) {
	f := start(t, setting{control: func(cfg *publish.Config) { cfg.ScrubInterval = 20 * time.Millisecond }})
	f.published(t, set("before", "before.example"))
	f.loseSnapshot(t)
	for end := time.Now().Add(30 * time.Second); f.journ.Damaged() == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the damage was not detected")
		}
	}
	a := f.push(t, "ada", set("lost", "lost.example"))
	refused(t, a, http.StatusServiceUnavailable, "")
	if !strings.Contains(a.String(), "--recover") || !strings.Contains(a.String(), "--new-epoch") {
		t.Errorf("the answer does not name --recover and --new-epoch: %s", a)
	}
	nodes := into[struct{ Problem string }](t, f.get(t, "ada", "/v1/nodes"), http.StatusOK)
	if nodes.Problem == "" {
		t.Error("the list of servers reports no problem, want the damage")
	}
	if log := f.get(t, "ada", "/v1/names/before.example/log"); log.status != http.StatusOK {
		t.Errorf("the log of a name cannot be read while the journal is damaged: %s", log)
	}
	if n := strings.Count(f.logged.String(), "the journal is damaged"); n != 1 {
		t.Errorf("the damage was logged %d times, want once", n)
	}
}
