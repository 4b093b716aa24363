package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/signing"
)

// slowSource is a source whose objects wait until its channel is closed.
type slowSource struct {
	journal.Source
	let chan struct{}
}

func (s slowSource) Object(ctx context.Context, name string) (io.ReadCloser, error) {
	select {
	case <-s.let:
		return s.Source.Object(ctx, name)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestRecordsAfterLateSnapshotAreInForce checks that records after a snapshot, more than the edge keeps for it, are in force when the snapshot arrives, and are
// not reported as in force before.
func TestRecordsAfterLateSnapshotAreInForce(t *testing.T) {
	if testing.Short() {
		t.Skip("this test publishes thousands of records")
	}
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	source := slowSource{fromStream(c, "e"), make(chan struct{})}
	first := startEdge(t, k, filepath.Join(dir, "e"), source.Source, journal.Node{ID: "e"})
	first.reaches(t, c.State().Version)
	first.stop()
	e := startEdge(t, k, filepath.Join(dir, "e"), source, journal.Node{ID: "e"})
	whole := e.InForce()
	load := c.list(t, "listed.example")
	var last uint64
	for i := range 2100 {
		last = c.push(t, k.set(t, fmt.Sprint("set", i), block(fmt.Sprintf("n%d.example", i)))).Version
	}
	waitFor(t, "more records than may wait", func() bool { return strings.Contains(e.Health().Problem, "records wait for it") })
	if v := e.State().Version; v <= load.Version+1900 {
		t.Errorf("the last accepted record has version %d, and the snapshot version %d", v, load.Version)
	}
	if v := e.InForce(); v != whole {
		t.Errorf("version %d is reported as in force, but the snapshot of version %d was not fetched", v, load.Version)
	}
	wantVerdict(t, e.Set().View(), "n1.example", blocklist.BlockedBy) // pushed changes do not wait for the snapshot
	close(source.let)
	e.reaches(t, last)
	for _, name := range []string{"listed.example", "n0.example", "n2099.example"} {
		wantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
}

// large publishes a large change set, and calls meanwhile while its snapshot is compiled.
func (c *control) large(t *testing.T, k *keys, id string, meanwhile func(), changes ...journal.Change) journal.Receipt {
	t.Helper()
	set := &journal.ChangeSet{ID: id, Time: time.Now().Unix()}
	payload, err := journal.Encode(set, changes)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := signing.Unseal(signing.KindChanges, signing.Seal(signing.KindChanges, payload, k.author))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), id))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(payload); err != nil {
		t.Fatal(err)
	}
	o, err := c.PutChangeSet(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	l := &journal.LargeChangeSet{ChangeSet: *set, Count: len(changes), Object: o, Digest: sealed.Digest, Signatures: sealed.Signatures}
	r, err := c.PublishSnapshot(t.Context(), journal.SnapshotDraft{By: "desk", Changes: l, Compile: func(w io.Writer, st *journal.State) error {
		view, err := journal.Apply(st.View(), set, func(yield func(journal.Change, error) bool) {
			for _, ch := range changes {
				if !yield(ch, nil) {
					return
				}
			}
		})
		if err != nil {
			return err
		}
		meanwhile()
		return view.Compact(w, view.Info())
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLargeChangeSetOverridesScoped checks that a large change set overrides earlier scoped changes, as a small one does, and not those that were pushed while
// it was made.
func TestLargeChangeSetOverridesScoped(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	node := journal.Node{ID: "fr", Country: "FR"}
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "fr"), node)
	allow := func(name string) journal.Change {
		return journal.Change{Do: journal.Allow, Name: name, Countries: []string{"FR"}}
	}
	c.push(t, k.set(t, "country", allow("x.example"), allow("other.example")))
	payload, err := journal.Encode(&journal.ChangeSet{ID: "staged", Time: time.Now().Unix(), Stage: &journal.Stage{Share: 0.5, Seconds: 60}}, []journal.Change{block("y.example")})
	if err != nil {
		t.Fatal(err)
	}
	c.push(t, signing.Seal(signing.KindChanges, payload, k.author))
	r := c.large(t, k, "large", func() { c.push(t, k.set(t, "since", allow("z.example"))) },
		block("x.example"), journal.Change{Do: journal.Allow, Name: "y.example"}, block("z.example"))
	e.reaches(t, r.Version)
	late := startEdge(t, k, filepath.Join(dir, "late"), overHTTP(t, c), node)
	check := func(version uint64) {
		t.Helper()
		for _, e := range []*edge{e, late} {
			e.reaches(t, version)
			wantVerdict(t, e.Set().View(), "x.example", blocklist.BlockedBy)
			for _, name := range []string{"y.example", "z.example", "other.example"} {
				wantVerdict(t, e.Set().View(), name, blocklist.Allowed)
			}
		}
	}
	check(r.Version)
	r = c.publish(t, journal.Draft{Kind: journal.RecordAdvance, ChangeSetID: "staged"}) // none of its changes is left
	check(r.Version)
}

// TestAdvancedChangeOverridesScoped checks that a staged change, once advanced to all nodes, overrides an earlier change for one country, on running nodes and
// on new ones.
func TestAdvancedChangeOverridesScoped(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	node := journal.Node{ID: "fr", Country: "FR"}
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "fr"), node)
	c.push(t, k.set(t, "country", journal.Change{Do: journal.Block, Name: "x.example", Countries: []string{"FR"}}))
	payload, err := journal.Encode(&journal.ChangeSet{ID: "staged", Time: time.Now().Unix(), Stage: &journal.Stage{Share: 0.5, Seconds: 60}},
		[]journal.Change{{Do: journal.Withdraw, Name: "x.example"}})
	if err != nil {
		t.Fatal(err)
	}
	c.push(t, signing.Seal(signing.KindChanges, payload, k.author))
	r := c.publish(t, journal.Draft{Kind: journal.RecordAdvance, ChangeSetID: "staged"})
	e.reaches(t, r.Version)
	wantVerdict(t, e.Set().View(), "x.example", blocklist.Pass)
	if r, err = c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := startEdge(t, k, filepath.Join(dir, "late"), overHTTP(t, c), node)
	late.reaches(t, r.Version)
	wantVerdict(t, late.Set().View(), "x.example", blocklist.Pass)
}

// TestExpiredScopedChangeRestoresGlobalOne checks that a block for all nodes applies in a country again soon after an allow there expired, without a push.
func TestExpiredScopedChangeRestoresGlobalOne(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "fr"), journal.Node{ID: "fr", Country: "FR"})
	c.push(t, k.set(t, "all", block("x.example")))
	r := c.push(t, k.set(t, "country", journal.Change{Do: journal.Allow, Name: "x.example", Countries: []string{"FR"}, Expiry: time.Now().Unix() + 1}))
	e.reaches(t, r.Version)
	waitFor(t, "the block", func() bool { return judge(t, e.Set().View(), "x.example") == blocklist.BlockedBy })
	waitFor(t, "no scoped change at control", func() bool { return len(c.State().Scoped) == 0 }) // the edge may receive the record first
}

// TestTemporarySnapshotIsRemovedAtStart checks that control removes the unfinished file of a snapshot if it was killed while it wrote the file.
func TestTemporarySnapshotIsRemovedAtStart(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	var writing []string
	_, err := c.PublishSnapshot(t.Context(), journal.SnapshotDraft{Same: true, Compile: func(w io.Writer, st *journal.State) (err error) {
		if writing, err = filepath.Glob(filepath.Join(dir, "state", ".*snapshot*")); err != nil {
			return err
		}
		return st.View().Compact(w, st.View().Info())
	}})
	if err != nil || len(writing) != 1 {
		t.Fatalf("unfinished files %q, %v; want one", writing, err)
	}
	c.stop()
	if err := os.WriteFile(writing[0], []byte("half of one"), 0o600); err != nil {
		t.Fatal(err)
	}
	startControl(t, k, dir, nil)
	if _, err := os.Stat(writing[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was not removed: %v", writing[0], err)
	}
}
