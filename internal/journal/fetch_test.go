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
)

// list publishes the names of a list as a snapshot, and waits until the snapshot is in force at control.
func (c *control) list(t *testing.T, names ...string) journal.Receipt {
	t.Helper()
	r, err := c.PublishSnapshot(t.Context(), journal.SnapshotDraft{By: "lists", Compile: func(w io.Writer, st *journal.State) error {
		b := blocklist.NewBuilder()
		for _, n := range names {
			name, err := blocklist.AppendName(nil, n)
			if err == nil {
				err = b.Add(blocklist.Listing{Name: name, Scope: blocklist.Subtree})
			}
			if err != nil {
				return err
			}
		}
		others := st.View().Input().Only(func(source string) bool { return source != "a list" })
		return blocklist.Compile(w, blocklist.Info{Version: st.Version}, b.Input(blocklist.Source{Name: "a list"}), others)
	}})
	if err == nil {
		err = c.Follower().Wait(t.Context(), r.Version)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// compact publishes the state as a snapshot.
func (c *control) compact(t *testing.T) journal.Receipt {
	t.Helper()
	r, err := c.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// snapshotOf returns the record of a version and the snapshot that it announces.
func (c *control) snapshotOf(t *testing.T, version uint64) ([]byte, *journal.Snapshot) {
	t.Helper()
	data, err := c.Record(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := journal.ReadRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	return data, r.Snapshot
}

// deleteObjects deletes a snapshot's objects, as control does an hour after the next snapshot.
func (c *control) deleteObjects(t *testing.T, version uint64) {
	t.Helper()
	_, s := c.snapshotOf(t, version)
	for _, name := range s.Names() {
		if err := c.Stream.DeleteObject(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

// controlWithStoppedEdge returns a control in dir. A stopped edge in the folder e has everything in force that was published so far.
func controlWithStoppedEdge(t *testing.T, k *keys, dir string) *control {
	t.Helper()
	c := startControl(t, k, dir, nil)
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	e.reaches(t, c.State().Version)
	e.stop()
	return c
}

// TestEdgeSkipsDeletedSnapshot checks that an edge skips a snapshot whose object was deleted, because the next snapshot also contains its names.
func TestEdgeSkipsDeletedSnapshot(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := controlWithStoppedEdge(t, k, dir)
	load := c.list(t, "listed.example")
	c.compact(t)
	c.deleteObjects(t, load.Version)
	r := c.push(t, k.set(t, "after", block("after.example")))
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	e.reaches(t, r.Version)
	for _, name := range []string{"listed.example", "after.example"} {
		wantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
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
			k, dir := newKeys(t), t.TempDir()
			c := startControl(t, k, dir, nil)
			old := c.list(t, "n777.example", "n778.example")
			e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
			e.reaches(t, old.Version)
			if before {
				e.reaches(t, c.compact(t).Version)
			}
			e.reaches(t, c.push(t, k.set(t, "since", block("since.example"))).Version)
			e.stop()
			c.deleteObjects(t, old.Version)
			damageSnapshot(t, filepath.Join(dir, "e"), "n777")
			e = startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
			if !before {
				waitFor(t, "the damage to be detected", func() bool { return e.Health().Problem != "" })
				c.compact(t)
			}
			waitFor(t, "another snapshot", func() bool { return judge(t, e.Set().View(), "n777.example") == blocklist.BlockedBy })
			wantVerdict(t, e.Set().View(), "since.example", blocklist.BlockedBy)
			load := c.list(t, "n777.example", "new.example")
			e.reaches(t, load.Version)
			wantVerdict(t, e.Set().View(), "new.example", blocklist.BlockedBy)
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
	k, dir := newKeys(t), t.TempDir()
	c := controlWithStoppedEdge(t, k, dir)
	load := c.list(t, "listed.example")
	same := c.compact(t)
	r := c.push(t, k.set(t, "after", block("after.example")))
	data, s := c.snapshotOf(t, load.Version)
	full := filepath.Join(dir, "e", fmt.Sprintf("tail-%d.new", same.Version)) // makes writing the state fail
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	source := &gatedSource{Source: fromStream(c, "e"), record: journal.SequencedRecord{Sequence: load.Sequence, Data: data},
		gates: map[string]chan struct{}{s.Names()[0]: make(chan struct{})}}
	e := startEdge(t, k, filepath.Join(dir, "e"), source, journal.Node{ID: "e"})
	waitFor(t, "the jump to fail", func() bool { return strings.Contains(e.Health().Problem, filepath.Base(full)) })
	if v := e.InForce(); v >= load.Version {
		t.Errorf("version %d is reported as in force, but the snapshot of version %d was not fetched", v, load.Version)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	e.reaches(t, r.Version)
	for _, name := range []string{"listed.example", "after.example"} {
		wantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
}

// TestJumpDuringSnapshotFetch checks that a list's snapshot can be put in force while a jump to a newer snapshot fetches that one, and that both succeed.
func TestJumpDuringSnapshotFetch(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := controlWithStoppedEdge(t, k, dir)
	load := c.list(t, "listed.example")
	next := c.large(t, k, "large", func() { c.push(t, k.set(t, "since", block("since.example"))) }, block("large.example"))
	data, one := c.snapshotOf(t, load.Version)
	_, two := c.snapshotOf(t, next.Version)
	loaded, overlay := one.Names()[0], two.Names()[1]
	source := &gatedSource{Source: fromStream(c, "e"), record: journal.SequencedRecord{Sequence: load.Sequence, Data: data}, asked: make(chan string, 100),
		gates: map[string]chan struct{}{loaded: make(chan struct{}), overlay: make(chan struct{})}}
	e := startEdge(t, k, filepath.Join(dir, "e"), source, journal.Node{ID: "e"})
	times := map[string]int{}
	for name := ""; name != overlay; times[name]++ { // the jump fetched its snapshot
		name = <-source.asked
	}
	close(source.gates[loaded])
	waitFor(t, "the list's snapshot", func() bool { return e.InForce() == load.Version })
	close(source.gates[overlay])
	e.reaches(t, next.Version)
	for _, name := range []string{"listed.example", "large.example", "since.example"} {
		wantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
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
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	old, err := c.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	e.reaches(t, c.push(t, k.set(t, "one", block("one.example"))).Version)
	e.stop()
	c.stop()
	c = startControl(t, k, dir, func(cfg *journal.ControlConfig) { cfg.NewEpoch = true })
	first, err := c.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	source := &tornMirror{Source: offline{}, record: journal.SequencedRecord{Data: first.Data}, snapshot: journal.SequencedRecord{Data: old.Data}}
	e = startEdge(t, k, filepath.Join(dir, "e"), source, journal.Node{ID: "e"})
	waitFor(t, "a problem", func() bool { return e.Health().Problem != "" })
	e.stop()
	if n := source.asked.Load(); n > 10 { // only the first request is repeated at once
		t.Errorf("the edge requested the snapshot %d times, want at most 10", n)
	}
}

// TestRecoverRefusesCopyWithoutSnapshot checks that control does not recover the record of a snapshot that the edge had not fetched, because no node could put
// this record in force.
func TestRecoverRefusesCopyWithoutSnapshot(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, filepath.Join(dir, "c"), nil)
	source := fromStream(c, "e")
	e := startEdge(t, k, filepath.Join(dir, "e"), source, journal.Node{ID: "e"})
	e.reaches(t, c.State().Version)
	e.stop()
	c.stop()
	copyTree(t, filepath.Join(dir, "c"), filepath.Join(dir, "backup"))
	c = startControl(t, k, filepath.Join(dir, "c"), nil)
	e = startEdge(t, k, filepath.Join(dir, "e"), slowSource{fromStream(c, "e"), make(chan struct{})}, journal.Node{ID: "e"})
	load := c.list(t, "listed.example")
	waitFor(t, "the record", func() bool { return e.State().Version == load.Version })
	e.stop()
	_, s := c.snapshotOf(t, load.Version)
	object := s.Names()[0]
	o, err := c.Object(t.Context(), object)
	if err != nil {
		t.Fatal(err)
	}
	lacking, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	c.stop()
	recovering := func(cfg *journal.ControlConfig) { cfg.Recover = filepath.Join(dir, "e") }

	backup, stop := openControlIn(t, k, filepath.Join(dir, "backup"), recovering)
	if err := backup.Run(t.Context(), func() {}); err == nil || !strings.Contains(err.Error(), object) {
		t.Errorf("recover from a copy without object %s: error %v", object, err)
	}
	stop()
	if err := os.WriteFile(filepath.Join(dir, "e", object), lacking, 0o600); err != nil {
		t.Fatal(err)
	}
	c = startControl(t, k, filepath.Join(dir, "backup"), recovering)
	if err := c.Follower().Wait(t.Context(), load.Version); err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, c.State().View(), "listed.example", blocklist.BlockedBy)
}

// TestRepairedSnapshotReportsWholeView checks that names which a damaged snapshot did not block are blocked again after its repair, and that the effect reports
// a change of the whole view.
func TestRepairedSnapshotReportsWholeView(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	old := c.list(t, "n777.example", "n778.example")
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	e.reaches(t, old.Version)
	e.reaches(t, c.compact(t).Version)
	e.stop()
	c.deleteObjects(t, old.Version)
	damageSnapshot(t, filepath.Join(dir, "e"), "n777")
	f, err := journal.NewFollower(journal.FollowerConfig{
		Dir: filepath.Join(dir, "e"), Source: fromStream(c, "e"), Trust: k.trust(), Node: journal.Node{ID: "e"}, Log: logs(t),
		Changed: func(before, after *blocklist.View, e journal.Effect) {
			if judge(t, before, "n777.example") != judge(t, after, "n777.example") && !e.All {
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
	waitFor(t, "the listed name", func() bool { return judge(t, f.Set().View(), "n777.example") == blocklist.BlockedBy })
}
