package journal_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
)

// TestEdgeSkipsDeletedSnapshot checks that an edge skips a snapshot whose object was deleted, because the next snapshot also contains its names.
func TestEdgeSkipsDeletedSnapshot(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.ControlWithStoppedEdge(t, k, dir)
	load := c.PublishList(t, "listed.example")
	c.MustCompact(t)
	c.DeleteObjects(t, load.Version)
	r := c.Push(t, k.ChangeSet(t, "after", journaltest.Block("after.example")))
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, r.Version)
	for _, name := range []string{"listed.example", "after.example"} {
		journaltest.WantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
}

// damageSnapshot changes a name with the label in the only snapshot in an edge's folder.
func damageSnapshot(t *testing.T, dir string, label string) {
	t.Helper()
	snapshots, err := filepath.Glob(filepath.Join(dir, "*.snapshot"))
	if err != nil || len(snapshots) != 1 {
		t.Fatalf("snapshots %q, %v; want one", snapshots, err)
	}
	data, err := os.ReadFile(snapshots[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, append([]byte{byte(len(label))}, label...))
	if at < 0 {
		t.Fatal("the name is not in the snapshot")
	}
	data[at+1] ^= 1
	if err := os.WriteFile(snapshots[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedSnapshotIsReplacedByNewerOne checks that an edge whose snapshot is damaged, and is deleted at control, uses a newer snapshot that was published
// before or after the edge's start.
func TestDamagedSnapshotIsReplacedByNewerOne(t *testing.T) {
	for name, before := range map[string]bool{"the next is there": true, "the next comes later": false} {
		t.Run(name, func(t *testing.T) {
			k, dir := journaltest.NewKeys(t), t.TempDir()
			c := journaltest.StartControl(t, k, dir, nil)
			old := c.PublishList(t, "n777.example", "n778.example")
			e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
			e.Reaches(t, old.Version)
			if before {
				e.Reaches(t, c.MustCompact(t).Version)
			}
			e.Reaches(t, c.Push(t, k.ChangeSet(t, "since", journaltest.Block("since.example"))).Version)
			e.Stop()
			c.DeleteObjects(t, old.Version)
			damageSnapshot(t, filepath.Join(dir, "e"), "n777")
			e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
			if !before {
				journaltest.WaitFor(t, "the damage to be detected", func() bool { return e.Health().Problem != "" })
				c.MustCompact(t)
			}
			journaltest.WaitFor(t, "another snapshot", func() bool { return journaltest.Judge(t, e.Set().View(), "n777.example") == blocklist.BlockedBy })
			journaltest.WantVerdict(t, e.Set().View(), "since.example", blocklist.BlockedBy)
			load := c.PublishList(t, "n777.example", "new.example")
			e.Reaches(t, load.Version)
			journaltest.WantVerdict(t, e.Set().View(), "new.example", blocklist.BlockedBy)
		})
	}
}

// gatedSource is a source with one record, followed by a gap. Each object waits until its gate is closed.
type gatedSource struct {
	journal.Source
	record journal.SequencedRecord
	given  atomic.Bool
	gates  map[string]chan struct{} // by object name; closing a gate releases the object
	asked  chan string              // receives the names of requested objects; may be nil
}

func (p *gatedSource) Follow(ctx context.Context, after journal.Position, to journal.Consumer) error {
	if p.given.Swap(true) {
		return p.Source.Follow(ctx, after, to)
	}
	if err := to.Record(p.record); err != nil {
		return err
	}
	return journal.ErrGap
}

func (p *gatedSource) Object(ctx context.Context, name string) (io.ReadCloser, error) {
	if p.asked != nil {
		p.asked <- name
	}
	if gate := p.gates[name]; gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return p.Source.Object(ctx, name)
}

// TestFailedJumpIsNotInForce checks that a version is not reported as in force if the jump to it failed because the disk could not be written, and that it is
// in force as soon as the disk can be written.
func TestFailedJumpIsNotInForce(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.ControlWithStoppedEdge(t, k, dir)
	load := c.PublishList(t, "listed.example")
	same := c.MustCompact(t)
	r := c.Push(t, k.ChangeSet(t, "after", journaltest.Block("after.example")))
	data, s := c.SnapshotOf(t, load.Version)
	full := filepath.Join(dir, "e", fmt.Sprintf("tail-%d.new", same.Version)) // makes writing the state fail
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	source := &gatedSource{Source: journaltest.FromStream(c, "e"), record: journal.SequencedRecord{Sequence: load.Sequence, Data: data},
		gates: map[string]chan struct{}{s.Names()[0]: make(chan struct{})}}
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), source, journal.Node{ID: "e"})
	journaltest.WaitFor(t, "the jump to fail", func() bool { return strings.Contains(e.Health().Problem, filepath.Base(full)) })
	if v := e.InForce(); v >= load.Version {
		t.Errorf("version %d is reported as in force, but the snapshot of version %d was not fetched", v, load.Version)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	e.Reaches(t, r.Version)
	for _, name := range []string{"listed.example", "after.example"} {
		journaltest.WantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
}

// TestJumpDuringSnapshotFetch checks that a list's snapshot can be put in force while a jump to a newer snapshot fetches that one, and that both succeed.
func TestJumpDuringSnapshotFetch(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.ControlWithStoppedEdge(t, k, dir)
	load := c.PublishList(t, "listed.example")
	next := c.PushLarge(t, k, "large", func() { c.Push(t, k.ChangeSet(t, "since", journaltest.Block("since.example"))) }, journaltest.Block("large.example"))
	data, one := c.SnapshotOf(t, load.Version)
	_, two := c.SnapshotOf(t, next.Version)
	loaded, overlay := one.Names()[0], two.Names()[1]
	source := &gatedSource{Source: journaltest.FromStream(c, "e"), record: journal.SequencedRecord{Sequence: load.Sequence, Data: data}, asked: make(chan string, 100),
		gates: map[string]chan struct{}{loaded: make(chan struct{}), overlay: make(chan struct{})}}
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), source, journal.Node{ID: "e"})
	times := map[string]int{}
	for name := ""; name != overlay; times[name]++ { // the jump fetched its snapshot
		name = <-source.asked
	}
	close(source.gates[loaded])
	journaltest.WaitFor(t, "the list's snapshot", func() bool { return e.InForce() == load.Version })
	close(source.gates[overlay])
	e.Reaches(t, next.Version)
	for _, name := range []string{"listed.example", "large.example", "since.example"} {
		journaltest.WantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
	for len(source.asked) > 0 {
		times[<-source.asked]++
	}
	for name, n := range times {
		if n != 1 {
			t.Errorf("%s was fetched %d times, want once", name, n)
		}
	}
}

// tornMirror is a mirror with the first record of a new epoch and the newest snapshot of the epoch before.
type tornMirror struct {
	journal.Source
	record, snapshot journal.SequencedRecord
	asked            atomic.Int64
}

func (s *tornMirror) Follow(_ context.Context, _ journal.Position, to journal.Consumer) error {
	s.asked.Add(1)
	return to.Record(s.record)
}

func (s *tornMirror) Newest(context.Context) (journal.SequencedRecord, error) { return s.snapshot, nil }

// TestEdgeWaitsForSnapshotOfEpoch checks that an edge waits between its requests for an epoch's snapshot that its source does not have.
func TestEdgeWaitsForSnapshotOfEpoch(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	old, err := c.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, c.Push(t, k.ChangeSet(t, "one", journaltest.Block("one.example"))).Version)
	e.Stop()
	c.Stop()
	c = journaltest.StartControl(t, k, dir, func(cfg *publish.Config) { cfg.NewEpoch = true })
	first, err := c.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	source := &tornMirror{Source: journaltest.Offline{}, record: journal.SequencedRecord{Data: first.Data}, snapshot: journal.SequencedRecord{Data: old.Data}}
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), source, journal.Node{ID: "e"})
	journaltest.WaitFor(t, "a problem", func() bool { return e.Health().Problem != "" })
	e.Stop()
	if n := source.asked.Load(); n > 10 { // only the first request is repeated at once
		t.Errorf("the edge requested the snapshot %d times, want at most 10", n)
	}
}

// TestRepairedSnapshotReportsWholeView checks that names which a damaged snapshot did not block are blocked again after its repair, and that the effect reports
// a change of the whole view.
func TestRepairedSnapshotReportsWholeView(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	old := c.PublishList(t, "n777.example", "n778.example")
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, old.Version)
	e.Reaches(t, c.MustCompact(t).Version)
	e.Stop()
	c.DeleteObjects(t, old.Version)
	damageSnapshot(t, filepath.Join(dir, "e"), "n777")
	f, err := journal.NewFollower(journal.FollowerConfig{
		Dir: filepath.Join(dir, "e"), Source: journaltest.FromStream(c, "e"), Trust: k.Trust(), Node: journal.Node{ID: "e"}, Log: journaltest.Logs(t),
		Changed: func(before, after *blocklist.View, e journal.Effect) {
			if journaltest.Judge(t, before, "n777.example") != journaltest.Judge(t, after, "n777.example") && !e.All {
				t.Errorf("effect %+v, want All", e)
			}
		},
	})
	if err == nil {
		err = f.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	dnstest.Running(t, f.Run)
	journaltest.WaitFor(t, "the listed name", func() bool { return journaltest.Judge(t, f.Set().View(), "n777.example") == blocklist.BlockedBy })
}

// TestDamagedSnapshotIsFetchedAgain checks that an edge fetches a snapshot again if it is damaged on the edge's disk, and that later changes stay in force.
func TestDamagedSnapshotIsFetchedAgain(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	var changes []journal.Change
	for i := range 2000 {
		changes = append(changes, journaltest.Block(fmt.Sprintf("n%d.example", i)))
	}
	c.Push(t, k.ChangeSet(t, "many", changes...))
	if _, err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	r := c.Push(t, k.ChangeSet(t, "after", journaltest.Block("after.example")))
	e.Reaches(t, r.Version)
	e.Stop()
	damageSnapshot(t, filepath.Join(dir, "e"), "n777")
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	journaltest.WaitFor(t, "the snapshot to be repaired", func() bool { return journaltest.Judge(t, e.Set().View(), "n777.example") == blocklist.BlockedBy })
	journaltest.WantVerdict(t, e.Set().View(), "after.example", blocklist.BlockedBy)
	r = c.Push(t, k.ChangeSet(t, "last", journaltest.Block("last.example")))
	e.Reaches(t, r.Version)
	e.Stop()
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.Offline{}, journal.Node{ID: "e"})
	for _, name := range []string{"n777.example", "after.example", "last.example"} {
		journaltest.WantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
}
