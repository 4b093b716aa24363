package journal_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
)

// TestNothingIsSignedAfterClockLeap checks that control publishes nothing while its clock is a month ahead, and publishes again after the clock is corrected.
func TestNothingIsSignedAfterClockLeap(t *testing.T) {
	k := newKeys(t)
	c := startControl(t, k, t.TempDir(), nil)
	r := c.push(t, k.set(t, "before", block("before.example")))
	c.SetWall(func() time.Time { return time.Now().Add(30 * 24 * time.Hour) })
	_, err := c.Publish(t.Context(), journal.Draft{Kind: journal.RecordChanges, By: "desk", Body: k.set(t, "ahead", block("ahead.example"))})
	if err == nil || errors.Is(err, journal.ErrRefused) || !strings.Contains(err.Error(), "clock") { // not ErrRefused, because a repeated push may succeed
		t.Errorf("push with the clock a month ahead: error %v, want one about the clock", err)
	}
	c.SetWall(nil)
	if after := c.push(t, k.set(t, "ahead", block("ahead.example"))); after.Version != r.Version+1 {
		t.Errorf("version %d after %d", after.Version, r.Version)
	}
}

// TestNewEpochCorrectsJournalAheadOfClock checks that a new epoch corrects a journal whose time is a month ahead: the epoch begins at the correct time, and
// edges follow it and refuse records of the previous epoch.
func TestNewEpochCorrectsJournalAheadOfClock(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, filepath.Join(dir, "c"), nil)
	edges := func() (all []*edge) {
		return []*edge{
			startEdge(t, k, filepath.Join(dir, "stream"), fromStream(c, "stream"), journal.Node{ID: "stream"}),
			startEdge(t, k, filepath.Join(dir, "http"), overHTTP(t, c), journal.Node{ID: "http"}),
		}
	}
	begun := edges()
	var r journal.Receipt
	for i := range 18 { // the clock moves in steps that are too small to be detected
		c.SetWall(func() time.Time { return time.Now().Add(time.Duration(i+1) * 40 * time.Hour) })
		r = c.publish(t, journal.Draft{Kind: journal.RecordRenew})
	}
	last, err := c.Record(t.Context(), r.Version)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range begun {
		e.reaches(t, r.Version)
		e.stop()
	}
	c.stop()
	c = startControl(t, k, filepath.Join(dir, "c"), nil)
	_, err = c.Publish(t.Context(), journal.Draft{Kind: journal.RecordChanges, By: "desk", Body: k.set(t, "late", block("late.example"))})
	if !errors.Is(err, journal.ErrRefused) || !strings.Contains(err.Error(), "--new-epoch") {
		t.Errorf("push with the clock a month behind the journal: error %v", err)
	}
	e := startEdge(t, k, filepath.Join(dir, "stream"), fromStream(c, "stream"), journal.Node{ID: "stream"}) // follows the beginning of the epoch
	waitFor(t, "a heartbeat", func() bool { return e.Health().Newest == r.Version })
	e.stop()
	beat := c.Beat(t.Context(), 0)
	c.stop()

	c = startControl(t, k, filepath.Join(dir, "c"), func(cfg *journal.ControlConfig) { cfg.NewEpoch = true })
	waitFor(t, "a heartbeat", func() bool { return c.Follower().Health().Newest > r.Version })
	if err := e.FeedHeartbeat(c.Beat(t.Context(), 0)); err == nil { // must announce the epoch, although its time is before that of the last heartbeat
		t.Error("the edge ignored the heartbeat of the new epoch")
	}
	if at := time.UnixMilli(c.State().Time); time.Until(at) > time.Hour {
		t.Errorf("the epoch begins at %v, want the correct time", at)
	}
	r = c.push(t, k.set(t, "right", block("right.example")))
	for _, e := range edges() {
		e.reaches(t, r.Version)
		wantVerdict(t, e.Set().View(), "right.example", blocklist.BlockedBy)
		if err := e.Feed(journal.SequencedRecord{Data: last}); !errors.Is(err, journal.ErrRollback) {
			t.Errorf("record of the previous epoch: error %v, want ErrRollback", err)
		}
		newest := e.Health().Newest
		if err := e.FeedHeartbeat(beat); err != nil || e.Health().Newest < newest {
			t.Errorf("heartbeat of the previous epoch: error %v, version %d", err, e.Health().Newest)
		}
	}
}
