package journal_test

import (
	"io"
	"path/filepath"
	"testing"

	"rempart/blocklist"
	"rempart/internal/journal"
)

// list publishes what a list says as a snapshot, and waits for that to be in force at control.
func (c *control) list(t *testing.T, names ...string) journal.Receipt {
	t.Helper()
	r, err := c.PublishSnapshot(t.Context(), journal.Load{By: "lists", Compile: func(w io.Writer, st *journal.State) error {
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

// announced is the record of a version, and the snapshot it announces.
func (c *control) announced(t *testing.T, version uint64) ([]byte, *journal.Snapshot) {
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

// sweep removes a snapshot's objects, as control does an hour after the next.
func (c *control) sweep(t *testing.T, version uint64) {
	t.Helper()
	_, s := c.announced(t, version)
	for _, name := range s.Names() {
		if err := c.Stream.DeleteObject(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLoadSwept has an edge that was away replay a list's load whose object is gone: the next snapshot holds it too.
func TestLoadSwept(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	e := startEdge(t, k, filepath.Join(dir, "e"), overNATS(t, c, "e"), journal.Node{ID: "e"})
	e.reaches(t, c.State().Version)
	e.stop()
	load := c.list(t, "listed.example")
	c.compact(t)
	c.sweep(t, load.Version)
	r := c.push(t, k.set(t, "after", block("after.example")))
	e = startEdge(t, k, filepath.Join(dir, "e"), overNATS(t, c, "e"), journal.Node{ID: "e"})
	e.reaches(t, r.Version)
	for _, name := range []string{"listed.example", "after.example"} {
		wantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
}
