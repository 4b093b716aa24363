package journal_test

import (
	"path/filepath"
	"testing"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
)

func TestPushReachesEveryEdge(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	edges := map[string]*journaltest.Edge{
		"stream": journaltest.StartEdge(t, k, filepath.Join(dir, "e1"), journaltest.FromStream(c, "e1"), journal.Node{ID: "e1", Country: "FR"}),
		"http":   journaltest.StartEdge(t, k, filepath.Join(dir, "e2"), journaltest.OverHTTP(t, c), journal.Node{ID: "e2", Country: "DE"}),
	}
	all := func(version uint64, name string, want blocklist.Action) {
		t.Helper()
		for at, e := range edges {
			e.Reaches(t, version)
			t.Log(at)
			journaltest.WantVerdict(t, e.Set().View(), name, want)
		}
		journaltest.WantVerdict(t, c.State().View(), name, want)
	}
	r := c.Push(t, k.ChangeSet(t, "one", journaltest.Block("bad.example")))
	all(r.Version, "www.bad.example", blocklist.BlockedBy)
	r = c.Push(t, k.ChangeSet(t, "two", journal.Change{Do: journal.Allow, Name: "good.bad.example", Scope: "exact"}))
	all(r.Version, "good.bad.example", blocklist.Allowed)
	r = c.Push(t, k.ChangeSet(t, "three", journal.Change{Do: journal.Withdraw, Name: "bad.example"}, journal.Change{Do: journal.Withdraw, Name: "good.bad.example"}))
	all(r.Version, "www.bad.example", blocklist.Pass)

	r = c.Push(t, k.ChangeSet(t, "four", journal.Change{Do: journal.Block, Name: "fr.example", Countries: []string{"FR"}}, journaltest.Block("all.example")))
	all(r.Version, "all.example", blocklist.BlockedBy)
	journaltest.WantVerdict(t, edges["stream"].Set().View(), "fr.example", blocklist.BlockedBy)
	journaltest.WantVerdict(t, edges["http"].Set().View(), "fr.example", blocklist.Pass)
	if _, err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := journaltest.StartEdge(t, k, filepath.Join(dir, "e3"), journaltest.OverHTTP(t, c), journal.Node{ID: "e3", Country: "FR"})
	late.Reaches(t, c.State().Version)
	journaltest.WantVerdict(t, late.Set().View(), "fr.example", blocklist.BlockedBy)
	journaltest.WantVerdict(t, late.Set().View(), "all.example", blocklist.BlockedBy)

	r = c.MustPublish(t, publish.Draft{Kind: journal.RecordSuspend, By: "boss", Reason: "something is badly wrong"})
	for _, e := range edges {
		e.Reaches(t, r.Version)
		if !e.Set().View().Suspended() {
			t.Error("an edge still enforces after the suspension")
		}
	}
	r = c.MustPublish(t, publish.Draft{Kind: journal.RecordResume, By: "boss"})
	for _, e := range edges {
		e.Reaches(t, r.Version)
		if e.Set().View().Suspended() {
			t.Error("an edge does not enforce after the resumption")
		}
	}
}
