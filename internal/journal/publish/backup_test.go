package publish_test

import (
	"path/filepath"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
	"rempart/internal/signing"
)

// TestOlderBackupIsDetected checks that an edge keeps its state and reports a problem if control's disk was restored from an older backup.
func TestOlderBackupIsDetected(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c, e, r := journaltest.ControlWithBackup(t, k, dir)
	c.Stop()

	c = journaltest.StartControl(t, k, filepath.Join(dir, "backup"), nil)
	c.Push(t, k.ChangeSet(t, "three", journaltest.Block("three.example"))) // this change has the version of the lost change
	c.Push(t, k.ChangeSet(t, "four", journaltest.Block("four.example")))
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	journaltest.WaitFor(t, "a problem to be reported", func() bool { return e.Health().Problem != "" })
	if v := e.State().Version; v != r.Version {
		t.Errorf("version %d, want %d as before the restore", v, r.Version)
	}
	journaltest.WantVerdict(t, e.Set().View(), "two.example", blocklist.BlockedBy)
	journaltest.WantVerdict(t, e.Set().View(), "three.example", blocklist.Pass)
	t.Log(e.Health().Problem)
	e.Stop()
	c.Stop()

	c = journaltest.StartControl(t, k, filepath.Join(dir, "backup"), func(cfg *publish.Config) {
		cfg.NewEpoch, cfg.Above = true, func() uint64 { return r.Version }
	})
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, r.Version+1)
	after := c.Push(t, k.ChangeSet(t, "five", journaltest.Block("five.example")))
	e.Reaches(t, after.Version)
	journaltest.WantVerdict(t, e.Set().View(), "four.example", blocklist.BlockedBy)
	journaltest.WantVerdict(t, e.Set().View(), "five.example", blocklist.BlockedBy)
}

// TestEdgesFollowControlWithWrongClock checks that edges follow a control whose clock is a day ahead or behind, also after the clock is corrected.
func TestEdgesFollowControlWithWrongClock(t *testing.T) {
	for _, off := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		k, dir := journaltest.NewKeys(t), t.TempDir()
		c := journaltest.StartControl(t, k, dir, nil)
		e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
		c.SetWall(func() time.Time { return time.Now().Add(off) })
		set := func(id, name string) []byte { // the author's clock is as far behind as control's
			payload, err := journal.Encode(&journal.ChangeSet{ID: id, Time: time.Now().Add(min(off, 0)).Unix()}, []journal.Change{journaltest.Block(name)})
			if err != nil {
				t.Fatal(err)
			}
			return signing.Seal(signing.KindChanges, payload, k.Author)
		}
		r := c.Push(t, set("wrong", "wrong.example"))
		e.Reaches(t, r.Version)
		journaltest.WantVerdict(t, e.Set().View(), "wrong.example", blocklist.BlockedBy)
		journaltest.WaitFor(t, "a heartbeat", func() bool { return e.Health().Newest == r.Version })
		h := e.Health()
		t.Logf("%v: version %d, heartbeat %v old, offset %v", off, h.Status.Version, h.Heartbeat.Round(time.Millisecond), h.ControlTime.Round(time.Second))
		if h.Heartbeat > time.Minute {
			t.Error("the age of a heartbeat depends on control's clock")
		}
		c.Stop()
		c = journaltest.StartControl(t, k, dir, nil) // with the correct clock
		e.Stop()
		e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
		journaltest.WantVerdict(t, e.Set().View(), "wrong.example", blocklist.BlockedBy) // from disk, without control
		r = c.Push(t, k.ChangeSet(t, "right", journaltest.Block("right.example")))
		e.Reaches(t, r.Version)
		journaltest.WantVerdict(t, e.Set().View(), "right.example", blocklist.BlockedBy)
	}
}

// TestRecoverAppendsRecordsOfEdge checks that a control that was restored from an older backup appends the later records from the disk of an edge.
func TestRecoverAppendsRecordsOfEdge(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)
	c.Push(t, k.ChangeSet(t, "one", journaltest.Block("one.example")))
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, c.State().Version)
	c.Stop()
	journaltest.CopyTree(t, filepath.Join(dir, "c"), filepath.Join(dir, "backup"))
	c = journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)
	e.Stop()
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	for _, id := range []string{"two", "three"} {
		c.Push(t, k.ChangeSet(t, id, journaltest.Block(id+".example")))
	}
	r, err := c.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.Reaches(t, r.Version)
	e.Stop()
	c.Stop()
	c = journaltest.StartControl(t, k, filepath.Join(dir, "backup"), func(cfg *publish.Config) { cfg.Recover = filepath.Join(dir, "e") })
	if v := c.State().Version; v != r.Version+1 { // control publishes a new snapshot, because neither the backup nor the edge's disk contains the last one
		t.Fatalf("version %d, want %d", v, r.Version+1)
	}
	if _, err := c.Record(t.Context(), r.Version); err != nil {
		t.Errorf("the last recovered record: %v", err)
	}
	fresh := journaltest.StartEdge(t, k, filepath.Join(dir, "fresh"), journaltest.FromStream(c, "fresh"), journal.Node{ID: "fresh"})
	fresh.Reaches(t, r.Version+1)
	journaltest.WantVerdict(t, fresh.Set().View(), "three.example", blocklist.BlockedBy)
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	after := c.Push(t, k.ChangeSet(t, "four", journaltest.Block("four.example")))
	e.Reaches(t, after.Version)
	for _, name := range []string{"one", "two", "three", "four"} {
		journaltest.WantVerdict(t, e.Set().View(), name+".example", blocklist.BlockedBy)
		journaltest.WantVerdict(t, c.State().View(), name+".example", blocklist.BlockedBy)
	}
}
