package journaltest

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// Control is a running control.
type Control struct {
	*publish.Control
	Stop func() // ends it, and closes its stream
}

// OpenControl returns a control after Start and before Run, and a function that closes its stream.
func OpenControl(t testing.TB, k *Keys, dir string, change func(*publish.Config)) (c *publish.Control, end func()) {
	t.Helper()
	s, err := stream.Open(t.Context(), stream.Config{Dir: filepath.Join(dir, "nats"), Log: Logs(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	cfg := publish.Config{Stream: s, Key: k.Control, Ring: k.Sealed, Trust: k.Trust(), Dir: filepath.Join(dir, "state"), Log: Logs(t)}
	if change != nil {
		change(&cfg)
	}
	if c, err = publish.New(cfg); err == nil {
		err = c.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, func() { s.Close() }
}

// StartControl runs a control in a folder until the test ends or Stop is called, and waits until it is ready. change, which may be nil, changes its settings.
func StartControl(t testing.TB, k *Keys, dir string, change func(*publish.Config)) *Control {
	t.Helper()
	c, end := OpenControl(t, k, dir, change)
	ready := make(chan struct{})
	stop := dnstest.Running(t, func(ctx context.Context) error { return c.Run(ctx, func() { close(ready) }) })
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("control is not ready in time")
	}
	return &Control{c, func() { stop(); end() }}
}

// MustPublish publishes a record.
func (c *Control) MustPublish(t testing.TB, d publish.Draft) publish.Receipt {
	t.Helper()
	r, err := c.Publish(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Push publishes a sealed change set.
func (c *Control) Push(t testing.TB, body []byte) publish.Receipt {
	t.Helper()
	return c.MustPublish(t, publish.Draft{Kind: journal.RecordChanges, By: "desk", Body: body})
}

// PublishList publishes the names of a list as a snapshot, and waits until the snapshot is in force at control.
func (c *Control) PublishList(t *testing.T, names ...string) publish.Receipt {
	t.Helper()
	r, err := c.PublishSnapshot(t.Context(), publish.SnapshotDraft{By: "lists", Compile: func(w io.Writer, st *journal.State) error {
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

// MustCompact publishes the state as a snapshot.
func (c *Control) MustCompact(t *testing.T) publish.Receipt {
	t.Helper()
	r, err := c.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// SnapshotOf returns the record of a version and the snapshot that it announces.
func (c *Control) SnapshotOf(t *testing.T, version uint64) ([]byte, *journal.Snapshot) {
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

// DeleteObjects deletes a snapshot's objects, as control does an hour after the next snapshot.
func (c *Control) DeleteObjects(t *testing.T, version uint64) {
	t.Helper()
	_, s := c.SnapshotOf(t, version)
	for _, name := range s.Names() {
		if err := c.Stream.DeleteObject(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

// PushLarge publishes a large change set, and calls meanwhile while its snapshot is compiled.
func (c *Control) PushLarge(t *testing.T, k *Keys, id string, meanwhile func(), changes ...journal.Change) publish.Receipt {
	t.Helper()
	set := &journal.ChangeSet{ID: id, Time: time.Now().Unix()}
	payload, err := journal.Encode(set, changes)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := signing.Unseal(signing.KindChanges, signing.Seal(signing.KindChanges, payload, k.Author))
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
	r, err := c.PublishSnapshot(t.Context(), publish.SnapshotDraft{By: "desk", Changes: l, Compile: func(w io.Writer, st *journal.State) error {
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
