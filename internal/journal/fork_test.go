package journal_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
)

// TestForkIsDetectedBehindGap checks that an edge that lacks records, or is far behind, does not use the snapshot of another history of the same epoch.
func TestForkIsDetectedBehindGap(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c, _, _ := journaltest.ControlWithBackup(t, k, dir)
	journaltest.CopyTree(t, filepath.Join(dir, "e"), filepath.Join(dir, "same"))
	c.Push(t, k.ChangeSet(t, "three", journaltest.Block("three.example")))
	s, err := c.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "same"), &gappedSource{Source: journaltest.FromStream(c, "same"), times: 1}, journal.Node{ID: "same"})
	e.Reaches(t, s.Version)
	e.Stop()
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), &gappedSource{Source: journaltest.FromStream(c, "e"), times: 1000}, journal.Node{ID: "e"}) // the source returns no record at all
	e.Reaches(t, s.Version)
	e.Stop()
	c.Stop()

	c = journaltest.StartControl(t, k, filepath.Join(dir, "backup"), nil)
	for range 4 {
		c.MustPublish(t, publish.Draft{Kind: journal.RecordRenew})
	}
	if s, err = c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]journal.Source{"stream": journaltest.FromStream(c, "same"), "http": journaltest.OverHTTP(t, c)} {
		journaltest.CopyTree(t, filepath.Join(dir, "same"), filepath.Join(dir, name))
		e = journaltest.StartEdge(t, k, filepath.Join(dir, name), &gappedSource{Source: source, times: 1}, journal.Node{ID: "same"})
		journaltest.WaitFor(t, "the fork to be reported", func() bool { return strings.Contains(e.Health().Problem, journal.ErrFork.Error()) })
		journaltest.WantVerdict(t, e.Set().View(), "two.example", blocklist.BlockedBy)
		if v := e.State().Version; v >= s.Version {
			t.Errorf("%s: version %d of the other history is in force", name, v)
		}
	}
}

// gappedSource is a source that returns ErrGap to its first requests.
type gappedSource struct {
	journal.Source
	times int
}

func (g *gappedSource) Follow(ctx context.Context, after journal.Position, to journal.Consumer) error {
	if g.times > 0 {
		g.times--
		return journal.ErrGap
	}
	return g.Source.Follow(ctx, after, to)
}
