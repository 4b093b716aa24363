package journal_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
)

// restored is a control that was restored from a backup. An edge has the later change sets "two" and "three", which the backup lacks.
type restored struct {
	keys       *keys
	backup, at string // folders: of the restored control, and of the edge
	lost       journal.Receipt
}

func restoreOlder(t *testing.T) *restored {
	t.Helper()
	k, dir := newKeys(t), t.TempDir()
	r := &restored{keys: k, backup: filepath.Join(dir, "backup"), at: filepath.Join(dir, "e")}
	c := startControl(t, k, filepath.Join(dir, "c"), nil)
	e := startEdge(t, k, r.at, fromStream(c, "e"), journal.Node{ID: "e"})
	e.reaches(t, c.push(t, k.set(t, "one", block("one.example"))).Version)
	c.stop()
	copyTree(t, filepath.Join(dir, "c"), r.backup)
	c = startControl(t, k, filepath.Join(dir, "c"), nil)
	e.stop()
	e = startEdge(t, k, r.at, fromStream(c, "e"), journal.Node{ID: "e"})
	for _, id := range []string{"two", "three"} {
		r.lost = c.push(t, k.set(t, id, block(id+".example")))
	}
	e.reaches(t, r.lost.Version)
	e.stop()
	c.stop()
	return r
}

// blocksAll checks that control and an edge that had the lost change sets agree, and block all names.
func (r *restored) blocksAll(t *testing.T, c *control, names ...string) {
	t.Helper()
	e := startEdge(t, r.keys, r.at, fromStream(c, "e"), journal.Node{ID: "e"})
	after := c.push(t, r.keys.set(t, "after", block("after.example")))
	e.reaches(t, after.Version)
	for _, name := range append(names, "after.example") {
		wantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
		wantVerdict(t, c.State().View(), name, blocklist.BlockedBy)
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
	c := startControl(t, r.keys, r.backup, nil)
	blocked := []string{"one.example", "two.example", "three.example"}
	for _, id := range pushed {
		c.push(t, r.keys.set(t, id, block(id+".example")))
		blocked = append(blocked, id+".example")
	}
	c.stop()

	c = startControl(t, r.keys, r.backup, func(cfg *journal.ControlConfig) { cfg.Recover = r.at })
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
	c.stop()

	c = startControl(t, r.keys, r.backup, func(cfg *journal.ControlConfig) { cfg.Recover = r.at }) // the same setting must have no effect at the next start
	if st := c.State(); st.Epoch != 2 {
		t.Errorf("epoch %d after the same start again", st.Epoch)
	}
}

// TestRecoverIntoEpoch checks that control begins a new epoch with the state of a copy if this is requested, although the copy's records could be appended.
func TestRecoverIntoEpoch(t *testing.T) {
	r := restoreOlder(t)
	c := startControl(t, r.keys, r.backup, func(cfg *journal.ControlConfig) {
		cfg.Recover, cfg.NewEpoch, cfg.Above = r.at, true, func() uint64 { return r.lost.Version + 100 }
	})
	if st := c.State(); st.Epoch != 2 || st.Version != r.lost.Version+101 {
		t.Errorf("epoch %d, version %d; want 2, %d", st.Epoch, st.Version, r.lost.Version+101)
	}
	r.blocksAll(t, c, "one.example", "two.example", "three.example")
}

// TestNothingIsAppendedWhileRefused checks that no record is appended while ControlConfig.Refuse returns an error.
func TestNothingIsAppendedWhileRefused(t *testing.T) {
	var refuse error
	k := newKeys(t)
	c := startControl(t, k, t.TempDir(), func(cfg *journal.ControlConfig) { cfg.Refuse = func() error { return refuse } })
	before := c.State().Version
	refuse = journal.ErrOlder
	if _, err := c.Publish(t.Context(), journal.Draft{Kind: journal.RecordSuspend, By: "alice", Reason: "a test"}); err == nil {
		t.Error("a record was appended")
	}
	if _, err := c.Compact(t.Context()); err == nil {
		t.Error("a snapshot was announced")
	}
	if v := c.State().Version; v != before {
		t.Errorf("version %d, want %d", v, before)
	}
}

// TestReportNamesOnlyCurrentProblem checks that a node's report names a problem only while it lasts.
func TestReportNamesOnlyCurrentProblem(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, filepath.Join(dir, "c"), nil)
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e", Country: "FR", Operator: "isp"})
	e.reaches(t, c.push(t, k.set(t, "one", block("one.example"))).Version)
	waitFor(t, "a problem to be reported", func() bool { // a heartbeat that was on its way may end it at once
		e.SetProblem("the network is away")
		return e.Health().Problem != ""
	})
	if h := e.Health(); h.Country != "FR" || h.Operator != "isp" {
		t.Errorf("health %+v", h.Status)
	}
	waitFor(t, "the next heartbeat to end the problem", func() bool { return e.Health().Problem == "" })
}

// TestClockOffsetIgnoresDelays checks that delayed heartbeats do not change the estimate.
func TestClockOffsetIgnoresDelays(t *testing.T) {
	var o journal.ClockOffset
	if got := o.Estimate(); got != 0 {
		t.Errorf("%v before the first heartbeat", got)
	}
	for _, late := range []time.Duration{4 * time.Second, 200 * time.Millisecond, 3 * time.Second} {
		o.Add(time.Minute - late)
	}
	if got := o.Estimate(); got != time.Minute-200*time.Millisecond {
		t.Errorf("%v, want 59.8 s", got)
	}
	for range 32 {
		o.Add(-time.Second) // the clock was corrected
	}
	if got := o.Estimate(); got != -time.Second {
		t.Errorf("%v after the clock was set back, want -1 s", got)
	}
}
