package journal_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/signing"
)

// controlWithBackup returns a running control in dir/c, whose backup in dir/backup lacks the last change, and a stopped edge in dir/e that has this change in
// force. The Receipt is that of the last change.
func controlWithBackup(t *testing.T, k *keys, dir string) (*control, *edge, journal.Receipt) {
	t.Helper()
	c := startControl(t, k, filepath.Join(dir, "c"), nil)
	c.push(t, k.set(t, "one", block("one.example")))
	c.stop()
	copyTree(t, filepath.Join(dir, "c"), filepath.Join(dir, "backup"))
	c = startControl(t, k, filepath.Join(dir, "c"), nil)
	r := c.push(t, k.set(t, "two", block("two.example")))
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	e.reaches(t, r.Version)
	e.stop()
	return c, e, r
}

// TestOlderBackupIsDetected checks that an edge keeps its state and reports a problem if control's disk was restored from an older backup.
func TestOlderBackupIsDetected(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c, e, r := controlWithBackup(t, k, dir)
	c.stop()

	c = startControl(t, k, filepath.Join(dir, "backup"), nil)
	c.push(t, k.set(t, "three", block("three.example"))) // this change has the version of the lost change
	c.push(t, k.set(t, "four", block("four.example")))
	e = startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	waitFor(t, "a problem to be reported", func() bool { return e.Health().Problem != "" })
	if v := e.State().Version; v != r.Version {
		t.Errorf("version %d, want %d as before the restore", v, r.Version)
	}
	wantVerdict(t, e.Set().View(), "two.example", blocklist.BlockedBy)
	wantVerdict(t, e.Set().View(), "three.example", blocklist.Pass)
	t.Log(e.Health().Problem)
	e.stop()
	c.stop()

	c = startControl(t, k, filepath.Join(dir, "backup"), func(cfg *journal.ControlConfig) {
		cfg.NewEpoch, cfg.Above = true, func() uint64 { return r.Version }
	})
	e = startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	e.reaches(t, r.Version+1)
	after := c.push(t, k.set(t, "five", block("five.example")))
	e.reaches(t, after.Version)
	wantVerdict(t, e.Set().View(), "four.example", blocklist.BlockedBy)
	wantVerdict(t, e.Set().View(), "five.example", blocklist.BlockedBy)
}

// TestEdgesFollowControlWithWrongClock checks that edges follow a control whose clock is a day ahead or behind, also after the clock is corrected.
func TestEdgesFollowControlWithWrongClock(t *testing.T) {
	for _, off := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		k, dir := newKeys(t), t.TempDir()
		c := startControl(t, k, dir, nil)
		e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
		c.SetWall(func() time.Time { return time.Now().Add(off) })
		set := func(id, name string) []byte { // the author's clock is as far behind as control's
			payload, err := journal.Encode(&journal.ChangeSet{ID: id, Time: time.Now().Add(min(off, 0)).Unix()}, []journal.Change{block(name)})
			if err != nil {
				t.Fatal(err)
			}
			return signing.Seal(signing.KindChanges, payload, k.author)
		}
		r := c.push(t, set("wrong", "wrong.example"))
		e.reaches(t, r.Version)
		wantVerdict(t, e.Set().View(), "wrong.example", blocklist.BlockedBy)
		waitFor(t, "a heartbeat", func() bool { return e.Health().Newest == r.Version })
		h := e.Health()
		t.Logf("%v: version %d, heartbeat %v old, offset %v", off, h.Status.Version, h.Heartbeat.Round(time.Millisecond), h.ControlTime.Round(time.Second))
		if h.Heartbeat > time.Minute {
			t.Error("the age of a heartbeat depends on control's clock")
		}
		c.stop()
		c = startControl(t, k, dir, nil) // with the correct clock
		e.stop()
		e = startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
		wantVerdict(t, e.Set().View(), "wrong.example", blocklist.BlockedBy) // from disk, without control
		r = c.push(t, k.set(t, "right", block("right.example")))
		e.reaches(t, r.Version)
		wantVerdict(t, e.Set().View(), "right.example", blocklist.BlockedBy)
	}
}

// TestRecoverAppendsRecordsOfEdge checks that a control that was restored from an older backup appends the later records from the disk of an edge.
func TestRecoverAppendsRecordsOfEdge(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, filepath.Join(dir, "c"), nil)
	c.push(t, k.set(t, "one", block("one.example")))
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	e.reaches(t, c.State().Version)
	c.stop()
	copyTree(t, filepath.Join(dir, "c"), filepath.Join(dir, "backup"))
	c = startControl(t, k, filepath.Join(dir, "c"), nil)
	e.stop()
	e = startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	for _, id := range []string{"two", "three"} {
		c.push(t, k.set(t, id, block(id+".example")))
	}
	r, err := c.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.reaches(t, r.Version)
	e.stop()
	c.stop()
	c = startControl(t, k, filepath.Join(dir, "backup"), func(cfg *journal.ControlConfig) { cfg.Recover = filepath.Join(dir, "e") })
	if v := c.State().Version; v != r.Version+1 { // control publishes a new snapshot, because neither the backup nor the edge's disk contains the last one
		t.Fatalf("version %d, want %d", v, r.Version+1)
	}
	if _, err := c.Record(t.Context(), r.Version); err != nil {
		t.Errorf("the last recovered record: %v", err)
	}
	fresh := startEdge(t, k, filepath.Join(dir, "fresh"), fromStream(c, "fresh"), journal.Node{ID: "fresh"})
	fresh.reaches(t, r.Version+1)
	wantVerdict(t, fresh.Set().View(), "three.example", blocklist.BlockedBy)
	e = startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	after := c.push(t, k.set(t, "four", block("four.example")))
	e.reaches(t, after.Version)
	for _, name := range []string{"one", "two", "three", "four"} {
		wantVerdict(t, e.Set().View(), name+".example", blocklist.BlockedBy)
		wantVerdict(t, c.State().View(), name+".example", blocklist.BlockedBy)
	}
}

// TestDamagedSnapshotIsFetchedAgain checks that an edge fetches a snapshot again if it is damaged on the edge's disk, and that later changes stay in force.
func TestDamagedSnapshotIsFetchedAgain(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	var changes []journal.Change
	for i := range 2000 {
		changes = append(changes, block(fmt.Sprintf("n%d.example", i)))
	}
	c.push(t, k.set(t, "many", changes...))
	if _, err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	r := c.push(t, k.set(t, "after", block("after.example")))
	e.reaches(t, r.Version)
	e.stop()
	damageSnapshot(t, filepath.Join(dir, "e"), "n777")
	e = startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	waitFor(t, "the snapshot to be repaired", func() bool { return judge(t, e.Set().View(), "n777.example") == blocklist.BlockedBy })
	wantVerdict(t, e.Set().View(), "after.example", blocklist.BlockedBy)
	r = c.push(t, k.set(t, "last", block("last.example")))
	e.reaches(t, r.Version)
	e.stop()
	e = startEdge(t, k, filepath.Join(dir, "e"), offline{}, journal.Node{ID: "e"})
	for _, name := range []string{"n777.example", "after.example", "last.example"} {
		wantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
}
