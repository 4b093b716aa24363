package publish_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/signing"
)

// TestControlStartsWithKeyOfNextRing checks that control can start with a key that only the next ring contains, without the key that the ring in force
// contains.
func TestControlStartsWithKeyOfNextRing(t *testing.T) {
	dir := t.TempDir()
	folder, _, err := signing.OpenKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	read := func() *journaltest.Keys {
		t.Helper()
		k := &journaltest.Keys{}
		var err error
		for name, key := range map[string]**signing.SecretKey{signing.RootKey: &k.Root, signing.ControlKey: &k.Control, signing.DeskKey: &k.Author} {
			if *key, err = folder.Secret(name); err != nil {
				t.Fatal(err)
			}
		}
		ring, err := folder.Ring()
		if err != nil {
			t.Fatal(err)
		}
		k.Sealed = ring.Sealed
		return k
	}
	k := read()
	c := journaltest.StartControl(t, k, dir, nil)
	r := c.Push(t, k.ChangeSet(t, "before", journaltest.Block("before.example")))
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, r.Version)
	e.Stop()
	c.Stop()
	first := k.Control
	for range 2 {
		for name, role := range map[string]signing.Role{signing.ControlKey: signing.RoleControl, signing.DeskKey: signing.RoleAuthor} {
			if _, err := folder.Rotate(rootOf(t, folder), name, role, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := folder.Change(rootOf(t, folder), func(ring *signing.Ring) error { // remove the first key
		ring.Keys = slices.DeleteFunc(ring.Keys, func(held signing.RingKey) bool { return held.Key == first.String() })
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	k = read()
	c = journaltest.StartControl(t, k, dir, nil)
	r = c.Push(t, k.ChangeSet(t, "after", journaltest.Block("after.example")))
	e = journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, r.Version)
	journaltest.WantVerdict(t, e.Set().View(), "before.example", blocklist.BlockedBy)
	journaltest.WantVerdict(t, e.Set().View(), "after.example", blocklist.BlockedBy)
}

// rootOf returns the root key in a folder of keys.
func rootOf(t *testing.T, folder *signing.Keys) *signing.SecretKey {
	t.Helper()
	root, err := folder.Secret(signing.RootKey)
	if err != nil {
		t.Fatal(err)
	}
	return root
}
