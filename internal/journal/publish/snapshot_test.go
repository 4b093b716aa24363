package publish_test

import (
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
)

// TestPushesDuringSnapshotAreInForce checks that a snapshot of many names, and changes that are pushed while it is published, are in force on every node.
func TestPushesDuringSnapshotAreInForce(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e1"), journaltest.FromStream(c, "e1"), journal.Node{ID: "e1"})
	load, pushed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(pushed)
		<-load
		c.Push(t, k.ChangeSet(t, "during", journaltest.Block("during.example")))
	}()
	r, err := c.PublishSnapshot(t.Context(), publish.SnapshotDraft{By: "lists", Compile: func(w io.Writer, st *journal.State) error {
		close(load)
		<-pushed
		b := blocklist.NewBuilder()
		for i := range 20_000 {
			name, _ := blocklist.AppendName(nil, fmt.Sprintf("n%d.list.example", i))
			if err := b.Add(blocklist.Listing{Name: name, Scope: blocklist.Subtree}); err != nil {
				return err
			}
		}
		return blocklist.Compile(w, blocklist.Info{Version: st.Version}, b.Input(blocklist.Source{Name: "a list"}), st.View().Input())
	}})
	if err != nil {
		t.Fatal(err)
	}
	after := c.Push(t, k.ChangeSet(t, "after", journaltest.Block("after.example")))
	if after.Version <= r.Version {
		t.Errorf("version %d after %d", after.Version, r.Version)
	}
	e.Reaches(t, after.Version)
	for _, name := range []string{"n1.list.example", "n19999.list.example", "during.example", "after.example"} {
		journaltest.WantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
	e.Stop()
	again := journaltest.StartEdge(t, k, filepath.Join(dir, "e1"), journaltest.Offline{}, journal.Node{ID: "e1"})
	if v := again.Set().View().Version(); v < after.Version {
		t.Errorf("version %d after a restart without control, %d before", v, after.Version)
	}
	for _, name := range []string{"n1.list.example", "during.example", "after.example"} {
		journaltest.WantVerdict(t, again.Set().View(), name, blocklist.BlockedBy)
	}
}

// TestSecondSnapshotContainsUnfetchedFirst checks that a snapshot which is published before the previous one was fetched also contains the names of the
// previous one.
func TestSecondSnapshotContainsUnfetchedFirst(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	var last publish.Receipt
	for i := range 4 {
		var err error
		last, err = c.PublishSnapshot(t.Context(), publish.SnapshotDraft{By: "desk", Compile: func(w io.Writer, st *journal.State) error {
			view, err := journal.Apply(st.View(), &journal.ChangeSet{}, func(yield func(journal.Change, error) bool) {
				for n := range 2000 {
					if !yield(journaltest.Block(fmt.Sprintf("n%d.load%d.example", n, i)), nil) {
						return
					}
				}
			})
			if err != nil {
				return err
			}
			return view.Compact(w, view.Info())
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Follower().Wait(t.Context(), last.Version); err != nil {
		t.Fatal(err)
	}
	if n := c.State().View().Stats().Names; n != 8000 {
		t.Errorf("%d names", n)
	}
	// A change set is published once, even if it is pushed again.
	body := k.ChangeSet(t, "once", journaltest.Block("once.example"))
	first := c.Push(t, body)
	if again := c.Push(t, body); again.Version != first.Version {
		t.Errorf("version %d, and again %d", first.Version, again.Version)
	}
}
