package publish_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
)

func blockFile(dir, stream string) string {
	return filepath.Join(dir, "nats", "jetstream", "$G", "streams", stream, "msgs", "1.blk")
}

// damagedJournal is a stopped control whose journal lost the record of "n4.example", one of n0 to n9.
type damagedJournal struct {
	keys      *journaltest.Keys
	dir, copy string // folders of control, and of an edge that has everything in force
	names     []string
	lost      uint64
	stopped   string // folder of an edge that has n0 to n2 in force
}

func damageJournal(t *testing.T, lose ...string) *damagedJournal {
	t.Helper()
	k, root := journaltest.NewKeys(t), t.TempDir()
	d := &damagedJournal{keys: k, dir: filepath.Join(root, "c"), copy: filepath.Join(root, "copy"), stopped: filepath.Join(root, "away")}
	c := journaltest.StartControl(t, k, d.dir, nil)
	near := journaltest.StartEdge(t, k, d.copy, journaltest.FromStream(c, "near"), journal.Node{ID: "near"})
	away := journaltest.StartEdge(t, k, d.stopped, journaltest.FromStream(c, "away"), journal.Node{ID: "away"})
	for i := range 10 {
		name := fmt.Sprintf("n%d.example", i)
		r := c.Push(t, k.ChangeSet(t, fmt.Sprint("push", i), journaltest.Block(name)))
		if i == 2 {
			away.Reaches(t, r.Version)
			away.Stop()
		}
		if name == lose[0] {
			d.lost = r.Version
		}
		near.Reaches(t, r.Version)
		d.names = append(d.names, name)
	}
	near.Stop()
	c.Stop()
	for _, name := range lose {
		journaltest.FlipBit(t, blockFile(d.dir, "REMPART_JOURNAL"), name)
	}
	return d
}

// reachesAll checks that the stopped edge, and new edges over NATS and HTTP, block the names and receive a new push.
func (d *damagedJournal) reachesAll(t *testing.T, c *journaltest.Control, names ...string) {
	t.Helper()
	r := c.Push(t, d.keys.ChangeSet(t, "fresh", journaltest.Block("fresh.example")))
	for id, e := range map[string]*journaltest.Edge{
		"away":     journaltest.StartEdge(t, d.keys, d.stopped, journaltest.FromStream(c, "away"), journal.Node{ID: "away"}),
		"new":      journaltest.StartEdge(t, d.keys, t.TempDir(), journaltest.FromStream(c, "new"), journal.Node{ID: "new"}),
		"new-http": journaltest.StartEdge(t, d.keys, t.TempDir(), journaltest.OverHTTP(t, c), journal.Node{ID: "new-http"}),
	} {
		e.Reaches(t, r.Version)
		for _, name := range append(names, "fresh.example") {
			if got := journaltest.Judge(t, e.Set().View(), name); got != blocklist.BlockedBy {
				t.Errorf("edge %s: %s: %v", id, name, got)
			}
		}
		e.Stop()
	}
}

func TestControlRepairsLostRecord(t *testing.T) {
	for _, lost := range []string{"n1.example", "n4.example", "n9.example"} {
		t.Run(lost, func(t *testing.T) {
			d := damageJournal(t, lost)
			c := journaltest.StartControl(t, d.keys, d.dir, nil)
			defer c.Stop()
			if err := c.Damaged(); err != nil {
				t.Errorf("after the repair: %v", err)
			}
			if c.Repairs() != 1 || c.State().Epoch != 1 {
				t.Errorf("%d repairs, epoch %d", c.Repairs(), c.State().Epoch)
			}
			if _, err := c.Record(t.Context(), d.lost); !errors.Is(err, stream.ErrLost) {
				t.Errorf("the record is not reported as lost: %v", err)
			}
			d.reachesAll(t, c, d.names...)
			n := 0
			if err := c.Each(t.Context(), func(*journal.Record, []byte) error { n++; return nil }); err != nil || n < 10 {
				t.Errorf("history: %d records, %v", n, err)
			}
			if _, err := c.Undo(t.Context(), "push7"); lost != "n7.example" && err != nil {
				t.Errorf("undo: %v", err)
			}
		})
	}
}

// TestHashOfLostRecordIsKnown checks that control knows the hash of a lost record from the next record, so that it can check a node's report of that version.
func TestHashOfLostRecordIsKnown(t *testing.T) {
	d := damageJournal(t, "n4.example")
	c := journaltest.StartControl(t, d.keys, d.dir, nil)
	defer c.Stop()
	hash, err := c.HashAt(t.Context(), d.lost)
	next, err2 := c.Record(t.Context(), d.lost+1)
	if err != nil || err2 != nil {
		t.Fatalf("reading the lost record and the next one: %v, %v", err, err2)
	}
	if r, _, _ := journal.ReadRecord(next); r.Previous != hash {
		t.Errorf("hash %s, want %s", hash, r.Previous)
	}
}

func TestScrubRepairsInBackground(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, func(cfg *publish.Config) { cfg.ScrubInterval = 50 * time.Millisecond })
	defer c.Stop()
	c.Push(t, k.ChangeSet(t, "one", journaltest.Block("one.example")))
	newest, err := c.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := journal.ReadRecord(newest.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stream.DeleteObject(t.Context(), r.Snapshot.Names()[0]); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); c.Repairs() == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the lost object was not detected")
		}
	}
	e := journaltest.StartEdge(t, k, t.TempDir(), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, c.State().Version)
	journaltest.WantVerdict(t, e.Set().View(), "one.example", blocklist.BlockedBy)
}

// deleteState deletes control's own state, so that only the journal is left.
func (d *damagedJournal) deleteState(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(d.dir, "state")); err != nil {
		t.Fatal(err)
	}
}

func TestErrorWithoutStateNamesRecoverAndNewEpoch(t *testing.T) {
	d := damageJournal(t, "n4.example")
	d.deleteState(t)
	s, err := stream.Open(t.Context(), stream.Config{Dir: filepath.Join(d.dir, "nats"), Log: journaltest.Logs(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := publish.New(publish.Config{Stream: s, Key: d.keys.Control, Ring: d.keys.Sealed, Trust: d.keys.Trust(), Dir: filepath.Join(d.dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Start(t.Context())
	if !errors.Is(err, publish.ErrDamaged) || !strings.Contains(err.Error(), "--recover") || !strings.Contains(err.Error(), "--new-epoch") {
		t.Errorf("start: error %v, want ErrDamaged with advice", err)
	}
}

func TestRecoverReplacesLostRecord(t *testing.T) {
	d := damageJournal(t, "n4.example")
	d.deleteState(t)
	c := journaltest.StartControl(t, d.keys, d.dir, func(cfg *publish.Config) { cfg.Recover = d.copy })
	defer c.Stop()
	if c.State().Epoch != 1 {
		t.Errorf("epoch %d", c.State().Epoch)
	}
	d.reachesAll(t, c, d.names...)
}

func TestNewEpochContinuesWithoutLostRecord(t *testing.T) {
	d := damageJournal(t, "n4.example", "n5.example")
	d.deleteState(t)
	c := journaltest.StartControl(t, d.keys, d.dir, func(cfg *publish.Config) { cfg.NewEpoch = true })
	defer c.Stop()
	if c.State().Epoch != 2 {
		t.Errorf("epoch %d", c.State().Epoch)
	}
	d.reachesAll(t, c, "n0.example", "n3.example", "n6.example", "n9.example")
}

func TestNothingIsPublishedWhileDamaged(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	defer c.Stop()
	c.SetDamage(&publish.Damage{Records: 1, Sequences: []uint64{2}})
	_, err := c.Publish(t.Context(), publish.Draft{Kind: journal.RecordChanges, By: "desk", Body: k.ChangeSet(t, "one", journaltest.Block("one.example"))})
	if !errors.Is(err, publish.ErrDamaged) {
		t.Errorf("a push while damaged: %v", err)
	}
}

// TestRecoverWithoutAnyWholeSnapshot checks that control recovers its state from an edge's copy if its own snapshot and the journal's copy of it are damaged.
func TestRecoverWithoutAnyWholeSnapshot(t *testing.T) {
	for _, how := range []string{"recover", "new epoch"} {
		t.Run(how, func(t *testing.T) {
			d := damageJournal(t, "n4.example")
			d.deleteState(t)
			c := journaltest.StartControl(t, d.keys, d.dir, func(cfg *publish.Config) { cfg.Recover = d.copy })
			newest, err := c.Newest(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r, _, err := journal.ReadRecord(newest.Data)
			if err != nil {
				t.Fatal(err)
			}
			latest := t.TempDir()
			e := journaltest.StartEdge(t, d.keys, latest, journaltest.FromStream(c, "latest"), journal.Node{ID: "latest"})
			e.Reaches(t, c.State().Version)
			e.Stop()
			pushed := c.Push(t, d.keys.ChangeSet(t, "late", journaltest.Block("late.example"))).Version
			if err := c.Stream.DeleteObject(t.Context(), r.Snapshot.Names()[0]); err != nil {
				t.Fatal(err)
			}
			c.Stop()
			d.deleteState(t)
			c = journaltest.StartControl(t, d.keys, d.dir, func(cfg *publish.Config) {
				if cfg.NewEpoch = how == "new epoch"; !cfg.NewEpoch {
					cfg.Recover = latest
				}
			})
			defer c.Stop()
			if c.State().Version <= pushed {
				t.Errorf("version %d after %d", c.State().Version, pushed)
			}
			names := []string{"late.example"}
			if how == "recover" {
				names = append(names, d.names...)
			}
			d.reachesAll(t, c, names...)
		})
	}
}
