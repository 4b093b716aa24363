package journal_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/signing"
)

// TestExpiredKeyCannotBackdate checks that an edge that received a later heartbeat refuses records and heartbeats that an expired key of control signed with an
// earlier date.
func TestExpiredKeyCannotBackdate(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	old, now := journaltest.Key(t, "control-old"), time.Now()
	k.Ring.Keys = append(k.Ring.Keys, signing.RingKey{Key: old.String(), Roles: []signing.Role{signing.RoleControl}, Until: now.Add(time.Hour).Unix()})
	k.Seal(t)
	c := journaltest.StartControl(t, k, dir, nil)
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	r := c.Push(t, k.ChangeSet(t, "one", journaltest.Block("one.example")))
	e.Reaches(t, r.Version)
	e.Stop()
	kept := filepath.Join(dir, "kept")
	journaltest.CopyTree(t, filepath.Join(dir, "e"), kept)
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
	beat(st.Version, now.Add(2*time.Hour), k.Control)
	beat(st.Version+7, now.Add(time.Minute), old)
	if v := e.Health().Newest; v != st.Version {
		t.Errorf("a heartbeat of version %d under the expired key was accepted", v)
	}
	if err := e.Feed(record(old)); !errors.Is(err, signing.ErrSeal) || e.State().Suspended {
		t.Errorf("record under the expired key: error %v", err)
	}
	if err := e.Feed(record(k.Control)); err != nil {
		t.Errorf("record under a valid key: error %v", err)
	}

	// An epoch may begin at an earlier time, but not under a key that had expired when the last record was signed.
	again, err := journal.NewFollower(journal.FollowerConfig{Dir: kept, Source: journaltest.Offline{}, Trust: k.Trust(), Node: journal.Node{ID: "e"}})
	if err == nil {
		err = again.Start() // without a heartbeat
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(journal.Record{Epoch: st.Epoch, Version: st.Version + 1, Previous: st.Hash, Time: now.Add(2 * time.Hour).UnixMilli(), Kind: journal.RecordRenew})
	if err == nil {
		err = again.Feed(journal.SequencedRecord{Data: signing.Seal(signing.KindRecord, append(line, '\n'), k.Control)})
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
		return again.Feed(journal.SequencedRecord{Data: signing.Seal(signing.KindRecord, slices.Concat(line, []byte("\n"), k.Sealed), signer)})
	}
	if err := epoch(old); !errors.Is(err, signing.ErrSeal) {
		t.Errorf("epoch under the expired key: error %v", err)
	}
	if err := epoch(k.Control); err == nil || errors.Is(err, signing.ErrSeal) || errors.Is(err, journal.ErrRollback) { // the epoch is fetched as the newest snapshot
		t.Errorf("epoch under a valid key: error %v", err)
	}
}
