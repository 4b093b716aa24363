package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// Recovered is a record that a start with Recover restored, and the number of its changes that are in effect.
type Recovered struct {
	Record    Record
	ChangeSet *ChangeSet // nil for a record without a change set
	Count     int
}

// folderCopy is the content of a follower's folder: the last state that the follower had in force, and the records before it.
type folderCopy struct {
	dir        string
	disk       *disk
	records    map[uint64][]byte // by version; the records after the snapshot on disk
	base       *State            // the state of that snapshot
	snapshot   *Snapshot
	last       *State
	incomplete bool // the folder lacks a snapshot that the last state needs
}

// readCopy reads a follower's folder without changing it.
func (c *Control) readCopy(dir string) (*folderCopy, error) {
	d := &disk{dir: dir}
	persisted, err := d.load(c.cfg.Trust)
	if persisted == nil {
		return nil, fmt.Errorf("recover from %s: the folder holds no state of a journal: %w", dir, err)
	}
	f := &Follower{cfg: FollowerConfig{Trust: c.cfg.Trust, Node: Node{Control: true}}, log: c.cfg.Log}
	last, _, err := f.replay(persisted)
	if err != nil {
		return nil, fmt.Errorf("recover from %s: %w", dir, err)
	}
	copied := &folderCopy{dir: dir, disk: d, records: map[uint64][]byte{}, base: persisted.state, snapshot: persisted.snapshot, last: last, incomplete: f.isIncomplete()}
	for _, e := range persisted.tail.entries {
		if r, _, err := ReadRecord(e.Data); err == nil {
			copied.records[r.Version] = e.Data
		}
	}
	return copied, nil
}

// hashOf returns the hash of the copy's record of a version; "" if the copy does not know it.
func (s *folderCopy) hashOf(version uint64) string {
	if version == s.base.Version {
		return s.base.Hash
	}
	if data, ok := s.records[version]; ok {
		return HashOf(data)
	}
	if r, _, err := ReadRecord(s.records[version+1]); err == nil {
		return r.Previous
	}
	return ""
}

// copyIsForked reports whether the copy and this journal hold different records of the last version that both have reached.
func (c *Control) copyIsForked(ctx context.Context, copied *folderCopy) (bool, error) {
	st := c.state.State()
	version := min(st.Version, copied.last.Version)
	theirs := copied.hashOf(version)
	if copied.last.Epoch != st.Epoch || theirs == "" {
		return false, nil
	}
	ours, err := c.HashAt(ctx, version)
	if errors.Is(err, stream.ErrNone) || errors.Is(err, ErrLost) {
		return false, nil // the epoch began later, or the record's hash is unknown
	}
	return ours != theirs, err
}

// recover appends the records that a follower's folder holds and the journal, which was restored from an older backup, lacks: each record is signed
// by control and bound to the one before. If records were published after the restore, the two histories exclude each other, and the
// journal continues in a new epoch.
func (c *Control) recover(ctx context.Context, dir string) error {
	copied, err := c.readCopy(dir)
	if err != nil {
		return err
	}
	forked, err := c.copyIsForked(ctx, copied)
	if err != nil {
		return fmt.Errorf("recover from %s: %w", dir, err)
	}
	if c.cfg.NewEpoch || forked {
		return c.beginEpochFromCopy(ctx, copied)
	}
	n := 0
	for {
		more, err := c.appendNext(ctx, copied)
		if err != nil {
			return err
		}
		if !more {
			c.cfg.Log.Info("recovered records from the copy", "records", n, "version", c.state.State().Version)
			return nil
		}
		n++
	}
}

// appendNext appends the copy's record that follows the journal's last one; more is false if there is none.
func (c *Control) appendNext(ctx context.Context, copied *folderCopy) (more bool, err error) {
	st, last := c.state.State(), copied.last.Version
	data, ok := copied.records[st.Version+1]
	if !ok && st.Version < last {
		return false, fmt.Errorf("recover from %s: it holds version %d, but not the record of version %d, after which the journal ends: use another copy, or start with both --recover and --new-epoch %d: the journal then continues from the copy's state, without the records between",
			copied.dir, last, st.Version+1, last)
	}
	if !ok {
		return false, nil
	}
	checked, err := st.check(data, c.cfg.Trust)
	if err == nil && checked.Snapshot != nil {
		err = c.putCopiedObjects(ctx, copied, &checked.Record)
	}
	if err == nil {
		_, err = c.journal.Append(ctx, st.Sequence, string(checked.Kind), data)
	}
	if err == nil {
		err = c.state.waitForRecord(ctx, checked.Version)
	}
	if err != nil {
		return false, fmt.Errorf("recover from %s: %w", copied.dir, err)
	}
	c.addRecovered(checked)
	return true, nil
}

// addRecovered adds a recovered record to the result of Recovered.
func (c *Control) addRecovered(r *checked) {
	one := Recovered{Record: r.Record, ChangeSet: r.changeSet, Count: len(r.changes)}
	if s := r.Snapshot; s != nil && s.Changes != nil {
		one.ChangeSet, one.Count = &s.Changes.ChangeSet, s.Changes.Count
	}
	c.recovered = append(c.recovered, one)
}

// Recovered returns the records that this start restored, oldest first. It must not be called before Run has called ready.
func (c *Control) Recovered() []Recovered { return c.recovered }

// beginEpochFromCopy begins a new epoch with the copy's last state, and publishes in it again the records of this journal after the last common record. So
// neither the changes in force on a server nor those pushed here are lost.
func (c *Control) beginEpochFromCopy(ctx context.Context, copied *folderCopy) error {
	if copied.incomplete {
		return fmt.Errorf("recover from %s: it lacks a snapshot that its last version needs: use another copy", copied.dir)
	}
	st, from := c.state.State(), copied.last
	own, err := c.recordsNotInCopy(ctx, copied, st)
	if err == nil && c.gap != nil {
		from := st.Version
		if copied.last.Epoch == c.lastEpoch {
			from = max(from, copied.last.Version)
		}
		var behind []ownRecord
		behind, err = c.recordsBehindGap(ctx, from)
		own = append(own, behind...)
	}
	if err != nil {
		return fmt.Errorf("recover from %s: %w", copied.dir, err)
	}
	ring, err := newerRing(c.cfg.Ring, from.ring.Sealed, c.cfg.Trust)
	if err != nil {
		return fmt.Errorf("recover from %s: %w", copied.dir, err)
	}
	version := max(st.Version, from.Version, c.endVersion, c.highestKnown()) + 1
	_, err = c.BeginEpoch(ctx, max(st.Epoch, from.Epoch, c.lastEpoch)+1, version, ring, from, func(w io.Writer) error {
		return from.view.Compact(w, from.viewInfo())
	})
	if err == nil {
		err = c.state.Wait(ctx, version)
	}
	if err != nil {
		return fmt.Errorf("recover from %s: %w", copied.dir, err)
	}
	c.cfg.Log.Warn("began a new epoch with the state of the copy, because the journal and the copy hold different records", "copy", copied.dir,
		"version", version, "copied_version", from.Version)
	var again []Recovered
	for _, r := range own {
		if one := c.publishOwnAgain(ctx, r); one != nil {
			again = append(again, *one)
		}
	}
	first := st.Version + 1
	if len(own) > 0 {
		first = own[0].record.Version
	}
	for v := max(first, copied.base.Version+1); v <= from.Version; v++ { // their changes are part of the state that the epoch began with
		if r, body, err := ReadRecord(copied.records[v]); err == nil {
			one := &checked{Record: *r}
			if r.Kind == RecordChanges {
				one.changeSet, one.changes, _ = decodeApplied(r, body)
			}
			c.addRecovered(one)
		}
	}
	c.recovered = append(c.recovered, again...)
	return nil
}

// ownRecord is a record of this journal that is to be published again.
type ownRecord struct {
	record *Record
	body   []byte
}

// recordsNotInCopy returns the records of this journal after the last one that the copy has too, oldest first.
func (c *Control) recordsNotInCopy(ctx context.Context, copied *folderCopy, st *State) (own []ownRecord, err error) {
	if copied.last.Epoch != st.Epoch {
		return nil, nil
	}
	for v := st.Version; v >= copied.base.Version; v-- {
		hash, err := c.HashAt(ctx, v)
		if err != nil || hash == copied.hashOf(v) {
			break
		}
		data, err := c.Record(ctx, v)
		if errors.Is(err, ErrLost) {
			c.cfg.Log.Error("a record of this journal is lost, and is not in force in the new epoch", "version", v)
			continue
		}
		if err != nil {
			return nil, err
		}
		r, body, err := ReadRecord(data)
		if err != nil {
			return nil, err
		}
		own = append([]ownRecord{{r, body}}, own...)
	}
	return own, nil
}

// publishOwnAgain publishes a record in the new epoch, and returns the new record; nil if the record is not needed again. If a record cannot be published, it
// logs what the operator has to do.
func (c *Control) publishOwnAgain(ctx context.Context, d ownRecord) *Recovered {
	r := d.record
	var err error
	switch r.Kind {
	case RecordChanges, RecordSuspend, RecordResume, RecordAdvance:
		var done Receipt
		done, err = c.Publish(ctx, Draft{Kind: r.Kind, By: r.By, Approved: r.Approved, Refused: r.Refused, ChangeSetID: r.ChangeSetID, Reason: r.Reason, Body: d.body})
		if err == nil {
			one := &Recovered{Record: *r}
			one.Record.Version, one.Record.Time = done.Version, done.Time
			if r.Kind == RecordChanges {
				set, changes, _ := decodeApplied(r, d.body) // it was decoded when it was published
				one.ChangeSet, one.Count = set, len(changes)
			}
			return one
		}
	case RecordSnapshot:
		if r.Snapshot.Changes != nil {
			err = errors.New("it is too large for one record")
		}
	}
	if err == nil {
		return nil
	}
	id := r.ChangeSetID
	if set, _, bad := splitChangeSet(d.body); r.Kind == RecordChanges && bad == nil {
		id = set.ID
	} else if r.Snapshot != nil && r.Snapshot.Changes != nil {
		id = r.Snapshot.Changes.ChangeSet.ID
	}
	c.cfg.Log.Error("a change set that was published after the backup was restored is not in force: push its changes again under another id", "id", id, "kind", r.Kind, "err", err)
	return nil
}

// decodeApplied returns the change set of a record of changes, and its changes that are in effect.
func decodeApplied(r *Record, body []byte) (*ChangeSet, []Change, error) {
	s, err := signing.Unseal(signing.KindChanges, body)
	if err != nil {
		return nil, nil, err
	}
	set, all, err := Decode(s.Payload)
	if err != nil {
		return nil, nil, err
	}
	applied, err := withoutRefused(all, r.Refused)
	return set, applied, err
}

// newerRing returns the sealed key ring with the higher serial number.
func newerRing(a, b []byte, trust []signing.PublicKey) ([]byte, error) {
	first, err := signing.ParseRing(a, trust)
	if err != nil {
		return nil, err
	}
	second, err := signing.ParseRing(b, append(trust[:len(trust):len(trust)], first.RootKeys...))
	if err != nil || second.Serial <= first.Serial {
		return a, nil // the copy's ring may be signed by a root key that is no longer trusted
	}
	return b, nil
}

// putCopiedObjects writes the snapshot objects that the copy holds to the object store. An object that the copy lacks is not needed by nodes that have the
// state. If the snapshot has content of its own, that content would be in force nowhere, and the object must be in the journal.
func (c *Control) putCopiedObjects(ctx context.Context, copied *folderCopy, r *Record) error {
	for _, name := range r.Snapshot.Names() {
		err := c.putCopiedFile(ctx, copied.disk.path(name), name)
		if !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return err
			}
			continue
		}
		if r.Snapshot.Same {
			continue
		}
		o, there := c.Object(ctx, name)
		if there != nil {
			return fmt.Errorf("it holds the record of version %d, but neither it nor the journal holds the record's object %s (%w): use another copy, or begin a new epoch (--new-epoch %d)",
				r.Version, name, there, copied.last.Version)
		}
		o.Close()
	}
	return nil
}

func (c *Control) putCopiedFile(ctx context.Context, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return c.putFile(ctx, f, name)
}
