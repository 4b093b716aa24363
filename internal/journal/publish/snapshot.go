package publish

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/internal/durable"
	"rempart/internal/journal"
	"rempart/internal/setfile"
	"rempart/internal/signing"
)

const (
	// snapshotOverlay is the number of overlay entries above which a new snapshot is published.
	snapshotOverlay = 50_000
	// snapshotRecords is the number of records after which a new snapshot is published in any case.
	snapshotRecords = 5_000
)

// objectRetention is how long a snapshot's objects are kept after the next snapshot, because nodes may be fetching them.
const objectRetention = time.Hour

// removeOldObjects removes the objects of old snapshots. Change sets are kept, because they are part of the journal.
func (p *publisher) removeOldObjects(ctx context.Context) {
	newest, err := p.source.Newest(ctx)
	if err != nil {
		return
	}
	r, _, err := journal.ReadRecord(newest.Data)
	if err != nil || r.Snapshot == nil {
		return
	}
	current := r.Snapshot.Names()
	objects, err := p.stream.Objects(ctx)
	for _, o := range objects {
		old := time.Since(o.ModTime) > objectRetention && !slices.Contains(current, o.Name)
		if old && (strings.HasSuffix(o.Name, journal.SnapshotSuffix) || strings.HasSuffix(o.Name, journal.OverlaySuffix)) {
			err = errors.Join(err, p.stream.DeleteObject(ctx, o.Name))
		}
	}
	if err != nil && ctx.Err() == nil {
		p.logger.Warn("removing objects of old snapshots failed", "err", err)
	}
}

// Compact publishes the current state as a snapshot, so that new edges need not replay records.
func (p *publisher) Compact(ctx context.Context) (Receipt, error) {
	return p.PublishSnapshot(ctx, SnapshotDraft{Same: true, Compile: compact})
}

// compact writes a state as a snapshot.
func compact(w io.Writer, st *journal.State) error { return st.View().Compact(w, st.ViewInfo()) }

// SnapshotDraft is a snapshot to be published.
type SnapshotDraft struct {
	Same     bool // the state does not change
	By       string
	Approved []string
	Changes  *journal.LargeChangeSet
	// Compile writes the new state. Records that are published while it runs are added to the snapshot as an overlay.
	Compile func(w io.Writer, st *journal.State) error

	repairs bool // the snapshot replaces lost records, so that damage is no reason to refuse it
}

// PublishSnapshot writes a snapshot, stores it as an object and announces it. If it returns nil, the snapshot is durable; Follower.Wait waits until it is in
// force here.
func (p *publisher) PublishSnapshot(ctx context.Context, l SnapshotDraft) (Receipt, error) {
	if err := p.Damaged(); err != nil && !l.repairs {
		return Receipt{}, err
	}
	p.snapshots.Lock()
	defer p.snapshots.Unlock()
	for range maxPublishTries {
		if r, err := p.trySnapshot(ctx, l); !errors.Is(err, errSnapshotFirst) {
			return r, err
		}
	}
	return Receipt{}, fmt.Errorf("another control published a snapshot first %d times: try again", maxPublishTries)
}

// errSnapshotFirst is returned if another control's snapshot was published first: the written snapshot lacks its content.
var errSnapshotFirst = errors.New("another snapshot was published first")

func (p *publisher) trySnapshot(ctx context.Context, l SnapshotDraft) (Receipt, error) {
	st, err := p.startGathering(ctx)
	defer p.stopGathering()
	if err != nil {
		return Receipt{}, err
	}
	overriding, err := p.overridingChanges(ctx, l.Changes, st.Scoped)
	if err != nil {
		return Receipt{}, err
	}
	object, view, err := p.writeSnapshot(ctx, func(w io.Writer) error { return l.Compile(w, st) })
	if err != nil {
		return Receipt{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.announce(ctx, l, st, overriding, object, view)
}

// overridingChanges returns the changes of a large change set that replace scoped changes, one per name and scope.
func (p *publisher) overridingChanges(ctx context.Context, l *journal.LargeChangeSet, scoped []journal.Scoped) (overriding []journal.Change, err error) {
	if l == nil || len(scoped) == 0 {
		return nil, nil
	}
	type nameScope struct{ name, scope string }
	sought := map[nameScope]bool{}
	for _, s := range scoped {
		for _, scope := range []string{"", blocklist.Exact.String(), blocklist.Subtree.String(), blocklist.Below.String()} {
			sought[nameScope{s.Change.Name, scope}] = true
		}
	}
	for c, err := range p.largeChanges(ctx, l) {
		if err != nil {
			return nil, fmt.Errorf("change set %s: %w", l.ChangeSet.ID, err)
		}
		w := nameScope{c.Name, c.Scope}
		if c.Scope == "" && c.Do != journal.Withdraw {
			w.scope = blocklist.Subtree.String()
		}
		if sought[w] {
			sought[w], overriding = false, append(overriding, c)
		}
	}
	return overriding, nil
}

// largeChanges reads the changes of a large change set that apply, and checks the object's hash at the end.
func (p *publisher) largeChanges(ctx context.Context, l *journal.LargeChangeSet) iter.Seq2[journal.Change, error] {
	return func(yield func(journal.Change, error) bool) {
		o, err := p.stream.Object(ctx, l.Object.SHA256+journal.ChangeSetSuffix)
		if err != nil {
			yield(journal.Change{}, err)
			return
		}
		defer o.Close()
		hash := sha256.New()
		lines := bufio.NewReaderSize(io.TeeReader(o, hash), 256<<10)
		if _, err := journal.ReadLine(lines, journal.MaxLine); err != nil { // the line of the change set itself
			yield(journal.Change{}, err)
			return
		}
		for c, err := range journal.SkipRefused(journal.ReadChanges(lines), l.Refused) {
			if !yield(c, err) || err != nil {
				return
			}
		}
		if hex.EncodeToString(hash.Sum(nil)) != l.Object.SHA256 {
			yield(journal.Change{}, fmt.Errorf("%w: the object is not the signed one", signing.ErrSeal))
		}
	}
}

// writeSnapshot stores the snapshot that compile writes as an object, and opens it.
func (p *publisher) writeSnapshot(ctx context.Context, compile func(io.Writer) error) (object journal.Object, view *blocklist.View, err error) {
	object, err = p.storeObject(ctx, journal.SnapshotSuffix, compile, func(path string) error {
		f, err := setfile.Open(path)
		if err == nil {
			view = f.View // the mapping stays valid after the file is removed
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("write a snapshot: %w", err)
	}
	return object, view, err
}

// announce publishes the record of a snapshot that was made from a state, with an overlay of the changes since. overriding holds the draft's changes that
// replace scoped changes.
func (p *publisher) announce(ctx context.Context, l SnapshotDraft, from *journal.State, overriding []journal.Change, object journal.Object, view *blocklist.View) (Receipt, error) {
	id := ""
	if l.Changes != nil {
		id = l.Changes.ChangeSet.ID
	}
	return p.append(ctx, id, func(st *journal.State) (*journal.Record, []byte, error) { // called again if another control appended first
		s := &journal.Snapshot{
			Object: object, Same: l.Same, Changes: l.Changes, Count: view.Stats().Names, Suspended: st.Suspended, Scoped: st.Scoped,
		}
		if len(overriding) > 0 {
			if s.Scoped = journal.RemainingScoped(st.Scoped, from.Scoped, overriding); len(s.Scoped) > journal.MaxScoped {
				return nil, nil, fmt.Errorf("%w: more than %d changes would be in force on some nodes only: advance or withdraw others first", journal.ErrChanges, journal.MaxScoped)
			}
		}
		since, outdated := p.gatheredSince(from.Version)
		if outdated {
			return nil, nil, errSnapshotFirst
		}
		if len(since) > 0 {
			after, err := view.With(blocklist.Info{Version: st.Version, Created: time.Now()}, since)
			if err != nil {
				return nil, nil, err
			}
			o, err := p.storeObject(ctx, journal.OverlaySuffix, func(w io.Writer) error {
				_, err := w.Write(after.Overlay())
				return err
			}, nil)
			if err != nil {
				return nil, nil, err
			}
			s.Overlay, s.Count = &o, after.Stats().Names
		}
		return &journal.Record{Kind: journal.RecordSnapshot, By: l.By, Approved: l.Approved, Snapshot: s}, st.Ring(), nil
	})
}

// publishEpoch publishes the first record of an epoch: a snapshot under a ring. The scoped changes and the suspension are taken from a state, which may belong to
// another history.
func (p *publisher) publishEpoch(ctx context.Context, epoch, version uint64, ring []byte, from *journal.State, compile func(w io.Writer) error) (Receipt, error) {
	p.snapshots.Lock()
	defer p.snapshots.Unlock()
	object, view, err := p.writeSnapshot(ctx, compile)
	if err != nil {
		return Receipt{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetChangeSets()
	return p.append(ctx, "", func(st *journal.State) (*journal.Record, []byte, error) {
		s := &journal.Snapshot{Object: object, Count: view.Stats().Names, Suspended: from.Suspended, Scoped: from.Scoped}
		return &journal.Record{Epoch: epoch, Version: version, Kind: journal.RecordSnapshot, Previous: st.Hash, Snapshot: s}, ring, nil
	})
}

// startGathering starts to record effects, and returns the state from which a snapshot is written. That state is completely in force: otherwise the snapshot
// would lack the content of the last one.
func (p *publisher) startGathering(ctx context.Context) (*journal.State, error) {
	p.gathered.Lock()
	p.gathered.active = true
	p.gathered.Unlock()
	for {
		whole := p.follower.InForce()
		st := p.follower.State()
		if st.Version <= whole {
			return st, nil
		}
		if err := p.follower.Wait(ctx, st.Version); err != nil {
			return nil, fmt.Errorf("waiting for the last snapshot: %w", err)
		}
	}
}

// gatheredSince returns the changes after a version. outdated is true if they are not complete, because another snapshot was published.
func (p *publisher) gatheredSince(after uint64) (changes []blocklist.Change, outdated bool) {
	p.gathered.Lock()
	defer p.gathered.Unlock()
	for _, a := range p.gathered.applied {
		if a.version > after {
			changes = append(changes, a.changes...)
		}
	}
	return changes, p.gathered.snapshot > after
}

func (p *publisher) stopGathering() {
	p.gathered.Lock()
	defer p.gathered.Unlock()
	p.gathered.active, p.gathered.applied = false, nil
}

// storeObject stores the output of write as an object that is named by its hash and suffix. stored, which may be nil, is called with the path of the temporary
// file before it is removed.
func (p *publisher) storeObject(ctx context.Context, suffix string, write func(io.Writer) error, stored func(path string) error) (o journal.Object, err error) {
	f, err := durable.CreateTemp(p.dir, strings.TrimPrefix(suffix, ".")) // in the follower's folder, whose temporary files are removed at the next start
	if err != nil {
		return o, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	if err := write(io.MultiWriter(f, h)); err != nil {
		return o, err
	}
	if o.Size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return o, err
	}
	o.SHA256 = hex.EncodeToString(h.Sum(nil))
	if err = p.putFile(ctx, f, o.SHA256+suffix); err == nil && stored != nil {
		err = stored(f.Name())
	}
	return o, err
}

func (p *publisher) putFile(ctx context.Context, f *os.File, name string) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := p.stream.PutObject(ctx, name, f); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return nil
}

// PutChangeSet stores the bytes that an author signed for a large change set, and returns their object.
func (p *publisher) PutChangeSet(ctx context.Context, f *os.File) (journal.Object, error) {
	h := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return journal.Object{}, err
	}
	n, err := io.Copy(h, f)
	if err != nil {
		return journal.Object{}, err
	}
	o := journal.Object{SHA256: hex.EncodeToString(h.Sum(nil)), Size: n}
	return o, p.putFile(ctx, f, o.SHA256+journal.ChangeSetSuffix)
}
