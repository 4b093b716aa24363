package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"rempart/internal/setfile"
	"rempart/internal/signing"
)

// pendingSnapshot is a snapshot that is being fetched, and the records after it.
type pendingSnapshot struct {
	*checked
	announcement    SequencedRecord
	records         []SequencedRecord
	completeVersion uint64 // the last version that is completely in force without this snapshot
}

// InForce returns the newest version that is completely in force. The follower may have a newer version whose snapshot is still being fetched.
func (f *Follower) InForce() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inForce()
}

func (f *Follower) inForce() uint64 {
	if f.isIncomplete() {
		return f.pending.completeVersion
	}
	return f.State().Version
}

// isIncomplete reports whether a snapshot was announced whose content is not in force yet.
func (f *Follower) isIncomplete() bool {
	return f.pending != nil && f.pending.completeVersion < f.pending.Version
}

// IsFetching reports whether a snapshot is being fetched.
func (f *Follower) IsFetching() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pending != nil
}

// wakeFetcher makes fetchSnapshots check for a pending or damaged snapshot.
func (f *Follower) wakeFetcher() {
	select {
	case f.fetchDue <- struct{}{}:
	default:
	}
}

// jumpToNewest puts the newest snapshot in force if it is newer than the state in force. Control signed the snapshot as the whole state, so the records before
// it are not needed.
func (f *Follower) jumpToNewest(ctx context.Context) error {
	e, err := f.cfg.Source.Newest(ctx)
	if err != nil {
		return fmt.Errorf("the newest snapshot: %w", sourceError{err})
	}
	st := f.State()
	r, _, err := ReadRecord(e.Data)
	if err != nil {
		return err
	}
	if r.Version <= st.Version || r.Epoch < st.Epoch {
		f.mu.Lock()
		f.gap = false
		f.mu.Unlock()
		return nil // the records from the source lead further
	}
	from := *st
	if r.Epoch == st.Epoch {
		if err := f.checkFork(ctx, st); err != nil {
			return err
		}
		from.Version, from.Hash = r.Version-1, r.Previous
	}
	c, err := from.check(e.Data, f.cfg.Trust)
	if err == nil {
		err = f.LastHeartbeat().checkKeyAfter(c.Version, c.Time, c.key)
	}
	if err != nil {
		f.countRefused()
		return err
	}
	if c.Kind != RecordSnapshot {
		return fmt.Errorf("record of version %d: %w: not a snapshot", c.Version, signing.ErrSeal)
	}
	defer f.retain(c.Snapshot)()
	if err := f.fetch(ctx, c.Snapshot, false); err != nil {
		return fmt.Errorf("snapshot of version %d: %w", c.Version, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.rebase(c, e, nil, true); err != nil {
		return err // the pending snapshot stays pending
	}
	f.pending, f.gap = nil, false
	return nil
}

// fetchSnapshots fetches pending and damaged snapshots until ctx ends, while records are followed.
func (f *Follower) fetchSnapshots(ctx context.Context) {
	for {
		select {
		case <-f.fetchDue:
		case <-ctx.Done():
			return
		}
		for wait := minRetry; ctx.Err() == nil; wait = min(2*wait, maxRetry) {
			err := f.fetchAndRepair(ctx)
			if err == nil {
				break
			}
			f.setProblem(err.Error())
			if f.pause(ctx, wait+rand.N(wait)) {
				wait = minRetry / 2
			}
		}
	}
}

// fetchAndRepair fetches the pending snapshot, which also replaces a damaged one. If none is pending, or fetching it fails, it fetches the damaged snapshot
// again.
func (f *Follower) fetchAndRepair(ctx context.Context) error {
	err := f.fetchPending(ctx)
	if repairErr := f.repairSnapshot(ctx); repairErr != nil {
		err = errors.Join(err, fmt.Errorf("the damaged snapshot: %w", repairErr))
	}
	return err
}

// fetchPending fetches the pending snapshot and puts it in force.
func (f *Follower) fetchPending(ctx context.Context) error {
	f.mu.Lock()
	pending := f.pending
	f.mu.Unlock()
	if pending == nil {
		return nil
	}
	defer f.retain(pending.Snapshot)()
	if err := f.fetch(ctx, pending.Snapshot, false); err != nil {
		return fmt.Errorf("snapshot of version %d: %w", pending.Version, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending != pending {
		return nil // a newer snapshot is pending, and fetchDue was signalled for it
	}
	if err := f.rebase(pending.checked, pending.announcement, pending.records, false); err != nil {
		return fmt.Errorf("snapshot of version %d: %w", pending.Version, err)
	}
	f.pending = nil
	return nil
}

// repairSnapshot fetches the snapshot on disk again if it is damaged, and puts it in force with the same records. If it cannot be fetched, the newest snapshot
// among the later records becomes pending: its objects may still exist.
func (f *Follower) repairSnapshot(ctx context.Context) error {
	f.mu.Lock()
	base, damaged, err := f.disk.base, f.isDamaged(), error(nil)
	if damaged {
		err = f.disk.flush() // otherwise the state on disk is older than the state in force
	}
	f.mu.Unlock()
	if !damaged || err != nil {
		return err
	}
	defer f.retain(base)()
	fetchErr := f.fetch(ctx, base, true)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.disk.base != base {
		return nil // another snapshot was put in force meanwhile
	}
	if fetchErr != nil && (f.pending != nil || f.replacementSought == base) {
		return fetchErr
	}
	st, newer, err := f.reloadState()
	switch {
	case err != nil:
		return errors.Join(fetchErr, err)
	case fetchErr != nil:
		f.pending, f.replacementSought = newer, base // once only: it reads all records on disk
		return fetchErr
	}
	f.damaged = nil
	return f.putInForce(st, Effect{All: true, Incomplete: f.isIncomplete()})
}

// reloadState returns the state on disk after the records on disk, which must reach the version in force, and the newest snapshot among those records that is
// worth fetching; nil for none.
func (f *Follower) reloadState() (st *State, newer *pendingSnapshot, err error) {
	persisted, err := f.disk.loadState(stateName, f.cfg.Trust)
	if err != nil {
		return nil, nil, err
	}
	pending := f.pending
	f.pending = nil // replay sets it
	st, _, err = f.replay(persisted)
	newer, f.pending = f.pending, pending
	if inForce := f.State().Version; err == nil && st.Version < inForce {
		err = fmt.Errorf("version %d is on disk, but version %d is in force", st.Version, inForce)
	}
	return st, newer, err
}

// retain keeps a snapshot's objects on disk until release is called, even if another snapshot is put in force meanwhile.
func (f *Follower) retain(s *Snapshot) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disk.retain(s)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.disk.release(s)
	}
}

// fetch writes a snapshot's objects to disk. If replace is set, it replaces existing objects.
func (f *Follower) fetch(ctx context.Context, s *Snapshot, replace bool) error {
	open := func(name string) (io.ReadCloser, error) { return f.cfg.Source.Object(ctx, name) }
	if err := f.disk.fetch(s.Object, SnapshotSuffix, replace, open); err != nil {
		return err
	}
	if s.Overlay == nil {
		return nil
	}
	return f.disk.fetch(*s.Overlay, OverlaySuffix, replace, open)
}

// rebase puts a fetched snapshot in force, with the records after it.
func (f *Follower) rebase(c *checked, e SequencedRecord, since []SequencedRecord, jumped bool) error {
	view, err := f.disk.open(c.Snapshot)
	if err == nil {
		err = setfile.Verify(view) // its pages are in memory, because it was just written
	}
	if err != nil {
		return errors.Join(err, f.disk.removeSnapshot(c.Snapshot)) // the file does not hold the snapshot, so it is fetched again
	}
	base, err := startFrom(c, e.Sequence, view, f.cfg.Node)
	if err != nil {
		return err
	}
	all := !c.Snapshot.Same || jumped || f.isIncomplete() || f.isDamaged() // the view may change beyond the later records
	st := base
	for _, e := range since {
		if st.Hash == HashOf(e.Data) {
			continue // received twice
		}
		next, err := st.check(e.Data, f.cfg.Trust)
		if err != nil {
			return err
		}
		if st, _, err = st.next(next, e.Sequence, f.cfg.Node); err != nil {
			return err
		}
	}
	if err := f.disk.writeState(base, c.Snapshot, since); err != nil {
		return err
	}
	f.stats.Snapshots++
	return f.putInForce(st, Effect{Record: c.Record, All: all, Jumped: jumped})
}
