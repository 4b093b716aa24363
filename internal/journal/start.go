package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"syscall"

	"rempart/blocklist"
	"rempart/internal/setfile"
	"rempart/internal/signing"
)

// Start puts the persisted state in force, without the source. A folder that cannot be written is an error for control only; other followers keep records in
// memory until it can be written. Otherwise an error means that the folder is misconfigured.
func (f *Follower) Start() error {
	disk, err := openDisk(f.cfg.Dir)
	f.disk = disk
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("folder %s: %w", f.cfg.Dir, err)
	}
	if err := f.acceptUnwritable(err); err != nil {
		return err
	}
	f.lostMark = f.disk.readMark()
	persisted, err := f.disk.load(f.cfg.Trust)
	if err != nil {
		f.log.Error("reading the state on disk failed", "err", err)
	}
	if persisted == nil {
		return nil // Run starts with the newest snapshot
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st, r, err := f.replay(persisted)
	if err != nil {
		f.log.Error("the state on disk cannot be put in force", "err", err)
		return nil
	}
	f.salvaged = r.salvaged
	good, err := f.setDamagedAside(persisted, st, r)
	if err := f.acceptUnwritable(err); err != nil {
		return err
	}
	if err := f.acceptUnwritable(f.disk.openTail(persisted.state.Version, good)); err != nil {
		return err
	}
	f.verify.Go(func() { // in the background, because it reads the whole snapshot; damage can only hide listings
		if err := setfile.Verify(persisted.state.base); err != nil {
			f.log.Error("the snapshot on disk is damaged; fetching it again", "err", err)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.damaged = persisted.snapshot
			f.wakeFetcher()
		}
	})
	f.disk.base = persisted.snapshot
	return f.putInForce(st, Effect{All: true, Incomplete: f.isIncomplete()})
}

// acceptUnwritable returns an error of the folder at control. Other followers continue without writing, and log the error.
func (f *Follower) acceptUnwritable(err error) error {
	if err == nil {
		return nil
	}
	if f.cfg.Node.Control {
		return fmt.Errorf("folder %s: %w", f.cfg.Dir, err)
	}
	f.setUnwritable(err)
	return nil
}

// setUnwritable logs that the folder cannot be written.
func (f *Follower) setUnwritable(err error) {
	if f.unwritten == "" {
		f.log.Error("the folder cannot be written: the state on disk is in force, but new changes would be missing after a restart without control; trying again",
			"folder", f.cfg.Dir, "err", err)
	}
	f.unwritten = err.Error()
}

// setDamagedAside renames damaged files, and writes the valid records in their place. It returns the size of the valid part of the file of records, in bytes.
func (f *Follower) setDamagedAside(persisted *persistedState, st *State, r *replayResult) (good int64, err error) {
	below := f.lostMark.after(mark{st.Epoch, st.Version})
	if !r.damaged && !persisted.isPrevious && !below {
		return r.good, nil
	}
	damaged := r.damaged || below && persisted.tail.isTorn
	shown := st.Version
	if r.salvaged != nil {
		shown = r.salvaged.Version
	}
	f.log.Error("the state on disk was damaged: damaged files are set aside, the valid part is in force, and the rest is fetched from control", "folder", f.cfg.Dir,
		"version", st.Version, "with_records_up_to", shown, "was", f.lostMark.Version)
	if !damaged && !persisted.isPrevious {
		return r.good, nil
	}
	size, err := f.disk.rewriteTail(persisted.state.Version, r.entries, damaged)
	if err != nil {
		return r.good, err
	}
	if persisted.isPrevious {
		err = f.disk.setAside(stateName)
	}
	return size, err
}

// replayResult is the result of replaying records from disk.
type replayResult struct {
	good     int64 // size in bytes of the part of the file to keep, if the file is not damaged
	entries  []SequencedRecord
	damaged  bool   // some records are not valid
	salvaged *State // a later state, which includes records behind missing ones; nil for none
}

// replay returns the persisted state after the records on disk, as far as they are valid and bound to each other.
func (f *Follower) replay(persisted *persistedState) (st *State, r *replayResult, err error) {
	if st, err = persisted.state.buildViews(f.cfg.Node); err != nil {
		return nil, nil, err
	}
	r = &replayResult{damaged: persisted.tail.damaged}
	for i, e := range persisted.tail.entries {
		if st.Hash == HashOf(e.Data) { // written twice
			r.good += int64(frameHeaderSize + len(e.Data))
			continue
		}
		n, err := f.replayOne(st, e)
		if err != nil {
			return f.replayDamaged(st, r, persisted.tail, i), r, nil
		}
		st = n
		r.damaged = r.damaged || persisted.tail.isTorn && i == len(persisted.tail.entries)-1 // the record is valid, but its length field is damaged
		r.good += int64(frameHeaderSize + len(e.Data))
		r.entries = append(r.entries, e)
	}
	return st, r, nil
}

func (f *Follower) replayOne(st *State, e SequencedRecord) (*State, error) {
	c, err := st.check(e.Data, f.cfg.Trust)
	if err != nil {
		return nil, err
	}
	n, _, err := f.next(st, c, e)
	return n, err
}

// replayDamaged replays the records from an index on, of which some are not valid or not in order, ordered by version. Records behind a missing one are signed
// by control and bound to each other: they make up the salvaged state, which is shown until the missing record arrived.
func (f *Follower) replayDamaged(st *State, r *replayResult, t *tail, from int) *State {
	var left []SequencedRecord
	version := map[string]uint64{}
	for i, e := range t.entries[from:] {
		head, _, err := ReadRecord(e.Data)
		if err != nil {
			r.damaged = r.damaged || !t.isTorn || from+i < len(t.entries)-1
			continue
		}
		version[HashOf(e.Data)] = head.Version
		left = append(left, e)
	}
	slices.SortStableFunc(left, func(a, b SequencedRecord) int { return cmp.Compare(version[HashOf(a.Data)], version[HashOf(b.Data)]) })
	r.good = t.size
	shown := st
	for _, e := range left {
		if shown.Hash == HashOf(e.Data) || version[HashOf(e.Data)] <= st.Version {
			continue
		}
		if shown == st {
			if n, err := f.replayOne(st, e); err == nil {
				st, shown = n, n
				r.entries = append(r.entries, e)
				continue
			}
		}
		n, err := shown.salvage(e, f.cfg.Trust, f.cfg.Node)
		if err != nil {
			f.log.Warn("a record on disk is not valid; fetching it again", "after", shown.Version, "err", err)
			r.damaged = true
			continue
		}
		shown, r.entries = n, append(r.entries, e)
	}
	if shown != st {
		r.salvaged = shown
	}
	return st
}

// salvage returns the state after a record of the same epoch, even if records before it are missing.
func (st *State) salvage(e SequencedRecord, trust []signing.PublicKey, node Node) (*State, error) {
	head, _, err := ReadRecord(e.Data)
	if err != nil {
		return nil, err
	}
	from := *st
	if head.Epoch == st.Epoch && head.Version > st.Version+1 {
		from.Version, from.Hash = head.Version-1, head.Previous
	}
	c, err := from.check(e.Data, trust)
	if err != nil {
		return nil, err
	}
	n, _, err := st.next(c, e.Sequence, node)
	return n, err
}

// LoadPersisted returns the view that a follower of that configuration last had in force. It reads the folder while another process may be using it, and asks
// no source. The error wraps fs.ErrNotExist if there is none yet.
func LoadPersisted(cfg FollowerConfig) (*blocklist.View, error) {
	f := &Follower{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	persisted, err := (&disk{dir: cfg.Dir}).load(cfg.Trust)
	if persisted == nil {
		if err == nil {
			err = fs.ErrNotExist
		}
		return nil, fmt.Errorf("folder %s: %w", cfg.Dir, err)
	}
	st, r, err := f.replay(persisted)
	if err != nil {
		return nil, err
	}
	f.salvaged = r.salvaged
	return f.localView(st)
}
