package publish_test

import (
	"path/filepath"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
	"rempart/internal/signing"
)

// TestLargeChangeSetOverridesScoped checks that a large change set overrides earlier scoped changes, as a small one does, and not those that were pushed while
// it was made.
func TestLargeChangeSetOverridesScoped(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	node := journal.Node{ID: "fr", Country: "FR"}
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "fr"), node)
	allow := func(name string) journal.Change {
		return journal.Change{Do: journal.Allow, Name: name, Countries: []string{"FR"}}
	}
	c.Push(t, k.ChangeSet(t, "country", allow("x.example"), allow("other.example")))
	payload, err := journal.Encode(&journal.ChangeSet{ID: "staged", Time: time.Now().Unix(), Stage: &journal.Stage{Share: 0.5, Seconds: 60}}, []journal.Change{journaltest.Block("y.example")})
	if err != nil {
		t.Fatal(err)
	}
	c.Push(t, signing.Seal(signing.KindChanges, payload, k.Author))
	r := c.PushLarge(t, k, "large", func() { c.Push(t, k.ChangeSet(t, "since", allow("z.example"))) },
		journaltest.Block("x.example"), journal.Change{Do: journal.Allow, Name: "y.example"}, journaltest.Block("z.example"))
	e.Reaches(t, r.Version)
	late := journaltest.StartEdge(t, k, filepath.Join(dir, "late"), journaltest.OverHTTP(t, c), node)
	check := func(version uint64) {
		t.Helper()
		for _, e := range []*journaltest.Edge{e, late} {
			e.Reaches(t, version)
			journaltest.WantVerdict(t, e.Set().View(), "x.example", blocklist.BlockedBy)
			for _, name := range []string{"y.example", "z.example", "other.example"} {
				journaltest.WantVerdict(t, e.Set().View(), name, blocklist.Allowed)
			}
		}
	}
	check(r.Version)
	r = c.MustPublish(t, publish.Draft{Kind: journal.RecordAdvance, ChangeSetID: "staged"}) // none of its changes is left
	check(r.Version)
}

// TestAdvancedChangeOverridesScoped checks that a staged change, once advanced to all nodes, overrides an earlier change for one country, on running nodes and
// on new ones.
func TestAdvancedChangeOverridesScoped(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	node := journal.Node{ID: "fr", Country: "FR"}
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "fr"), node)
	c.Push(t, k.ChangeSet(t, "country", journal.Change{Do: journal.Block, Name: "x.example", Countries: []string{"FR"}}))
	payload, err := journal.Encode(&journal.ChangeSet{ID: "staged", Time: time.Now().Unix(), Stage: &journal.Stage{Share: 0.5, Seconds: 60}},
		[]journal.Change{{Do: journal.Withdraw, Name: "x.example"}})
	if err != nil {
		t.Fatal(err)
	}
	c.Push(t, signing.Seal(signing.KindChanges, payload, k.Author))
	r := c.MustPublish(t, publish.Draft{Kind: journal.RecordAdvance, ChangeSetID: "staged"})
	e.Reaches(t, r.Version)
	journaltest.WantVerdict(t, e.Set().View(), "x.example", blocklist.Pass)
	if r, err = c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := journaltest.StartEdge(t, k, filepath.Join(dir, "late"), journaltest.OverHTTP(t, c), node)
	late.Reaches(t, r.Version)
	journaltest.WantVerdict(t, late.Set().View(), "x.example", blocklist.Pass)
}

// TestExpiredScopedChangeRestoresGlobalOne checks that a block for all nodes applies in a country again soon after an allow there expired, without a push.
func TestExpiredScopedChangeRestoresGlobalOne(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "fr"), journal.Node{ID: "fr", Country: "FR"})
	c.Push(t, k.ChangeSet(t, "all", journaltest.Block("x.example")))
	r := c.Push(t, k.ChangeSet(t, "country", journal.Change{Do: journal.Allow, Name: "x.example", Countries: []string{"FR"}, Expiry: time.Now().Unix() + 1}))
	e.Reaches(t, r.Version)
	journaltest.WaitFor(t, "the block", func() bool { return journaltest.Judge(t, e.Set().View(), "x.example") == blocklist.BlockedBy })
	journaltest.WaitFor(t, "no scoped change at control", func() bool { return len(c.State().Scoped) == 0 }) // the edge may receive the record first
}
