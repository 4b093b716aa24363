package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"rempart/blocklist"
	"rempart/internal/signing"
)

// SequencedRecord is a journal record together with its stream sequence.
type SequencedRecord struct {
	Sequence uint64 // 0 if the source has no sequences
	Data     []byte
}

// Position is the record after which following continues.
type Position struct{ Version, Sequence uint64 }

// A Consumer receives records and heartbeats from a Source. If a method returns an error, Follow returns that error. Record and Heartbeat may be called
// concurrently with each other.
type Consumer interface {
	Record(SequencedRecord) error
	Heartbeat(data []byte) error
}

// Source reads a journal from a stream, a control's URL or a mirror. A follower verifies everything that a Source returns.
type Source interface {
	// Follow calls consumer with each record after a position, in order, as records are published, and with heartbeats. It returns when ctx ends, or with the
	// first error of the consumer or the source.
	Follow(ctx context.Context, after Position, to Consumer) error
	// Newest returns the record of the newest snapshot.
	Newest(ctx context.Context) (SequencedRecord, error)
	// Object opens the object of a name. The caller closes it.
	Object(ctx context.Context, name string) (io.ReadCloser, error)
	// Report sends this node's Status to control. It may be lost without an error.
	Report(ctx context.Context, status []byte) error
}

// FollowerConfig configures a Follower.
type FollowerConfig struct {
	Dir     string // folder for the state in force; used by one process only
	Source  Source
	Trust   []signing.PublicKey // root keys
	Node    Node
	Totals  func() (queries, blocked uint64)                    // queries and blocked queries since the start of the process, for reports; may be nil
	Changed func(before, after *blocklist.View, e Effect)       // called after each record was put in force, never concurrently; may be nil
	Log     *slog.Logger                                        // nil discards
	Refresh func(view *blocklist.View) (*blocklist.View, error) // applies the settings of this machine to a view; may be nil
}

// Follower keeps a blocklist.Set at the newest version of a journal. Start and then Run must be called by one goroutine; the other methods are safe for
// concurrent use.
type Follower struct {
	cfg   FollowerConfig
	log   *slog.Logger
	set   *blocklist.Set
	disk  *disk
	state atomic.Pointer[State]

	mu                sync.Mutex    // guards the fields below, and every change of state and disk
	applied           chan struct{} // closed and replaced when a state is put in force
	reportDue         chan struct{} // makes reportLoop send a report at once
	retry             chan struct{} // closed and replaced by RetryNow
	pending           *pendingSnapshot
	fetchDue          chan struct{}
	lostMark          mark      // the newest version that was ever in force in the folder, if that is later than the version in force
	salvaged          *State    // view to show instead of an earlier state of the same epoch: it includes records behind those that are missing on disk; nil for none
	gap               bool      // the records after the state are missing at the source
	damaged           *Snapshot // snapshot on disk that is damaged
	replacementSought *Snapshot // damaged snapshot for which a newer one was already looked for
	beat              Heartbeat
	beatData          []byte
	beatArrived       chan struct{} // closed and replaced when a heartbeat is accepted
	beatReceived      time.Time     // measured by the monotonic clock, so that a wrong clock cannot hide an age
	offset            clockOffset
	started           time.Time
	problem           string
	outage            outage
	unwritten         string
	took              time.Duration // time from control's signature until the last record was in force
	stats             Stats
	verify            sync.WaitGroup
}

// Stats counts a follower's events since the start.
type Stats struct {
	Records   uint64 // put in force
	Refused   uint64 // records and heartbeats with an invalid signature, order or time
	Snapshots uint64 // fetched
}

const (
	minRetry       = 200 * time.Millisecond
	maxRetry       = 8 * time.Second
	reportInterval = 10 * time.Second
	// largeOverlay is the number of overlay entries above which a snapshot of the state in force is fetched.
	largeOverlay = 20_000
	// largeTail is the size of the records on disk, in bytes, above which a snapshot of the state in force is fetched, because the records are replayed at each
	// start.
	largeTail = 32 << 20
	// farBehind is the number of missing records above which the newest snapshot is fetched instead of the records.
	farBehind = 2_000
)

// NewFollower returns a follower. Its set is empty until Start is called.
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	if cfg.Source == nil || cfg.Dir == "" || len(cfg.Trust) == 0 {
		return nil, errors.New("a follower needs a folder, a source and a root key to trust")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	empty, err := emptyView()
	if err != nil {
		return nil, err
	}
	f := &Follower{cfg: cfg, log: cfg.Log, set: blocklist.NewSet(empty), applied: make(chan struct{}), reportDue: make(chan struct{}, 1), retry: make(chan struct{}), fetchDue: make(chan struct{}, 1), beatArrived: make(chan struct{}), started: time.Now()}
	f.state.Store(&State{base: empty, view: empty})
	return f, nil
}

func emptyView() (*blocklist.View, error) {
	var b bytes.Buffer
	if err := blocklist.Compile(&b, blocklist.Info{}); err != nil {
		return nil, err
	}
	return blocklist.OpenView(b.Bytes(), nil)
}

// Set returns the set in force. It is the same value for the follower's lifetime.
func (f *Follower) Set() *blocklist.Set { return f.set }

// State returns the state in force.
func (f *Follower) State() *State { return f.state.Load() }

// View returns the state's view without the settings of this machine.
func (st *State) View() *blocklist.View { return st.view }

// Ring returns the sealed key ring in force; nil for none.
func (st *State) Ring() []byte {
	if st.ring == nil {
		return nil
	}
	return st.ring.Sealed
}

// next returns the state after a checked record. A snapshot's content is fetched in the background, and the records after it are applied to it.
func (f *Follower) next(st *State, c *checked, e SequencedRecord) (*State, *Effect, error) {
	n, effect, err := st.next(c, e.Sequence, f.cfg.Node)
	if err != nil {
		return nil, nil, err
	}
	if f.pending != nil {
		if f.pending.records = append(f.pending.records, e); len(f.pending.records) > farBehind && f.pending.completeVersion >= f.pending.Version {
			f.pending = nil // the state of this snapshot is in force already
		}
	}
	lacks := f.isIncomplete()
	if s := c.Snapshot; s != nil && (!s.Same || lacks || f.snapshotIsWorthFetching(st)) {
		w := &pendingSnapshot{checked: c, announcement: e, completeVersion: st.Version}
		switch {
		case lacks: // this snapshot includes the pending one, whose objects may be deleted already
			w.completeVersion = f.pending.completeVersion
		case s.Same:
			w.completeVersion = c.Version
		}
		f.pending = w
		f.wakeFetcher()
	}
	effect.Incomplete = f.isIncomplete()
	return n, effect, nil
}

// snapshotIsWorthFetching reports whether a snapshot should be fetched although its state is in force.
func (f *Follower) snapshotIsWorthFetching(st *State) bool {
	return st.view.Stats().Overlay > largeOverlay || f.disk != nil && (f.disk.tailSize > largeTail || f.isDamaged())
}

// isDamaged reports whether the snapshot on disk is known to be damaged.
func (f *Follower) isDamaged() bool { return f.damaged != nil && f.damaged == f.disk.base }

// Run follows the journal until ctx ends. On every error the state in force stays.
func (f *Follower) Run(ctx context.Context) error {
	var background sync.WaitGroup
	background.Go(func() { f.reportLoop(ctx) })
	background.Go(func() { f.fetchSnapshots(ctx) })
	defer func() {
		background.Wait()
		f.verify.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.disk.closeTail()
	}()
	wait := minRetry
	var epochEnd *State // the last state of the previous epoch
	for ctx.Err() == nil {
		started := time.Now()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if st := f.State(); errors.Is(err, errNewEpoch) && st != epochEnd { // the second time for one state the source has a record of the new epoch, but no snapshot
			epochEnd = st
			f.log.Info("a new epoch of the journal began; fetching its first snapshot")
			continue
		}
		if f.State().Version > 0 || !f.cfg.Node.Control { // control has to publish its first record itself
			f.failed(started, err)
		}
		if time.Since(started) > maxRetry {
			wait = minRetry
		}
		if f.pause(ctx, wait+rand.N(wait)) {
			wait = minRetry
			continue
		}
		wait = min(2*wait, maxRetry)
	}
	return nil
}

var errNewEpoch = errors.New("a new epoch of the journal began")

// RetryNow ends the wait before the next attempt to reach control, if one is in progress: the caller knows that the network is back.
func (f *Follower) RetryNow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.retry)
	f.retry = make(chan struct{})
}

// pause waits for d, or until RetryNow is called or ctx ends. It reports whether RetryNow was called.
func (f *Follower) pause(ctx context.Context, d time.Duration) (now bool) {
	f.mu.Lock()
	retry := f.retry
	f.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-retry:
		return true
	case <-ctx.Done():
	}
	return false
}

// follow puts the newest snapshot in force if that is needed, and follows the source until an error occurs.
func (f *Follower) follow(ctx context.Context) error {
	if f.needsNewest() {
		if err := f.jumpToNewest(ctx); err != nil {
			return err
		}
	}
	st := f.State()
	reader := &followerConsumer{f: f}
	err := f.cfg.Source.Follow(ctx, Position{st.Version, st.Sequence}, reader)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gap = f.gap || errors.Is(err, ErrGap)
	if err == nil {
		err = errors.New("the source ended")
	}
	if !reader.refused.Load() {
		err = sourceError{err}
	}
	return err
}

// needsNewest reports whether following must start with the newest snapshot: there is no state, records are missing, or the last heartbeat names another epoch
// or a version far ahead.
func (f *Follower) needsNewest() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.State()
	return st.Version == 0 || f.gap || f.beat.Epoch > st.Epoch || f.beat.Version > st.Version+farBehind
}

// followerConsumer is the Consumer that verifies records and heartbeats and puts them in force.
type followerConsumer struct {
	f            *Follower
	gotHeartbeat bool        // since following started; guarded by f.mu
	refused      atomic.Bool // true if the follower ended following by refusing a record or heartbeat. Atomic because records and heartbeats arrive in two goroutines
}

// Record verifies a record and puts it in force.
func (w *followerConsumer) Record(e SequencedRecord) error {
	err := w.record(e)
	if err != nil {
		w.refused.Store(true)
	}
	return err
}

func (w *followerConsumer) record(e SequencedRecord) error {
	f := w.f
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.State()
	if w := f.pending; w != nil && len(w.records) > farBehind { // the snapshot must be in force first
		f.gap = true // fetch this snapshot or a newer one
		return fmt.Errorf("the snapshot of version %d was not fetched yet, and too many records wait for it", w.Version)
	}
	c, err := st.check(e.Data, f.cfg.Trust)
	if err == nil {
		err = f.beat.checkKeyAfter(c.Version, c.Time, c.key)
	}
	if err != nil {
		f.stats.Refused++
		f.gap = errors.Is(err, ErrGap)
		return err
	}
	if c.Epoch != st.Epoch {
		f.gap = true // the newest snapshot begins the epoch
		return errNewEpoch
	}
	n, effect, err := f.next(st, c, e)
	if err != nil {
		f.stats.Refused++
		return err
	}
	if err := f.persist(e, n.Version); err != nil {
		return err
	}
	return f.putInForce(n, *effect)
}

// persist writes a record to disk. If the disk cannot be written, the record is put in force all the same and written later.
func (f *Follower) persist(e SequencedRecord, version uint64) error {
	err := f.disk.append(e)
	switch {
	case err == nil:
		f.unwritten = ""
		return nil
	case errors.Is(err, errBufferFull):
		return err
	case f.unwritten == "":
		f.log.Error("changes are in force but cannot be written to disk, and would be missing after a restart without control; trying again", "version", version, "err", err)
	}
	f.unwritten = err.Error()
	return nil
}

// putInForce replaces the set's view and notifies the waiting goroutines.
func (f *Follower) putInForce(n *State, effect Effect) error {
	before := f.set.View()
	after, err := f.localView(n)
	if err != nil {
		return err
	}
	if after.Stamp() <= before.Stamp() { // the same version, from another mapping
		after = after.Revise(before)
	}
	if err := f.set.Replace(after); err != nil {
		return err
	}
	if f.cfg.Changed != nil {
		f.cfg.Changed(before, after, effect) // before other goroutines can use the new state
	}
	f.state.Store(n)
	f.setMark(mark{n.Epoch, n.Version})
	f.problem, f.outage = "", outage{}
	if effect.Record.Version > 0 {
		f.stats.Records++
		f.took = max(0, time.Since(time.UnixMilli(n.Time)))
	}
	close(f.applied)
	f.applied = make(chan struct{})
	return nil
}

// setMark writes the version in force to the folder, unless a later version was in force before.
func (f *Follower) setMark(m mark) {
	if f.disk == nil || m.Version == 0 || f.lostMark.after(m) {
		return
	}
	f.lostMark = mark{}
	f.disk.writeMark(m)
}

// localView returns the state's view with the settings of this machine.
func (f *Follower) localView(st *State) (*blocklist.View, error) {
	if s := f.salvaged; s != nil && s.Epoch == st.Epoch && s.Version > st.Version {
		st = s
	} else {
		f.salvaged = nil
	}
	if f.cfg.Refresh == nil {
		return st.view, nil
	}
	refreshed, err := f.cfg.Refresh(st.view)
	if err != nil {
		return nil, err
	}
	return refreshed.Suspend(st.Suspended), nil
}

// Refresh applies the settings of this machine to the view again.
func (f *Follower) Refresh() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.putInForce(f.State(), Effect{All: true, Incomplete: f.isIncomplete()})
}

// Wait waits until a version is completely in force here.
func (f *Follower) Wait(ctx context.Context, version uint64) error {
	return f.waitUntil(ctx, func() bool { return f.inForce() >= version })
}

// WaitForRecord waits until the record of a version was received; the snapshot that it announces may still be on its way.
func (f *Follower) WaitForRecord(ctx context.Context, version uint64) error {
	return f.waitUntil(ctx, func() bool { return f.State().Version >= version })
}

// waitUntil waits until condition returns true. It calls condition, with f.mu locked, each time a state is put in force.
func (f *Follower) waitUntil(ctx context.Context, condition func() bool) error {
	for {
		f.mu.Lock()
		done, applied := condition(), f.applied
		f.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-applied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *Follower) setProblem(problem string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setProblemLocked(problem)
}

// setProblemLocked stores a problem, and logs it if it differs from the current one. The caller holds f.mu.
func (f *Follower) setProblemLocked(problem string) {
	f.outage = outage{}
	if f.problem != problem {
		f.problem = problem
		f.log.Warn("control's changes do not arrive; the version in force stays", "why", problem)
	}
}

func (f *Follower) countRefused() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Refused++
}
