package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rempart/blocklist"
	"rempart/internal/durable"
	"rempart/internal/setfile"
	"rempart/internal/signing"
)

const (
	stateName    = "state"          // position in the journal, and the snapshot that the state starts from
	previousName = "state.previous" // the state before the last snapshot
	tailPrefix   = "tail-"          // followed by the version of the state; holds the records after that state, as received
	newSuffix    = ".new"
	maxStateFile = 64 << 20
	maxObject    = 16 << 30
	maxOverlay   = 512 << 20
)

// disk holds a follower's folder: a snapshot, the position in the journal, and the records after the snapshot. Everything is checked again when it is read. It
// must be used by one goroutine at a time, except fetch, which may be called concurrently.
type disk struct {
	dir      string         // constant
	retained map[string]int // number of users of each object that is not in force yet
	activeFiles
}

// activeFiles is the state on disk that is in use, and the file of the records after it.
type activeFiles struct {
	tail           *os.File
	tailSize       int64     // size of the valid part of tail
	reopenVersion  uint64    // version of the state before tail if tail could not be opened; otherwise 0
	unwritten      [][]byte  // frames that could not be written yet
	unwrittenBytes int       // total size of the unwritten frames
	base           *Snapshot // the snapshot of the state on disk
}

// openDisk returns a disk that can be read in any case. The error says why the folder cannot be written.
func openDisk(dir string) (*disk, error) {
	d := &disk{dir: dir, retained: map[string]int{}}
	err := os.MkdirAll(dir, 0o750)
	if err == nil {
		err = durable.Clean(dir)
	}
	return d, err
}

func (d *disk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *disk) objectPath(o Object, suffix string) string { return d.path(o.SHA256 + suffix) }

// persistedState is a state that was read from disk, and the records after it.
type persistedState struct {
	state      *State
	snapshot   *Snapshot
	tail       *tail
	isPrevious bool // true if the newest state could not be read, and this is the state before it
}

// load reads the newest state that is complete, or nil if there is none. The error reports the states that could not be read, also next to a state.
func (d *disk) load(trust []signing.PublicKey) (*persistedState, error) {
	var errs []error
	for _, name := range []string{stateName, previousName} {
		persisted, err := d.loadState(name, trust)
		if err == nil && name == previousName {
			persisted.isPrevious = true
			err = d.readLaterTails(persisted.state.Version, persisted.tail)
		}
		if err == nil {
			return persisted, errors.Join(errs...)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%s: %w", d.path(name), err))
		}
	}
	return nil, errors.Join(errs...)
}

func (d *disk) loadState(name string, trust []signing.PublicKey) (*persistedState, error) {
	data, err := durable.ReadRegular(d.path(name), maxStateFile)
	if err != nil {
		return nil, err
	}
	var f stateFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	st := &State{
		Epoch: f.Epoch, Version: f.Version, Sequence: f.Sequence, Hash: f.Hash, Time: f.Time, Suspended: f.Suspended, Scoped: f.Scoped,
	}
	// The ring was checked when it was received. It may have replaced root keys since, so its own root keys are accepted too.
	own, err := signing.UncheckedRoots(f.Ring)
	if err != nil {
		return nil, err
	}
	if st.ring, err = signing.ParseRing(f.Ring, append(trust[:len(trust):len(trust)], own...)); err != nil {
		return nil, err
	}
	if f.Snapshot == nil {
		return nil, errors.New("the state names no snapshot")
	}
	if st.base, err = d.open(f.Snapshot); err != nil {
		return nil, err
	}
	persisted := &persistedState{state: st, snapshot: f.Snapshot}
	persisted.tail, err = d.readTail(f.Version)
	return persisted, err
}

// open maps a snapshot and applies its overlay. The mapping is freed with the last view of it.
func (d *disk) open(announced *Snapshot) (*blocklist.View, error) {
	f, err := setfile.Open(d.objectPath(announced.Object, SnapshotSuffix))
	switch {
	case err != nil:
		return nil, err
	case announced.Overlay == nil:
		return f.View, nil
	}
	return setfile.Under(f.View, d.objectPath(*announced.Overlay, OverlaySuffix), maxOverlay)
}

// retain prevents a snapshot's objects from being removed before the snapshot is in force, until each call was followed by a call of release.
func (d *disk) retain(s *Snapshot) {
	for _, name := range s.Names() {
		d.retained[name]++
	}
}

func (d *disk) release(s *Snapshot) {
	for _, name := range s.Names() {
		if d.retained[name]--; d.retained[name] == 0 {
			delete(d.retained, name)
		}
	}
}

// fetch writes an object to disk and checks its hash. It does nothing if the object is there, unless replace is set.
func (d *disk) fetch(o Object, suffix string, replace bool, open func(name string) (io.ReadCloser, error)) error {
	if o.Size > maxObject {
		return fmt.Errorf("an object of %d bytes is too large", o.Size)
	}
	path := d.objectPath(o, suffix)
	if info, err := os.Stat(path); err == nil && info.Size() == o.Size && !replace {
		return nil // its hash was checked before the file got this name
	}
	r, err := open(o.SHA256 + suffix)
	if err != nil {
		return err
	}
	defer r.Close()
	return durable.WriteFile(path, func(w io.Writer) error { return copyChecked(w, r, o) })
}

// copyChecked copies an object, and returns an error unless its size and its hash are those of o.
func copyChecked(w io.Writer, r io.Reader, o Object) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, o.Size+1))
	if err != nil {
		return err
	}
	if n != o.Size || hex.EncodeToString(h.Sum(nil)) != o.SHA256 {
		return fmt.Errorf("%w: the object is not the announced one", signing.ErrSeal)
	}
	return nil
}

// writeState writes a state whose snapshot is on disk, and the records after it. Until it returns nil, the previous state stays in use.
func (d *disk) writeState(st *State, snapshot *Snapshot, since []SequencedRecord) error {
	data, err := st.encode(snapshot)
	if err != nil {
		return err
	}
	files, err := d.createTail(st.Version, since)
	if err != nil {
		return err
	}
	files.base = snapshot
	if err := d.replaceState(data); err != nil {
		files.tail.Close()
		return err
	}
	d.closeTail()
	d.activeFiles = files
	return d.removeUnused()
}

// createTail creates the file of records after the state of a version, with the given records.
func (d *disk) createTail(version uint64, records []SequencedRecord) (activeFiles, error) {
	path := d.tailPath(version)
	f, err := os.OpenFile(path+newSuffix, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o640)
	if err != nil {
		return activeFiles{}, err
	}
	n := &disk{dir: d.dir, activeFiles: activeFiles{tail: f}}
	for _, e := range records {
		n.unwritten = append(n.unwritten, frame(e))
	}
	if err := n.flush(); err != nil {
		f.Close()
		return activeFiles{}, err
	}
	if err := durable.Rename(path+newSuffix, path); err != nil {
		f.Close()
		return activeFiles{}, err
	}
	return n.activeFiles, nil
}

// replaceState replaces the file of the state, and keeps the old one as the previous state.
func (d *disk) replaceState(data []byte) error {
	if err := setfile.KeepPrevious(d.path(stateName), d.path(previousName)); err != nil {
		return err
	}
	return durable.WriteBytes(d.path(stateName), data)
}

func (d *disk) tailPath(version uint64) string {
	return d.path(fmt.Sprintf("%s%d", tailPrefix, version))
}

// removeSnapshot removes a damaged snapshot, so that it is fetched again.
func (d *disk) removeSnapshot(s *Snapshot) error {
	err := os.Remove(d.objectPath(s.Object, SnapshotSuffix))
	if s.Overlay != nil {
		err = errors.Join(err, os.Remove(d.objectPath(*s.Overlay, OverlaySuffix)))
	}
	return err
}

// openTail opens the file of records after a version for writing, and truncates it to its valid size.
func (d *disk) openTail(version uint64, good int64) error {
	d.tailSize, d.reopenVersion = good, version
	f, err := os.OpenFile(d.tailPath(version), os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if err := f.Truncate(good); err != nil {
		f.Close()
		return err
	}
	d.tail, d.reopenVersion = f, 0
	return nil
}

// maxUnwrittenBytes bounds the records that wait in memory while the disk cannot be written.
const maxUnwrittenBytes = 64 << 20

// errBufferFull is returned for a record that could neither be written nor kept in memory.
var errBufferFull = errors.New("records cannot be written, and no more fit into memory")

// append writes a record to disk, after the records that could not be written before. If it returns nil, the record is synced. If it returns another error than
// errBufferFull, the record waits in memory and is written with the next one.
func (d *disk) append(e SequencedRecord) error {
	if d.unwrittenBytes+len(e.Data) > maxUnwrittenBytes {
		if err := d.flush(); err != nil {
			return fmt.Errorf("%w: %w", errBufferFull, err)
		}
	}
	d.unwritten = append(d.unwritten, frame(e))
	d.unwrittenBytes += frameHeaderSize + len(e.Data)
	return d.flush()
}

func (d *disk) flush() error {
	if len(d.unwritten) == 0 {
		return nil
	}
	if d.tail == nil && d.reopenVersion > 0 {
		if err := d.openTail(d.reopenVersion, d.tailSize); err != nil {
			return err
		}
	}
	if d.tail == nil {
		return errors.New("there is no snapshot to start from")
	}
	at := d.tailSize
	for _, f := range d.unwritten {
		if _, err := d.tail.WriteAt(f, at); err != nil {
			return err
		}
		at += int64(len(f))
	}
	if err := d.tail.Sync(); err != nil {
		return err
	}
	d.tailSize, d.unwritten, d.unwrittenBytes = at, nil, 0
	return nil
}

// removeUnused removes the files that neither state names and that are not retained.
func (d *disk) removeUnused() error {
	used := map[string]bool{stateName: true, previousName: true}
	for _, name := range []string{stateName, previousName} {
		data, err := durable.ReadRegular(d.path(name), maxStateFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var f stateFile
		if err == nil {
			err = json.Unmarshal(data, &f)
		}
		if err != nil {
			return err
		}
		if f.Snapshot != nil {
			used[f.Snapshot.Object.SHA256+SnapshotSuffix] = true
			if o := f.Snapshot.Overlay; o != nil {
				used[o.SHA256+OverlaySuffix] = true
			}
		}
		used[fmt.Sprintf("%s%d", tailPrefix, f.Version)] = true
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if name := e.Name(); !used[name] && d.retained[name] == 0 && (strings.HasSuffix(name, SnapshotSuffix) || strings.HasSuffix(name, OverlaySuffix) || strings.HasPrefix(name, tailPrefix)) {
			errs = append(errs, os.Remove(d.path(name)))
		}
	}
	return errors.Join(errs...)
}

func (d *disk) closeTail() {
	if d.tail != nil {
		d.tail.Close()
		d.tail = nil
	}
}
