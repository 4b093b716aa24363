package journaltest

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/journal"
	"rempart/internal/journal/publish"
)

// Edge is a running follower.
type Edge struct {
	*journal.Follower
	Tap  *Tap // through which it follows its source
	Stop func()
}

// StartEdge runs a follower of a source in a folder until the test ends or Stop is called.
func StartEdge(t testing.TB, k *Keys, dir string, source journal.Source, node journal.Node) *Edge {
	t.Helper()
	tap := &Tap{Source: source}
	f, err := journal.NewFollower(journal.FollowerConfig{Dir: dir, Source: tap, Trust: k.Trust(), Node: node, Log: Logs(t)})
	if err == nil {
		err = f.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &Edge{f, tap, dnstest.Running(t, f.Run)}
}

// Reaches waits until a version is completely in force.
func (e *Edge) Reaches(t testing.TB, version uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := e.Wait(ctx, version); err != nil {
		t.Fatalf("version %d is in force, not %d: %+v", e.InForce(), version, e.Health())
	}
}

// Judge returns the verdict on a name.
func Judge(t testing.TB, v *blocklist.View, name string) blocklist.Action {
	t.Helper()
	wire, err := blocklist.AppendName(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	return v.Match(wire, blocklist.AllCategories, time.Now().Unix()).Action
}

// WantVerdict checks the verdict on a name.
func WantVerdict(t testing.TB, v *blocklist.View, name string, want blocklist.Action) {
	t.Helper()
	if got := Judge(t, v, name); got != want {
		t.Errorf("version %d: %s: %v, want %v", v.Version(), name, got, want)
	}
}

// ControlWithStoppedEdge returns a control in dir. A stopped edge in dir/e has everything in force that was published so far.
func ControlWithStoppedEdge(t *testing.T, k *Keys, dir string) *Control {
	t.Helper()
	c := StartControl(t, k, dir, nil)
	e := StartEdge(t, k, filepath.Join(dir, "e"), FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, c.State().Version)
	e.Stop()
	return c
}

// ControlWithBackup returns a running control in dir/c, whose backup in dir/backup lacks the last change, and a stopped edge in dir/e that has this change in
// force. The Receipt is that of the last change.
func ControlWithBackup(t *testing.T, k *Keys, dir string) (*Control, *Edge, publish.Receipt) {
	t.Helper()
	c := StartControl(t, k, filepath.Join(dir, "c"), nil)
	c.Push(t, k.ChangeSet(t, "one", Block("one.example")))
	c.Stop()
	CopyTree(t, filepath.Join(dir, "c"), filepath.Join(dir, "backup"))
	c = StartControl(t, k, filepath.Join(dir, "c"), nil)
	r := c.Push(t, k.ChangeSet(t, "two", Block("two.example")))
	e := StartEdge(t, k, filepath.Join(dir, "e"), FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, r.Version)
	e.Stop()
	return c, e, r
}

// Logs returns a log that is written to the output of the test.
func Logs(t testing.TB) *slog.Logger {
	if tt, ok := t.(*testing.T); ok {
		return slog.New(slog.NewTextHandler(tt.Output(), nil))
	}
	return slog.New(slog.DiscardHandler)
}

// WaitFor waits until done returns true. what names the event in the message of a failure.
func WaitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timeout while waiting for %s", what)
		}
	}
}

// CopyTree copies a folder.
func CopyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// FlipBit changes one bit of the file, in the bytes that hold the text.
func FlipBit(t *testing.T, path, text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte(text))
	if at < 0 {
		t.Fatalf("%s does not hold %q", path, text)
	}
	data[at] ^= 4
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
