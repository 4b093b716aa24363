package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
)

// wanted is a snapshot being fetched, and the records since.
type pendingSnapshot struct {
	*checked
	announcement    SequencedRecord
	records         []SequencedRecord
	completeVersion uint64 // the last version that is in force without it, whole
}

// InForce is the newest version that is in force whole: a snapshot may still be on its way.
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

// lacks reports whether a snapshot was announced whose content is not in force yet.
func (f *Follower) isIncomplete() bool {
	return f.pending != nil && f.pending.completeVersion < f.pending.Version
}

// fetches reports whether a snapshot is on its way.
func (f *Follower) isFetching() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pending != nil
}

// wake has fetching look whether something is wanted.
func (f *Follower) wakeFetcher() {
	select {
	case f.fetchDue <- struct{}{}:
	default:
	}
}

// jump goes to the newest snapshot, if it is newer than what is in force: control signed that this is the state, whatever came between.
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
		return nil // replaying goes further
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
		err = f.lastBeat().checkKeyAfter(c.Version, c.Time, c.key)
	}
	if err != nil {
		f.countRefused()
		return err
	}
	if c.Kind != RecordSnapshot {
		return fmt.Errorf("record of version %d: %w: it is no snapshot", c.Version, ErrSeal)
	}
	defer f.retain(c.Snapshot)()
	if err := f.fetch(ctx, c.Snapshot, false); err != nil {
		return fmt.Errorf("snapshot of version %d: %w", c.Version, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.rebase(c, e, nil, true); err != nil {
		return err // what is wanted lacks still
	}
	f.pending, f.gap = nil, false
	return nil
}

// fetching brings what snapshots are wanted, beside the records.
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

// fetchWanted brings the snapshot that is wanted, which comes in the place of a damaged one; that one, where none is or none comes.
func (f *Follower) fetchAndRepair(ctx context.Context) error {
	err := f.fetchPending(ctx)
	if repairErr := f.repairSnapshot(ctx); repairErr != nil {
		err = errors.Join(err, fmt.Errorf("the damaged snapshot: %w", repairErr))
	}
	return err
}

// take brings the snapshot that is wanted, and puts it in force.
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
		return nil // a newer one is wanted, and f.wants says so
	}
	if err := f.rebase(pending.checked, pending.announcement, pending.records, false); err != nil {
		return fmt.Errorf("snapshot of version %d: %w", pending.Version, err)
	}
	f.pending = nil
	return nil
}

// repair fetches the snapshot on disk again where that is damaged, and puts it in force under the same records. Where it does not come, the newest of those
// that came since is wanted: its objects may be there still.
func (f *Follower) repairSnapshot(ctx context.Context) error {
	f.mu.Lock()
	base, damaged, err := f.disk.base, f.isDamaged(), error(nil)
	if damaged {
		err = f.disk.flush() // or what is on disk is older than what is in force
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
		return nil // another one came meanwhile
	}
	if fetchErr != nil && (f.pending != nil || f.replacementSought == base) {
		return fetchErr
	}
	st, newer, err := f.reloadState()
	switch {
	case err != nil:
		return errors.Join(fetchErr, err)
	case fetchErr != nil:
		f.pending, f.replacementSought = newer, base // once: it takes as long as there are records
		return fetchErr
	}
	f.damaged = nil
	return f.putInForce(st, Effect{All: true, Incomplete: f.isIncomplete()})
}

// again is what is on disk with the records after it, which must lead to what is in force, and the newest snapshot worth fetching among those; nil for none.
func (f *Follower) reloadState() (st *State, newer *pendingSnapshot, err error) {
	persisted, err := f.disk.loadState(stateName, f.cfg.Trust)
	if err != nil {
		return nil, nil, err
	}
	pending := f.pending
	f.pending = nil // replaying notes what it wants
	st, _, err = f.replay(persisted)
	newer, f.pending = f.pending, pending
	if inForce := f.State().Version; err == nil && st.Version < inForce {
		err = fmt.Errorf("version %d is on disk, and version %d in force", st.Version, inForce)
	}
	return st, newer, err
}

// hold keeps a snapshot's objects on disk until what it returns is called: another snapshot may come into force meanwhile.
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

// fetch brings a snapshot's objects to disk; again, in the place of those that are there.
func (f *Follower) fetch(ctx context.Context, s *Snapshot, replace bool) error {
	open := func(name string) (io.ReadCloser, error) { return f.cfg.Source.Object(ctx, name) }
	if err := f.disk.fetch(s.Object, snapshotSuffix, replace, open); err != nil {
		return err
	}
	if s.Overlay == nil {
		return nil
	}
	return f.disk.fetch(*s.Overlay, overlaySuffix, replace, open)
}

// rebase puts a snapshot that was fetched in force, under the records since.
func (f *Follower) rebase(c *checked, e SequencedRecord, since []SequencedRecord, jumped bool) error {
	view, err := f.disk.open(c.Snapshot)
	if err == nil {
		err = view.Snapshot().Verify() // it came just now: its pages are at hand
		runtime.KeepAlive(view)
	}
	if err != nil {
		return errors.Join(err, f.disk.removeSnapshot(c.Snapshot)) // what lies there under its name is something else: it is fetched again
	}
	base, err := startFrom(c, e.Sequence, view, f.cfg.Node)
	if err != nil {
		return err
	}
	all := !c.Snapshot.Same || jumped || f.isIncomplete() || f.isDamaged() // it brings what was announced before, or was not read
	st := base
	for _, e := range since {
		if st.Hash == HashOf(e.Data) {
			continue // it came twice
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
