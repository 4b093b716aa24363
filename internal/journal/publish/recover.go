package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// Recovered is a record that a start with Recover restored, and the number of its changes that are in effect.
type Recovered struct {
	Record    journal.Record
	ChangeSet *journal.ChangeSet // nil for a record without a change set
	Count     int
}

// readCopy reads the copy of a follower's folder that Config.Recover names.
func (c *Control) readCopy() (*journal.FolderCopy, error) {
	copied, err := journal.ReadFolder(c.cfg.Recover, c.cfg.Trust, c.cfg.Log)
	if err != nil {
		return nil, c.copyError(err)
	}
	return copied, nil
}

// copyError returns an error that names the copy.
func (c *Control) copyError(err error) error {
	return fmt.Errorf("recover from %s: %w", c.cfg.Recover, err)
}

// copyIsForked reports whether the copy and this journal hold different records of the last version that both have reached.
func (c *Control) copyIsForked(ctx context.Context, copied *journal.FolderCopy) (bool, error) {
	st := c.state.State()
	version := min(st.Version, copied.Last.Version)
	theirs := copied.HashOf(version)
	if copied.Last.Epoch != st.Epoch || theirs == "" {
		return false, nil
	}
	ours, err := c.HashAt(ctx, version)
	if errors.Is(err, stream.ErrNone) || errors.Is(err, stream.ErrLost) {
		return false, nil // the epoch began later, or the record's hash is unknown
	}
	return ours != theirs, err
}

// recover appends the records that a follower's folder holds and the journal, which was restored from an older backup, lacks: each record is signed
// by control and bound to the one before. If records were published after the restore, the two histories exclude each other, and the
// journal continues in a new epoch.
func (c *Control) recover(ctx context.Context) error {
	copied, err := c.readCopy()
	if err != nil {
		return err
	}
	if copied.Damage != nil {
		c.cfg.Log.Error("a part of the copy cannot be read; control recovers only the records up to this version", "copy", c.cfg.Recover, "version", copied.Last.Version, "err", copied.Damage)
	}
	if copied.Lost > 0 && !c.cfg.NewEpoch {
		return fmt.Errorf("recover from %s: the server of this copy had version %d in force, but the copy ends at version %d, because files in the copy are damaged or missing: use another copy, or start with both --recover and --new-epoch %d; the journal then continues from the last state of the copy, without the later records",
			c.cfg.Recover, copied.Lost, copied.Last.Version, copied.Lost)
	}
	forked, err := c.copyIsForked(ctx, copied)
	if err != nil {
		return c.copyError(err)
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
func (c *Control) appendNext(ctx context.Context, copied *journal.FolderCopy) (more bool, err error) {
	st, last := c.state.State(), copied.Last.Version
	data := copied.Record(st.Version + 1)
	if data == nil && st.Version < last {
		return false, fmt.Errorf("recover from %s: it holds version %d, but not the record of version %d, after which the journal ends: use another copy, or start with both --recover and --new-epoch %d; the journal then continues from the last state of the copy, without the records before it that are missing",
			c.cfg.Recover, last, st.Version+1, last)
	}
	if data == nil {
		return false, nil
	}
	r, body, err := journal.ReadRecord(data)
	if err == nil {
		err = st.CheckAppend(data, c.cfg.Trust)
	}
	if err == nil && r.Snapshot != nil {
		err = c.putCopiedObjects(ctx, copied, r)
	}
	if err == nil {
		_, err = c.Stream.Append(ctx, st.Sequence, string(r.Kind), data)
	}
	if err == nil {
		err = c.state.WaitForRecord(ctx, r.Version)
	}
	if err != nil {
		return false, c.copyError(err)
	}
	c.recovered = append(c.recovered, recoveredOf(r, body))
	return true, nil
}

// recoveredOf describes a recovered record, which was checked when it was published.
func recoveredOf(r *journal.Record, body []byte) Recovered {
	one := Recovered{Record: *r}
	switch {
	case r.Kind == journal.RecordChanges:
		set, changes, _ := journal.DecodeChanges(r, body) // the check decoded it, too
		one.ChangeSet, one.Count = set, len(changes)
	case r.Snapshot != nil && r.Snapshot.Changes != nil:
		one.ChangeSet, one.Count = &r.Snapshot.Changes.ChangeSet, r.Snapshot.Changes.Count
	}
	return one
}

// Recovered returns the records that this start restored, oldest first. It must not be called before Run has called ready.
func (c *Control) Recovered() []Recovered { return c.recovered }

// beginEpochFromCopy begins a new epoch with the copy's last state, and publishes in it again the records of this journal after the last common record. So
// neither the changes in force on a server nor those pushed here are lost.
func (c *Control) beginEpochFromCopy(ctx context.Context, copied *journal.FolderCopy) error {
	if copied.Incomplete {
		return fmt.Errorf("recover from %s: it lacks a snapshot that its last version needs: use another copy", c.cfg.Recover)
	}
	st, from := c.state.State(), copied.Last
	own, err := c.recordsNotInCopy(ctx, copied, st)
	if err == nil && c.gap != nil {
		from := st.Version
		if copied.Last.Epoch == c.lastEpoch {
			from = max(from, copied.Last.Version)
		}
		var behind []ownRecord
		behind, err = c.recordsBehindGap(ctx, from)
		own = append(own, behind...)
	}
	if err != nil {
		return c.copyError(err)
	}
	ring, err := newerRing(c.cfg.Ring, from.Ring(), c.cfg.Trust)
	if err != nil {
		return c.copyError(err)
	}
	version := max(st.Version, from.Version, copied.Lost, c.endVersion, c.highestKnown()) + 1
	_, err = c.publishEpoch(ctx, max(st.Epoch, from.Epoch, c.lastEpoch)+1, version, ring, from, func(w io.Writer) error { return compact(w, from) })
	if err == nil {
		err = c.state.Wait(ctx, version)
	}
	if err != nil {
		return c.copyError(err)
	}
	c.cfg.Log.Warn("began a new epoch with the state of the copy; records that only this journal holds are published in it again", "copy", c.cfg.Recover,
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
	for v := max(first, copied.Base()+1); v <= from.Version; v++ { // their changes are part of the state that the epoch began with
		if r, body, err := journal.ReadRecord(copied.Record(v)); err == nil {
			c.recovered = append(c.recovered, recoveredOf(r, body))
		}
	}
	c.recovered = append(c.recovered, again...)
	return nil
}

// ownRecord is a record of this journal that is to be published again.
type ownRecord struct {
	record *journal.Record
	body   []byte
}

// recordsNotInCopy returns the records of this journal after the last one that the copy has too, oldest first.
func (c *Control) recordsNotInCopy(ctx context.Context, copied *journal.FolderCopy, st *journal.State) (own []ownRecord, err error) {
	if copied.Last.Epoch != st.Epoch {
		return nil, nil
	}
	for v := st.Version; v >= copied.Base(); v-- {
		hash, err := c.HashAt(ctx, v)
		if err != nil || hash == copied.HashOf(v) {
			break
		}
		data, err := c.Record(ctx, v)
		if errors.Is(err, stream.ErrLost) {
			c.cfg.Log.Error("a record of this journal is lost, and is not in force in the new epoch", "version", v)
			continue
		}
		if err != nil {
			return nil, err
		}
		r, body, err := journal.ReadRecord(data)
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
	case journal.RecordChanges, journal.RecordSuspend, journal.RecordResume, journal.RecordAdvance:
		var done Receipt
		done, err = c.Publish(ctx, Draft{Kind: r.Kind, By: r.By, Approved: r.Approved, Refused: r.Refused, ChangeSetID: r.ChangeSetID, Reason: r.Reason, Body: d.body})
		if err == nil {
			one := recoveredOf(r, d.body)
			one.Record.Version, one.Record.Time = done.Version, done.Time
			return &one
		}
	case journal.RecordSnapshot:
		if r.Snapshot.Changes != nil {
			err = errors.New("it is too large for one record")
		}
	}
	if err == nil {
		return nil
	}
	id := r.ChangeSetID
	if set, _, bad := splitChangeSet(d.body); r.Kind == journal.RecordChanges && bad == nil {
		id = set.ID
	} else if r.Snapshot != nil && r.Snapshot.Changes != nil {
		id = r.Snapshot.Changes.ChangeSet.ID
	}
	c.cfg.Log.Error("a record of this journal could not be published again, and is not in force in the new epoch: push its changes again under another id, or repeat the suspension, resumption or advance", "id", id, "kind", r.Kind, "err", err)
	return nil
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
func (c *Control) putCopiedObjects(ctx context.Context, copied *journal.FolderCopy, r *journal.Record) error {
	for _, name := range r.Snapshot.Names() {
		err := c.putCopiedFile(ctx, copied.ObjectPath(name), name)
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
				r.Version, name, there, copied.Last.Version)
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
