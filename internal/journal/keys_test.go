package journal_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
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
	read := func() *keys {
		t.Helper()
		k := &keys{}
		var err error
		for name, key := range map[string]**signing.SecretKey{signing.RootKey: &k.root, signing.ControlKey: &k.control, signing.DeskKey: &k.author} {
			if *key, err = folder.Secret(name); err != nil {
				t.Fatal(err)
			}
		}
		ring, err := folder.Ring()
		if err != nil {
			t.Fatal(err)
		}
		k.sealed = ring.Sealed
		return k
	}
	k := read()
	c := startControl(t, k, dir, nil)
	r := c.push(t, k.set(t, "before", block("before.example")))
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	e.reaches(t, r.Version)
	e.stop()
	c.stop()
	first := k.control
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
	c = startControl(t, k, dir, nil)
	r = c.push(t, k.set(t, "after", block("after.example")))
	e = startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	e.reaches(t, r.Version)
	wantVerdict(t, e.Set().View(), "before.example", blocklist.BlockedBy)
	wantVerdict(t, e.Set().View(), "after.example", blocklist.BlockedBy)
}

// TestExpiredKeyCannotBackdate checks that an edge that received a later heartbeat refuses records and heartbeats that an expired key of control signed with an
// earlier date.
func TestExpiredKeyCannotBackdate(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	old, now := key(t, "control-old"), time.Now()
	k.ring.Keys = append(k.ring.Keys, signing.RingKey{Key: old.String(), Roles: []signing.Role{signing.RoleControl}, Until: now.Add(time.Hour).Unix()})
	k.seal(t)
	c := startControl(t, k, dir, nil)
	e := startEdge(t, k, filepath.Join(dir, "e"), fromStream(c, "e"), journal.Node{ID: "e"})
	r := c.push(t, k.set(t, "one", block("one.example")))
	e.reaches(t, r.Version)
	e.stop()
	kept := filepath.Join(dir, "kept")
	copyTree(t, filepath.Join(dir, "e"), kept)
	st := e.State()
	record := func(signer *signing.SecretKey) journal.SequencedRecord {
		line, err := json.Marshal(journal.Record{Epoch: st.Epoch, Version: st.Version + 1, Previous: st.Hash, Time: st.Time, Kind: journal.RecordSuspend})
		if err != nil {
			t.Fatal(err)
		}
		return journal.SequencedRecord{Data: signing.Seal(signing.KindRecord, append(line, '\n'), signer)}
	}
	beat := func(version uint64, at time.Time, signer *signing.SecretKey) {
		t.Helper()
		line, err := json.Marshal(journal.Heartbeat{Epoch: st.Epoch, Version: version, Hash: st.Hash, Time: at.UnixMilli()})
		if err == nil {
			err = e.FeedHeartbeat(signing.Seal(signing.KindHeartbeat, line, signer))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	beat(st.Version, now.Add(2*time.Hour), k.control)
	beat(st.Version+7, now.Add(time.Minute), old)
	if v := e.Health().Newest; v != st.Version {
		t.Errorf("a heartbeat of version %d under the expired key was accepted", v)
	}
	if err := e.Feed(record(old)); !errors.Is(err, signing.ErrSeal) || e.State().Suspended {
		t.Errorf("record under the expired key: error %v", err)
	}
	if err := e.Feed(record(k.control)); err != nil {
		t.Errorf("record under a valid key: error %v", err)
	}

	// An epoch may begin at an earlier time, but not under a key that had expired when the last record was signed.
	again, err := journal.NewFollower(journal.FollowerConfig{Dir: kept, Source: offline{}, Trust: k.trust(), Node: journal.Node{ID: "e"}})
	if err == nil {
		err = again.Start() // without a heartbeat
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(journal.Record{Epoch: st.Epoch, Version: st.Version + 1, Previous: st.Hash, Time: now.Add(2 * time.Hour).UnixMilli(), Kind: journal.RecordRenew})
	if err == nil {
		err = again.Feed(journal.SequencedRecord{Data: signing.Seal(signing.KindRecord, append(line, '\n'), k.control)})
	}
	if err != nil {
		t.Fatal(err)
	}
	epoch := func(signer *signing.SecretKey) error {
		line, err := json.Marshal(journal.Record{Epoch: st.Epoch + 1, Version: st.Version + 2, Time: now.Add(time.Minute).UnixMilli(), Kind: journal.RecordSnapshot,
			Snapshot: &journal.Snapshot{Object: journal.Object{SHA256: st.Hash, Size: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		return again.Feed(journal.SequencedRecord{Data: signing.Seal(signing.KindRecord, slices.Concat(line, []byte("\n"), k.sealed), signer)})
	}
	if err := epoch(old); !errors.Is(err, signing.ErrSeal) {
		t.Errorf("epoch under the expired key: error %v", err)
	}
	if err := epoch(k.control); err == nil || errors.Is(err, signing.ErrSeal) || errors.Is(err, journal.ErrRollback) { // the epoch is fetched as the newest snapshot
		t.Errorf("epoch under a valid key: error %v", err)
	}
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
