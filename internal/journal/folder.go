package journal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"rempart/internal/durable"
	"rempart/internal/signing"
)

// FolderCopy is the content of a copy of a follower's folder. Control recovers from it the records that its own journal lost. It is not changed after ReadFolder.
type FolderCopy struct {
	Last       *State // the newest state that the files of the copy contain
	Incomplete bool   // the folder lacks a snapshot that Last needs
	Lost       uint64 // a later version that the follower had in force, but whose records the copy lacks; 0 for none
	Damage     error  // why a part of the folder could not be read; nil if all could

	disk     *disk
	records  map[uint64][]byte // by version; the records after the snapshot on disk
	base     *State            // the state of that snapshot
	snapshot *Snapshot
}

// ReadFolder reads a copy of a follower's folder without changing it. trust holds root keys; root keys that replaced them, according to the key ring in the folder,
// are accepted as well.
func ReadFolder(dir string, trust []signing.PublicKey, log *slog.Logger) (*FolderCopy, error) {
	d := &disk{dir: dir}
	persisted, damage := d.load(trust)
	switch {
	case persisted == nil && damage != nil:
		return nil, fmt.Errorf("the folder holds no state of a journal: %w", damage)
	case persisted == nil:
		return nil, errors.New("the folder holds no state of a journal")
	}
	f := &Follower{cfg: FollowerConfig{Trust: trust, Node: Node{Control: true}}, log: log}
	last, replayed, err := f.replay(persisted)
	if err != nil {
		return nil, err
	}
	if damage == nil && replayed.damaged {
		damage = errors.New("records in the folder are damaged")
	}
	lost := uint64(0)
	if newest := d.readMark(); newest.after(mark{last.Epoch, last.Version}) {
		lost = newest.Version
	}
	copied := &FolderCopy{Last: last, Incomplete: f.isIncomplete(), Lost: lost, Damage: damage, disk: d, records: map[uint64][]byte{}, base: persisted.state, snapshot: persisted.snapshot}
	for _, e := range persisted.tail.entries {
		if r, _, err := ReadRecord(e.Data); err == nil {
			copied.records[r.Version] = e.Data
		}
	}
	return copied, nil
}

// Base returns the version of the snapshot in the folder. Records of later versions may be in the folder.
func (c *FolderCopy) Base() uint64 { return c.base.Version }

// Record returns the record of a version; nil if the folder does not hold it.
func (c *FolderCopy) Record(version uint64) []byte { return c.records[version] }

// HashOf returns the hash of the record of a version; "" if the folder does not show it.
func (c *FolderCopy) HashOf(version uint64) string {
	if version == c.base.Version {
		return c.base.Hash
	}
	if data, ok := c.records[version]; ok {
		return HashOf(data)
	}
	if r, _, err := ReadRecord(c.records[version+1]); err == nil {
		return r.Previous
	}
	return ""
}

// ObjectPath returns the path of the file of a snapshot's object, which may not exist.
func (c *FolderCopy) ObjectPath(name string) string { return c.disk.path(name) }

// Adopt replaces the follower's files and state by those of a copy: its snapshot, and the records after the snapshot. sequence returns the stream sequence of a
// version. Adopt must be called after Start and before Run; it calls Start again.
func (f *Follower) Adopt(copied *FolderCopy, sequence func(version uint64) uint64) error {
	for _, name := range copied.snapshot.Names() {
		if err := copyFile(copied.disk.path(name), f.disk.path(name)); err != nil {
			return err
		}
	}
	base := *copied.base
	base.Sequence = sequence(base.Version)
	var since []SequencedRecord
	for v := base.Version + 1; v <= copied.Last.Version; v++ {
		if data, ok := copied.records[v]; ok {
			since = append(since, SequencedRecord{sequence(v), data})
		}
	}
	if err := f.disk.writeState(&base, copied.snapshot, since); err != nil {
		return err
	}
	f.disk.closeTail()
	return f.Start()
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	return durable.WriteFile(to, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}
