package journal_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
)

// TestRecordsAfterLateSnapshotAreInForce checks that records after a snapshot, more than the edge keeps for it, are in force when the snapshot arrives, and are
// not reported as in force before.
func TestRecordsAfterLateSnapshotAreInForce(t *testing.T) {
	if testing.Short() {
		t.Skip("this test publishes thousands of records")
	}
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	source := journaltest.SlowSource{Source: journaltest.FromStream(c, "e"), Open: make(chan struct{})}
	first := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), source.Source, journal.Node{ID: "e"})
	first.Reaches(t, c.State().Version)
	first.Stop()
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), source, journal.Node{ID: "e"})
	whole := e.InForce()
	load := c.PublishList(t, "listed.example")
	var last uint64
	for i := range 2100 {
		last = c.Push(t, k.ChangeSet(t, fmt.Sprint("set", i), journaltest.Block(fmt.Sprintf("n%d.example", i)))).Version
	}
	journaltest.WaitFor(t, "more records than may wait", func() bool { return strings.Contains(e.Health().Problem, "records wait for it") })
	if v := e.State().Version; v <= load.Version+1900 {
		t.Errorf("the last accepted record has version %d, and the snapshot version %d", v, load.Version)
	}
	if v := e.InForce(); v != whole {
		t.Errorf("version %d is reported as in force, but the snapshot of version %d was not fetched", v, load.Version)
	}
	journaltest.WantVerdict(t, e.Set().View(), "n1.example", blocklist.BlockedBy) // pushed changes do not wait for the snapshot
	close(source.Open)
	e.Reaches(t, last)
	for _, name := range []string{"listed.example", "n0.example", "n2099.example"} {
		journaltest.WantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
}

// TestTemporarySnapshotIsRemovedAtStart checks that control removes the unfinished file of a snapshot if it was killed while it wrote the file.
func TestTemporarySnapshotIsRemovedAtStart(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	var writing []string
	_, err := c.PublishSnapshot(t.Context(), publish.SnapshotDraft{Same: true, Compile: func(w io.Writer, st *journal.State) (err error) {
		if writing, err = filepath.Glob(filepath.Join(dir, "state", ".*snapshot*")); err != nil {
			return err
		}
		return st.View().Compact(w, st.View().Info())
	}})
	if err != nil || len(writing) != 1 {
		t.Fatalf("unfinished files %q, %v; want one", writing, err)
	}
	c.Stop()
	if err := os.WriteFile(writing[0], []byte("half of one"), 0o600); err != nil {
		t.Fatal(err)
	}
	journaltest.StartControl(t, k, dir, nil)
	if _, err := os.Stat(writing[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was not removed: %v", writing[0], err)
	}
}
