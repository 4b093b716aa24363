package publish_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
)

// TestNothingIsSignedAfterClockLeap checks that control publishes nothing while its clock is a month ahead, and publishes again after the clock is corrected.
func TestNothingIsSignedAfterClockLeap(t *testing.T) {
	k := journaltest.NewKeys(t)
	c := journaltest.StartControl(t, k, t.TempDir(), nil)
	r := c.Push(t, k.ChangeSet(t, "before", journaltest.Block("before.example")))
	c.SetWall(func() time.Time { return time.Now().Add(30 * 24 * time.Hour) })
	_, err := c.Publish(t.Context(), publish.Draft{Kind: journal.RecordChanges, By: "desk", Body: k.ChangeSet(t, "ahead", journaltest.Block("ahead.example"))})
	if err == nil || errors.Is(err, publish.ErrRefused) || !strings.Contains(err.Error(), "clock") { // not ErrRefused, because a repeated push may succeed
		t.Errorf("push with the clock a month ahead: error %v, want one about the clock", err)
	}
	c.SetWall(nil)
	if after := c.Push(t, k.ChangeSet(t, "ahead", journaltest.Block("ahead.example"))); after.Version != r.Version+1 {
		t.Errorf("version %d after %d", after.Version, r.Version)
	}
}

// TestNewEpochCorrectsJournalAheadOfClock checks that a new epoch corrects a journal whose time is a month ahead: the epoch begins at the correct time, and
// edges follow it and refuse records of the previous epoch.
func TestNewEpochCorrectsJournalAheadOfClock(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)
	edges := func() (all []*journaltest.Edge) {
		return []*journaltest.Edge{
			journaltest.StartEdge(t, k, filepath.Join(dir, "stream"), journaltest.FromStream(c, "stream"), journal.Node{ID: "stream"}),
			journaltest.StartEdge(t, k, filepath.Join(dir, "http"), journaltest.OverHTTP(t, c), journal.Node{ID: "http"}),
		}
	}
	begun := edges()
	var r publish.Receipt
	for i := range 18 { // the clock moves in steps that are too small to be detected
		c.SetWall(func() time.Time { return time.Now().Add(time.Duration(i+1) * 40 * time.Hour) })
		r = c.MustPublish(t, publish.Draft{Kind: journal.RecordRenew})
	}
	last, err := c.Record(t.Context(), r.Version)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range begun {
		e.Reaches(t, r.Version)
		e.Stop()
	}
	c.Stop()
	c = journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)
	_, err = c.Publish(t.Context(), publish.Draft{Kind: journal.RecordChanges, By: "desk", Body: k.ChangeSet(t, "late", journaltest.Block("late.example"))})
	if !errors.Is(err, publish.ErrRefused) || !strings.Contains(err.Error(), "--new-epoch") {
		t.Errorf("push with the clock a month behind the journal: error %v", err)
	}
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "stream"), journaltest.FromStream(c, "stream"), journal.Node{ID: "stream"}) // follows the beginning of the epoch
	journaltest.WaitFor(t, "a heartbeat", func() bool { return e.Health().Newest == r.Version })
	e.Stop()
	beat := c.Beat(t.Context(), 0)
	c.Stop()

	c = journaltest.StartControl(t, k, filepath.Join(dir, "c"), func(cfg *publish.Config) { cfg.NewEpoch = true })
	journaltest.WaitFor(t, "a heartbeat", func() bool { return c.Follower().Health().Newest > r.Version })
	if err := e.Tap.Consumer(t).Heartbeat(c.Beat(t.Context(), 0)); err == nil { // must announce the epoch, although its time is before that of the last heartbeat
		t.Error("the edge ignored the heartbeat of the new epoch")
	}
	if at := time.UnixMilli(c.State().Time); time.Until(at) > time.Hour {
		t.Errorf("the epoch begins at %v, want the correct time", at)
	}
	r = c.Push(t, k.ChangeSet(t, "right", journaltest.Block("right.example")))
	for _, e := range edges() {
		e.Reaches(t, r.Version)
		journaltest.WantVerdict(t, e.Set().View(), "right.example", blocklist.BlockedBy)
		if err := e.Tap.Consumer(t).Record(journal.SequencedRecord{Data: last}); !errors.Is(err, journal.ErrRollback) {
			t.Errorf("record of the previous epoch: error %v, want ErrRollback", err)
		}
		newest := e.Health().Newest
		if err := e.Tap.Consumer(t).Heartbeat(beat); err != nil || e.Health().Newest < newest {
			t.Errorf("heartbeat of the previous epoch: error %v, version %d", err, e.Health().Newest)
		}
	}
}
