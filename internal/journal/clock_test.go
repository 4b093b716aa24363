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

// TestNothingIsSignedAfterClockLeap lets control's clock leap a month ahead while control runs, and back.
func TestNothingIsSignedAfterClockLeap(t *testing.T) {
	k := newKeys(t)
	c := startControl(t, k, t.TempDir(), nil)
	r := c.push(t, k.set(t, "before", block("before.example")))
	c.SetWall(func() time.Time { return time.Now().Add(30 * 24 * time.Hour) })
	_, err := c.Publish(t.Context(), journal.Draft{Kind: journal.RecordChanges, By: "desk", Body: k.set(t, "ahead", block("ahead.example"))})
	if err == nil || errors.Is(err, journal.ErrRefused) || !strings.Contains(err.Error(), "clock") { // a repeated push may succeed
		t.Errorf("push with the clock a month ahead: error %v, want one about the clock", err)
	}
	c.SetWall(nil)
	if after := c.push(t, k.set(t, "ahead", block("ahead.example"))); after.Version != r.Version+1 {
		t.Errorf("version %d after %d", after.Version, r.Version)
	}
}

// TestNewEpochCorrectsJournalAheadOfClock lets a journal's time get a month ahead. A new epoch begins at the correct time: edges follow it, and refuse records
// of the epoch before.
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
	for i := range 18 { // in steps that are too small to be detected
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
	if err := e.FeedHeartbeat(c.Beat(t.Context(), 0)); err == nil { // its time is before the last heartbeat's
		t.Error("the epoch's heartbeat was ignored")
	}
	if at := time.UnixMilli(c.State().Time); time.Until(at) > time.Hour {
		t.Errorf("the epoch begins at %v", at)
	}
	r = c.push(t, k.set(t, "right", block("right.example")))
	for _, e := range edges() {
		e.reaches(t, r.Version)
		wantVerdict(t, e.Set().View(), "right.example", blocklist.BlockedBy)
		if err := e.Feed(journal.SequencedRecord{Data: last}); !errors.Is(err, journal.ErrRollback) {
			t.Errorf("record of the previous epoch: error %v", err)
		}
		newest := e.Health().Newest
		if err := e.FeedHeartbeat(beat); err != nil || e.Health().Newest < newest {
			t.Errorf("heartbeat of the previous epoch: error %v, version %d", err, e.Health().Newest)
		}
	}
}
