package publish_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
)

// restored is a control that was restored from a backup. An edge has the later change sets "two" and "three", which the backup lacks.
type restored struct {
	keys       *journaltest.Keys
	backup, at string // folders: of the restored control, and of the edge
	lost       publish.Receipt
}

func restoreOlder(t *testing.T) *restored {
	t.Helper()
	k, dir := journaltest.NewKeys(t), t.TempDir()
	r := &restored{keys: k, backup: filepath.Join(dir, "backup"), at: filepath.Join(dir, "e")}
	c := journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)
	e := journaltest.StartEdge(t, k, r.at, journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, c.Push(t, k.ChangeSet(t, "one", journaltest.Block("one.example"))).Version)
	c.Stop()
	journaltest.CopyTree(t, filepath.Join(dir, "c"), r.backup)
	c = journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)
	e.Stop()
	e = journaltest.StartEdge(t, k, r.at, journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	for _, id := range []string{"two", "three"} {
		r.lost = c.Push(t, k.ChangeSet(t, id, journaltest.Block(id+".example")))
	}
	e.Reaches(t, r.lost.Version)
	e.Stop()
	c.Stop()
	return r
}

// blocksAll checks that control and an edge that had the lost change sets agree, and block all names.
func (r *restored) blocksAll(t *testing.T, c *journaltest.Control, names ...string) {
	t.Helper()
	e := journaltest.StartEdge(t, r.keys, r.at, journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	after := c.Push(t, r.keys.ChangeSet(t, "after", journaltest.Block("after.example")))
	e.Reaches(t, after.Version)
	for _, name := range append(names, "after.example") {
		journaltest.WantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
		journaltest.WantVerdict(t, c.State().View(), name, blocklist.BlockedBy)
	}
	if h := e.Health(); h.Problem != "" {
		t.Errorf("the edge still has the problem %q", h.Problem)
	}
}

// TestRecoverAfterPush checks the recovery of a control that was restored from an older backup and received pushes afterwards. The pushes have the versions of
// the edge's records, so that a new epoch must begin with the changes of both.
func TestRecoverAfterPush(t *testing.T) {
	t.Run("fewer pushes than lost records", func(t *testing.T) { recoverAfter(t, "fork") })
	t.Run("as many pushes as lost records", func(t *testing.T) { recoverAfter(t, "fork", "fork2") })
	t.Run("more pushes than lost records", func(t *testing.T) { recoverAfter(t, "fork", "fork2", "fork3", "fork4") })
}

// recoverAfter pushes change sets with these IDs before it recovers. The first is "fork".
func recoverAfter(t *testing.T, pushed ...string) {
	r := restoreOlder(t)
	c := journaltest.StartControl(t, r.keys, r.backup, nil)
	blocked := []string{"one.example", "two.example", "three.example"}
	for _, id := range pushed {
		c.Push(t, r.keys.ChangeSet(t, id, journaltest.Block(id+".example")))
		blocked = append(blocked, id+".example")
	}
	c.Stop()

	c = journaltest.StartControl(t, r.keys, r.backup, func(cfg *publish.Config) { cfg.Recover = r.at })
	if st := c.State(); st.Epoch != 2 || st.Version <= r.lost.Version {
		t.Errorf("the journal continues with epoch %d, version %d; want a new epoch above version %d", st.Epoch, st.Version, r.lost.Version)
	}
	var ids []string
	for _, one := range c.Recovered() {
		if one.ChangeSet != nil {
			ids = append(ids, one.ChangeSet.ID)
		}
	}
	if got, want := strings.Join(ids, " "), "two three "+strings.Join(pushed, " "); got != want {
		t.Errorf("recovered change sets: %q, want %q", got, want)
	}
	r.blocksAll(t, c, blocked...)
	record, _, err := c.FindChangeSet(t.Context(), "fork")
	if err != nil || record.Epoch != 2 {
		t.Errorf("the set that was published again is found at %+v, %v", record, err)
	}
	undoing, err := c.Undo(t.Context(), "fork")
	if err != nil || undoing.SkippedCount != 0 {
		t.Errorf("undoing the set that was published again: %+v, %v", undoing, err)
	}
	for change := range undoing.Changes {
		if change.Do != journal.Withdraw || change.Name != "fork.example" {
			t.Errorf("the undo contains %+v", change)
		}
	}
	c.Stop()

	c = journaltest.StartControl(t, r.keys, r.backup, func(cfg *publish.Config) { cfg.Recover = r.at }) // the same setting must have no effect at the next start
	if st := c.State(); st.Epoch != 2 {
		t.Errorf("epoch %d after the same start again", st.Epoch)
	}
}

// TestRecoverIntoEpoch checks that control begins a new epoch with the state of a copy if this is requested, although the copy's records could be appended.
func TestRecoverIntoEpoch(t *testing.T) {
	r := restoreOlder(t)
	c := journaltest.StartControl(t, r.keys, r.backup, func(cfg *publish.Config) {
		cfg.Recover, cfg.NewEpoch, cfg.Above = r.at, true, func() uint64 { return r.lost.Version + 100 }
	})
	if st := c.State(); st.Epoch != 2 || st.Version != r.lost.Version+101 {
		t.Errorf("epoch %d, version %d; want 2, %d", st.Epoch, st.Version, r.lost.Version+101)
	}
	r.blocksAll(t, c, "one.example", "two.example", "three.example")
}

// TestNothingIsAppendedWhileRefused checks that no record is appended while Config.Refuse returns an error.
func TestNothingIsAppendedWhileRefused(t *testing.T) {
	var refuse error
	k := journaltest.NewKeys(t)
	c := journaltest.StartControl(t, k, t.TempDir(), func(cfg *publish.Config) { cfg.Refuse = func() error { return refuse } })
	before := c.State().Version
	refuse = publish.ErrOlder
	if _, err := c.Publish(t.Context(), publish.Draft{Kind: journal.RecordSuspend, By: "alice", Reason: "a test"}); err == nil {
		t.Error("a record was appended")
	}
	if _, err := c.Compact(t.Context()); err == nil {
		t.Error("a snapshot was announced")
	}
	if v := c.State().Version; v != before {
		t.Errorf("version %d, want %d", v, before)
	}
}

// TestRecoverRefusesCopyWithoutSnapshot checks that control does not recover the record of a snapshot that the edge had not fetched, because no node could put
// this record in force.
func TestRecoverRefusesCopyWithoutSnapshot(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)
	source := journaltest.FromStream(c, "e")
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), source, journal.Node{ID: "e"})
	e.Reaches(t, c.State().Version)
	e.Stop()
	c.Stop()
	journaltest.CopyTree(t, filepath.Join(dir, "c"), filepath.Join(dir, "backup"))
	c = journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.SlowSource{Source: journaltest.FromStream(c, "e"), Open: make(chan struct{})}, journal.Node{ID: "e"})
	load := c.PublishList(t, "listed.example")
	journaltest.WaitFor(t, "the record", func() bool { return e.State().Version == load.Version })
	e.Stop()
	_, s := c.SnapshotOf(t, load.Version)
	object := s.Names()[0]
	o, err := c.Object(t.Context(), object)
	if err != nil {
		t.Fatal(err)
	}
	lacking, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Stop()
	recovering := func(cfg *publish.Config) { cfg.Recover = filepath.Join(dir, "e") }

	backup, stop := journaltest.OpenControl(t, k, filepath.Join(dir, "backup"), recovering)
	if err := backup.Run(t.Context(), func() {}); err == nil || !strings.Contains(err.Error(), object) {
		t.Errorf("recover from a copy without object %s: error %v", object, err)
	}
	stop()
	if err := os.WriteFile(filepath.Join(dir, "e", object), lacking, 0o600); err != nil {
		t.Fatal(err)
	}
	c = journaltest.StartControl(t, k, filepath.Join(dir, "backup"), recovering)
	if err := c.Follower().Wait(t.Context(), load.Version); err != nil {
		t.Fatal(err)
	}
	journaltest.WantVerdict(t, c.State().View(), "listed.example", blocklist.BlockedBy)
}

// TestRecoverRefusesCopyThatLostRecords checks that control does not start from a copy that lost records which were in force in it: other servers have them, and
// their versions would be given out again. In a new epoch it starts.
func TestRecoverRefusesCopyThatLostRecords(t *testing.T) {
	for what, damage := range map[string]func(tail []byte) []byte{
		"cut in the middle": func(tail []byte) []byte { return tail[:len(tail)/2] },
		"empty":             func([]byte) []byte { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			r := restoreOlder(t)
			tails, err := filepath.Glob(filepath.Join(r.at, "tail-*"))
			if err != nil || len(tails) != 1 {
				t.Fatalf("files of records: %v, %v", tails, err)
			}
			tail, err := os.ReadFile(tails[0])
			if err == nil {
				err = os.WriteFile(tails[0], damage(tail), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			c, end := journaltest.OpenControl(t, r.keys, r.backup, func(cfg *publish.Config) { cfg.Recover = r.at })
			if err := c.Run(t.Context(), func() { t.Error("control is ready") }); err == nil || !strings.Contains(err.Error(), "--new-epoch") {
				t.Errorf("error %v, want one that names --new-epoch", err)
			}
			end()
			again := journaltest.StartControl(t, r.keys, r.backup, func(cfg *publish.Config) {
				cfg.Recover, cfg.NewEpoch, cfg.Above = r.at, true, func() uint64 { return r.lost.Version }
			})
			if v := again.State().Version; v <= r.lost.Version {
				t.Errorf("the epoch begins with version %d, want one above %d", v, r.lost.Version)
			}
		})
	}
}

// TestRecoverFromMissingFolder checks the error for a folder that does not exist.
func TestRecoverFromMissingFolder(t *testing.T) {
	_, err := journal.ReadFolder(filepath.Join(t.TempDir(), "missing"), nil, nil)
	if err == nil || strings.Contains(err.Error(), "%") {
		t.Errorf("error %v", err)
	}
}
